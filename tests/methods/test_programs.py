"""A network's program, traced or kept: the same maps."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from dscgan_jax.kept import store
from dscgan_jax.methods import network, programs


@pytest.fixture(scope="module")
def predictor():
    return network.Predictor.shipped()


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def scaled_maps(predictor, norm="per_slice"):
    like = network._one_call(predictor.preparation, 1)
    rng = np.random.default_rng(0)
    series = rng.integers(200, 1000, like.dsc.shape).astype(np.int16)
    batch = dataclasses.replace(
        like,
        dsc=series,
        dsc_scale=np.ones(1, np.float32),
        baseline_begin=np.zeros(1, np.int32),
        baseline_end=np.full(1, 8, np.int32),
        brain_signal=np.full(1, 600, np.float32),
        echo_seconds=np.full(1, 0.03, np.float32),
    )
    return np.asarray(programs.compiled(predictor.weights, norm, like)(predictor.weights.variables, batch))


def test_a_kept_program_gives_the_maps_of_the_layers(predictor, folder, monkeypatch):
    traced = scaled_maps(predictor)
    assert [path.suffix for path in folder.iterdir()] == [".program"]
    monkeypatch.setattr(programs, "_traced", None)  # whoever traces now fails
    np.testing.assert_array_equal(scaled_maps(predictor), traced)


def test_another_norm_is_another_program(predictor, folder):
    scaled_maps(predictor), scaled_maps(predictor, "running")
    assert len(list(folder.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no program", b"{}\nno program", b"\x80\x04K\x01."])  # the last is a pickle
def test_a_whole_file_that_is_no_program_is_made_again(predictor, folder, monkeypatch, content):
    traced = scaled_maps(predictor)
    monkeypatch.setattr(store, "read", lambda *_: content)
    np.testing.assert_array_equal(scaled_maps(predictor), traced)


def test_another_default_device_takes_no_kept_program(predictor, folder):
    with jax.default_device(jax.devices()[0]):
        scaled_maps(predictor)
    assert not folder.exists()


@pytest.mark.slow
def test_other_numbers_are_another_program(predictor, folder):
    scaled_maps(predictor)
    with jax.default_matmul_precision("highest"):
        scaled_maps(predictor)
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_program_is_made_again(predictor, folder):
    traced = scaled_maps(predictor)
    [path] = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    np.testing.assert_array_equal(scaled_maps(predictor), traced)
    assert path.read_bytes()[-100:] == whole[-100:]


def test_without_a_folder_it_is_traced(predictor, folder):
    traced = scaled_maps(predictor)
    jax.config.update("jax_compilation_cache_dir", None)
    np.testing.assert_array_equal(scaled_maps(predictor), traced)


@pytest.mark.slow
def test_a_start_that_finds_its_program_imports_no_flax(tmp_path):
    script = (
        f"import jax, sys; jax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r}); "
        "from dscgan_jax.methods.network import Predictor; Predictor.load().compile(); print('flax' in sys.modules)"
    )

    def start() -> str:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    assert [start(), start()] == ["True", "False"]
