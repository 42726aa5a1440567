"""Exams that are drawn beside a run: the same slices whoever draws them, and no endless waiting."""

import ast
import dataclasses
import multiprocessing
import os
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy

from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.errors import InputError
from dscgan_jax.phantom import drawn, exam
from dscgan_jax.phantom.drawn import Drawing, DrawnExams

SETTINGS = PreparationSettings(32, 0, 64, "seconds", 1.25, "hold", 12.0, "none", "zero")
DRAWING = Drawing("varied", 3, 48, 3, SETTINGS, 10)


class NoProcess:
    """Stands for the processes, where the exams are there or shall not come."""

    def __init__(self, **_):
        pass

    def start(self):
        pass

    def is_alive(self):
        return False


@pytest.fixture
def alone(monkeypatch):
    """No process draws."""
    context = type("Context", (), {"Process": NoProcess})
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)


def test_a_slice_comes_back_as_it_was_prepared(tmp_path, alone):
    drawn.draw(DRAWING, tmp_path, [5])
    prepared = DRAWING.prepared(5)
    kept = np.flatnonzero(prepared.mask.mean(axis=(1, 2)) >= drawn.LEAST_BRAIN)
    exams = DrawnExams(DRAWING, tmp_path, 5, 1)
    for place, number in enumerate(kept):
        one = exams.slice_of(0, (place + 0.5) / len(kept))
        np.testing.assert_array_equal(one["dsc"], prepared.dsc[number])
        np.testing.assert_array_equal(one["maps"], prepared.maps[number])
        np.testing.assert_array_equal(one["mask"], prepared.mask[number])
        assert one["baseline_end"] == prepared.baseline_end and one["dsc_scale"] == np.float32(prepared.dsc_scale)
        assert one["has_map"].all()


def test_of_many_slices_some_are_kept_the_same_ones_each_time(tmp_path, alone):
    drawing = dataclasses.replace(DRAWING, slices_kept=2)
    assert drawing.most_slices == 2
    prepared = drawing.prepared(5)
    for _ in range(2):
        drawn.draw(drawing, tmp_path, [5])
        kept = DrawnExams(drawing, tmp_path, 5, 1).slices_of(0)
        assert len(kept) == 2
        places = [next(n for n, dsc in enumerate(prepared.dsc) if np.array_equal(dsc, one["dsc"])) for one in kept]
        assert places == sorted(set(places))
        (tmp_path / "exam-000005.safetensors").rename(tmp_path / "before.safetensors")
    again = drawn._packed(prepared, 2, 5)
    before = safetensors.numpy.load_file(tmp_path / "before.safetensors")
    np.testing.assert_array_equal(before["dsc1"], again["dsc1"])


def test_an_exam_has_no_more_pixels_than_the_network_grid_nor_too_few_for_a_head(monkeypatch):
    asked = []

    def draw_phantom(*_, **more):
        asked.append(more["largest"])
        raise InputError("enough")

    monkeypatch.setattr(drawn, "draw_phantom", draw_phantom)
    for size in (48, 16):
        small = dataclasses.replace(DRAWING, size=0, settings=dataclasses.replace(SETTINGS, size=size))
        with pytest.raises(InputError, match="enough"):
            small.prepared(5)
    assert asked == [48, 32]
    assert exam.draw_phantom("varied", (3, 5), size=0, slices=1, largest=40).series.shape[:2] == (40, 40)


@pytest.mark.slow
def test_processes_draw_what_is_missing_and_end(tmp_path):
    small = dataclasses.replace(DRAWING, slices=1, size=32)
    exams = DrawnExams(small, tmp_path, 7, 2)
    waited = exams.slice_of(1, 0.0)
    for process in exams._processes:
        process.join(60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exam-000007.safetensors", "exam-000008.safetensors"]
    np.testing.assert_array_equal(DrawnExams(small, tmp_path, 7, 2).slice_of(1, 0.0)["dsc"], waited["dsc"])


def test_processes_that_draw_have_one_thread_each_and_no_accelerator(tmp_path, monkeypatch):
    seen = []

    class Watched(NoProcess):
        def start(self):
            seen.append({name: os.environ.get(name) for name in drawn.ONE_EACH})

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: type("Context", (), {"Process": Watched}))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    DrawnExams(DRAWING, tmp_path, 0, 2, processes=2)
    assert seen == [drawn.ONE_EACH] * 2
    assert os.environ["OMP_NUM_THREADS"] == "7" and "JAX_PLATFORMS" not in os.environ


def test_an_exam_that_the_program_would_not_take_stands_for_the_next(tmp_path, alone):
    safetensors.numpy.save_file(drawn._packed(None, 3, 0), tmp_path / "exam-000004.safetensors")
    drawn.draw(DRAWING, tmp_path, [5])
    exams = DrawnExams(DRAWING, tmp_path, 4, 2)
    np.testing.assert_array_equal(exams.slice_of(0, 0.0)["dsc"], exams.slice_of(1, 0.0)["dsc"])
    safetensors.numpy.save_file(drawn._packed(None, 3, 0), tmp_path / "exam-000005.safetensors")
    with pytest.raises(InputError, match="none of 2 drawn exams can be used"):
        exams.slice_of(1, 0.0)


def test_reading_an_exam_parses_no_python_for_which_threads_would_get_in_one_anothers_way(tmp_path, alone, monkeypatch):
    drawn.draw(DRAWING, tmp_path, [5])
    monkeypatch.setattr(ast, "parse", mock.Mock(side_effect=SystemError("AST constructor recursion depth mismatch")))
    assert DrawnExams(DRAWING, tmp_path, 5, 1).slice_of(0, 0.0)["has_map"].all()


def test_a_damaged_exam_is_named(tmp_path, alone):
    drawn.draw(DRAWING, tmp_path, [5])
    path = tmp_path / "exam-000005.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"exam-000005\.safetensors: the drawn exam is damaged .*remove it"):
        DrawnExams(DRAWING, tmp_path, 5, 1).slice_of(0, 0.0)


def test_nobody_waits_for_an_exam_that_will_not_come(tmp_path, alone):
    with pytest.raises(InputError, match="has ended before it was there"):
        DrawnExams(DRAWING, tmp_path, 0, 1).slice_of(0, 0.0)


def test_what_a_killed_process_left_is_swept_and_what_another_one_writes_is_not(tmp_path, alone):
    left, written = tmp_path / ".exam-000001.safetensors.11", tmp_path / ".exam-000002.safetensors.12"
    for path in (left, written):
        path.touch()
    os.utime(left, (0, 0))
    DrawnExams(DRAWING, tmp_path, 0, 1)
    assert not left.exists() and written.exists()


def test_another_setting_has_another_folder(tmp_path):
    folders = {
        one.folder(tmp_path).name
        for one in (DRAWING, dataclasses.replace(DRAWING, seed=4), dataclasses.replace(DRAWING, size=64))
    }
    assert len(folders) == 3 and DRAWING.folder(tmp_path).name in folders


def test_an_exam_without_a_bolus_is_none(monkeypatch):
    def still(*arguments, **named):
        phantom = real(*arguments, **named)
        return dataclasses.replace(phantom, series=np.repeat(phantom.series[..., :1], phantom.series.shape[3], axis=3))

    real = drawn.draw_phantom
    monkeypatch.setattr(drawn, "draw_phantom", still)
    assert DRAWING.prepared(5) is None
