"""A work directory belongs to one run: what a kill left is no obstacle, another run is."""

import errno
import fcntl

import pytest

from dscgan_jax.configs import temp_tmax
from dscgan_jax.errors import InputError
from dscgan_jax.training import workdir as module
from dscgan_jax.training.workdir import LOCK_FILE, check_workdir, only_run, write_config


@pytest.mark.parametrize(
    "left",
    [
        {},
        {".config.json.99999999.partial": "{"},
        {"config.json": ""},
        {"config.json": "[1"},
        {"config.json": "3", ".config.json.99999999.partial": '{"seed'},
    ],
)
def test_what_a_kill_left_of_the_config_is_no_obstacle_while_no_checkpoint_is_finished(tmp_path, left):
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-17").mkdir(parents=True)
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    config = temp_tmax.get_config("demo")
    check_workdir(tmp_path, config)
    write_config(tmp_path, config)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "config.json"}
    check_workdir(tmp_path, config)


@pytest.mark.parametrize(("text", "words"), [(None, "no config.json"), ("{", "damaged"), ("3", "damaged")])
def test_finished_checkpoints_without_a_readable_config_stay_an_error(tmp_path, text, words):
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        check_workdir(tmp_path, temp_tmax.get_config("demo"))


def test_a_lock_keeps_others_out_until_it_is_released_and_nests(tmp_path):
    workdir = tmp_path / "run"
    held = only_run(workdir), only_run(workdir)
    with held[0], held[1], (workdir / LOCK_FILE).open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not workdir.exists()  # nothing came into it
    workdir.mkdir()
    with (workdir / LOCK_FILE).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="a run is going on here"), only_run(workdir):
            pass
    with only_run(workdir):
        pass
    assert list(workdir.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_in_that_moment_is_no_lock(tmp_path, monkeypatch):
    """Another run ends between opening and locking: it removes its file, and a new one must be locked."""
    real = fcntl.flock

    def flock(file, how):
        monkeypatch.setattr(module.fcntl, "flock", real)
        (tmp_path / LOCK_FILE).unlink()
        real(file, how)

    monkeypatch.setattr(module.fcntl, "flock", flock)
    with only_run(tmp_path), (tmp_path / LOCK_FILE).open("a") as other, pytest.raises(BlockingIOError):
        real(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with only_run(tmp_path):
        assert (tmp_path / LOCK_FILE).is_file()
