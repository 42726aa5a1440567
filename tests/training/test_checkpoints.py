"""A checkpoint that is not what was written is refused by name, and costs no other one."""

import shutil

import jax
import numpy as np
import pytest
import runs

from dscgan_jax import digests
from dscgan_jax.configs import temp_tmax
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.training import checkpoints, state
from dscgan_jax.training.record import CheckpointRecord


@pytest.fixture(scope="module")
def begun():
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(runs.QUICK)
    scaling = Scaling("relative", Limits(0.0, 2.0), ("tmax",), (Limits(0.0, 12.0),), True)
    record = CheckpointRecord(config, scaling, DataRecord("phantom exams", "0123"), {})
    how = {"frames": config.data.frames, "n_targets": 1, "seed": 0, "total_steps": 6}
    return state.create(config.model, config.train, **how)[2], record


@pytest.fixture
def run(begun, tmp_path):
    kept, (state_, record) = checkpoints.Checkpoints(tmp_path), begun
    for step, error in ((2, 0.2), (4, 0.4)):  # the first is the best
        kept.save(state_.replace(step=state_.step + step), record, error)
    kept.close()
    return tmp_path


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def read(run, begun, step):
    kept = checkpoints.Checkpoints(run)
    try:
        kept.record(step)
        return kept.restore(step, begun[0])
    finally:
        kept.close()


@pytest.mark.slow
def test_one_bit_of_any_file_is_noticed_before_it_is_used(run, begun):
    folder = run / "checkpoints" / "4"
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file() and path.suffix != ".txt"][::2]
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        spoil(path)
        if path.parent.name == "metrics":  # decides which is the best
            with pytest.raises(InputError, match="not what was written"):
                checkpoints.choose_step(run, "best")
        else:
            with pytest.raises(InputError, match=f"{folder} cannot be read.*{path.name} is not what was written"):
                read(run, begun, 4)
        read(run, begun, 2)
        path.write_bytes(whole)
    restored = read(run, begun, 4)
    jax.tree.map(np.testing.assert_array_equal, restored.generator, begun[0].generator)


def test_prediction_compares_what_it_reads_and_no_more(run, begun):
    like = begun[0].generator
    spoil(next(path for path in (run / "checkpoints" / "2" / "optimisers" / "d").iterdir()))
    checkpoints.load_generator(run, checkpoints.choose_step(run), like)
    spoil(next(path for path in (run / "checkpoints" / "2" / "generator" / "d").iterdir()))
    with pytest.raises(InputError, match="not what was written"):
        checkpoints.load_generator(run, 2, like)


def test_digests_are_there_as_soon_as_a_checkpoint_is_listed_and_without_them_it_is_read(run, begun):
    for step in (2, 4):
        noted = run / "checkpoints" / str(step) / digests.NAME
        assert noted.is_file()
        noted.unlink()  # as of an older version
        read(run, begun, step)


def test_what_cannot_even_be_listed_is_one_line(run):
    metrics = run / "checkpoints" / "4" / "metrics" / "metrics"
    metrics.unlink()
    metrics.mkdir()
    with pytest.raises(InputError, match=f"{run / 'checkpoints'}: the checkpoints cannot be listed"):
        checkpoints.choose_step(run)


def test_a_run_whose_folder_was_removed_does_not_begin_another_one_in_it(run, begun):
    kept, (state_, record) = checkpoints.Checkpoints(run), begun
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="was removed while the run went on"):
        kept.save(state_.replace(step=state_.step + 6), record, 0.1)
    kept.close()
    assert not (run / "checkpoints").exists()


def test_the_checkpoint_of_a_run_that_was_asked_to_end_has_digests_too(run, begun):
    kept, (state_, record) = checkpoints.Checkpoints(run), begun
    kept.save_stopped(state_.replace(step=state_.step + 5), record)
    kept.close()
    read(run, begun, 5)
    spoil(next((run / "stopped" / "5" / "generator" / "d").iterdir()))
    with pytest.raises(InputError, match="not what was written"):
        read(run, begun, 5)


def test_a_checkpoint_that_is_half_removed_is_no_step_and_is_removed_by_the_next_run(begun, tmp_path, monkeypatch):
    state_, record = begun
    with monkeypatch.context() as killed:
        killed.setattr(checkpoints.Checkpoints, "_remove_deleted", lambda self: None)
        kept = checkpoints.Checkpoints(tmp_path, keep=1)
        for step, error in ((2, 0.2), (4, 0.4), (6, 0.3)):  # the first is the best, so that 4 goes
            kept.save(state_.replace(step=state_.step + step), record, error)
        kept.close()
    removed = tmp_path / checkpoints.FOLDER / checkpoints.DELETED
    assert [path.name for path in removed.iterdir()] == ["4"]
    shutil.rmtree(removed / "4" / "generator")
    with pytest.raises(InputError, match="holds the steps 2, 6"):
        checkpoints.choose_step(tmp_path, "4")
    assert removed.is_dir()  # a reader changes nothing
    checkpoints.Checkpoints(tmp_path, keep=1).close()
    assert not removed.exists() and checkpoints.choose_step(tmp_path) == 2


def test_damage_beside_the_checkpoints_names_the_folder_it_is_in(run):
    shutil.copytree(run / "checkpoints", run / "stopped")
    (run / "stopped" / "4" / "metrics" / "metrics").write_bytes(b"\xff{")
    with pytest.raises(InputError, match=f"{run / 'stopped'}: the checkpoints cannot be listed"):
        checkpoints.Checkpoints(run)
