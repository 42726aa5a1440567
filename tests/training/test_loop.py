"""A run that was killed and started again equals one that was not; a run that fails leaves its last good checkpoint."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import runs

from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import physics, temp_tmax
from dscgan_jax.data import batches
from dscgan_jax.errors import Ended, InputError
from dscgan_jax.models import networks
from dscgan_jax.phantom import cohort
from dscgan_jax.training import checkpoints, loop, memory, steps, tracking
from dscgan_jax.training.workdir import LOCK_FILE


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    root = tmp_path_factory.mktemp("exams") / "root"
    cohort.write_cohort(root, preset="acute", subjects=4, seed=3, size=32, slices=3, split_fractions=(0.5, 0.25, 0.25))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def fields(exams, cache, **changes):
    return {**runs.QUICK, "data.root": str(exams), "data.cache_dir": str(cache), **changes}


def config_of(exams, cache, **changes):
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(fields(exams, cache, **changes))
    return config


def start(exams, cache, workdir, before="", **changes):
    """A training process of its own, which does `before` first."""
    settings = json.dumps(fields(exams, cache, **changes))
    return subprocess.Popen(
        [sys.executable, "-c", before + runs.DRIVER, settings, str(workdir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err


def weights(workdir):
    step = checkpoints.choose_step(workdir, "latest")
    config = config_of("", "", **json_fields(workdir))
    _, like = networks.abstract_generator(config.model, config.data.frames, len(config.target))
    return step, checkpoints.load_generator(workdir, step, like)


def json_fields(workdir):
    model = json.loads((workdir / "config.json").read_text())["model"]
    return {f"model.{name}": value for name, value in model.items()}


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(exams, cache, tmp_path):
    long = {"train.steps": 20, "train.checkpoint_every_epochs": 1.0}  # 6 training slices: a checkpoint every 2 steps
    finish(start(exams, cache, tmp_path / "whole", **long))
    killed_at = 7
    process = start(exams, cache, tmp_path / "killed", **long)
    rows = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if rows.is_file() and rows.read_text().count('"loss_g"') >= killed_at:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    finish(start(exams, cache, tmp_path / "killed", **long))

    assert rows.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes(), f"killed at row {killed_at}"
    (step_whole, whole), (step_killed, killed) = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert step_whole == step_killed == 20
    jax.tree.map(np.testing.assert_array_equal, whole, killed)


# Stops for good where it stands, so that a kill hits that moment.
HOLD = """
import pathlib, time
def hold(*_, **__):
    pathlib.Path(sys.argv[2], "held").touch()
    time.sleep(300)
"""
AT_THE_FIRST_CHECKPOINT_FOLDER = HOLD + "from dscgan_jax.training import loop as t; t.state.create = hold\n"
BEFORE_ANY_CHECKPOINT_FOLDER = HOLD + "from dscgan_jax.training import loop as t; t.Checkpoints = hold\n"


def killed_where(moment, exams, cache, workdir, **changes):
    """A training process, killed where `moment` holds it."""
    process = start(exams, cache, workdir, before="import sys\n" + moment, **changes)
    deadline = time.monotonic() + 240
    while not (workdir / "held").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, out + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "folder_is_there"), [(AT_THE_FIRST_CHECKPOINT_FOLDER, True), (BEFORE_ANY_CHECKPOINT_FOLDER, False)]
)
def test_a_run_that_was_killed_before_its_first_checkpoint_is_started_again(
    exams, cache, tmp_path, moment, folder_is_there
):
    workdir = tmp_path / "run"
    killed_where(moment, exams, cache, workdir, **{"train.steps": 2})
    assert (workdir / "checkpoints").is_dir() == folder_is_there and (workdir / "config.json").is_file()
    assert (workdir / LOCK_FILE).is_file()  # which nobody holds any more
    config = config_of(exams, cache, **{"train.steps": 2})
    loop.train(config, workdir, *prepare(config))
    assert checkpoints.choose_step(workdir, "latest") == 2
    assert not (workdir / LOCK_FILE).exists()


@pytest.mark.slow
def test_a_second_run_is_refused_and_does_not_disturb_the_first(exams, cache, tmp_path):
    """The first is a process of its own and rests after its second row; the second is refused; the first ends."""
    workdir = tmp_path / "run"
    resting = """
import pathlib, sys, time
from dscgan_jax.training import tracking
real = tracking.Tracker.log
def log(self, step, values):
    real(self, step, values)
    while step == 2 and not pathlib.Path(sys.argv[2], "go").exists():
        pathlib.Path(sys.argv[2], "held").touch()
        time.sleep(0.01)
tracking.Tracker.log = log
"""
    first = start(exams, cache, workdir, before=resting, **{"train.steps": 4})
    deadline = time.monotonic() + 240
    while not (workdir / "held").is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    before = runs.snapshot(workdir)
    config = config_of(exams, cache, **{"train.steps": 4})
    with pytest.raises(InputError) as told:
        loop.train(config, workdir, *prepare(config))
    for word in (
        str(workdir),
        socket.gethostname(),
        f"process {first.pid}",
        time.strftime("since %Y-%m-%d"),
        "--workdir",
    ):
        assert word in str(told.value)
    assert "\n" not in str(told.value)
    assert runs.snapshot(workdir) == before
    (workdir / "go").touch()
    finish(first)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss_g" in row] == [1, 2, 3, 4]
    loop.train(config, workdir, *prepare(config))  # finished, so nobody has it any more


@pytest.mark.slow
def test_more_steps_continue_a_finished_run_wherever_the_slices_are_kept(exams, cache, tmp_path):
    def run(workdir, n_steps, **changes):
        config = config_of(exams, cache, **{"train.steps": n_steps, "train.decay": "constant", **changes})
        said = []
        loop.train(config, tmp_path / workdir, *prepare(config), tell=said.append)
        return said[-1]

    assert "6 in memory" in run("whole", 4)
    assert "6 on each device" in run("halves", 2, **{"data.on_device": "always"})
    assert "6 on disk" in run("halves", 4, **{"data.memory_mib": 0})
    jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / "whole")[1], weights(tmp_path / "halves")[1])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    exams, cache, tmp_path, monkeypatch
):
    config = config_of(exams, cache, **{"train.steps": 8, "train.checkpoint_every_epochs": 1.0})
    real_step = steps.train_step

    def poisoned(state, batch, **how):
        new, scalars = real_step(state, batch, **how)
        return new, {**scalars, "loss_g": jax.numpy.where(new.step >= 5, jax.numpy.nan, scalars["loss_g"])}

    monkeypatch.setattr(steps, "train_step", poisoned)
    with pytest.raises(FloatingPointError, match="loss_g"):
        loop.train(config, tmp_path / "run", *prepare(config))
    assert checkpoints.choose_step(tmp_path / "run", "latest") == 4


def ended(config, workdir, monkeypatch, step, number):
    """A run that is sent a signal within a step."""
    real = tracking.Tracker.log

    def log(self, at, values):
        real(self, at, values)
        if at == step and "loss_g" in values:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(tracking.Tracker, "log", log)
        with pytest.raises(Ended) as told:
            loop.train(config, workdir, *prepare(config))
    return told.value


def ended_in_validation(config, workdir, monkeypatch):
    """A run that is sent a signal during its next validation."""
    real = loop.Validation._batches

    def interrupted(self, shared):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from real(self, shared)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Validation, "_batches", interrupted)
        with pytest.raises(Ended, match="is saved"):
            loop.train(config, workdir, *prepare(config))


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_saves_its_step_and_goes_on_bit_for_bit(exams, cache, tmp_path, monkeypatch):
    config = config_of(exams, cache, **{"train.steps": 7, "train.keep_checkpoints": 1})  # a checkpoint every 2 steps
    loop.train(config, tmp_path / "whole", *prepare(config))
    workdir = tmp_path / "ended"
    for step, number in ((3, signal.SIGTERM), (6, signal.SIGINT)):
        told = ended(config, workdir, monkeypatch, step, number)
        assert told.number == number and f"step {step} of 7 is saved" in str(told)
        # Of step 6 the row is there; the validation, which may take minutes, is left to the run that goes on.
        assert checkpoints.choose_step(workdir, "latest") == {3: 2, 6: 4}[step]
        assert [path.name for path in workdir.glob("stopped/*")] == [str(step)]
    ended_in_validation(config, workdir, monkeypatch)  # of step 6 once more
    said = []
    loop.train(config, workdir, *prepare(config), tell=said.append)
    assert "from step 6 of 7" in said[0]
    for folder in (tmp_path / "whole", workdir):
        assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == {
            "checkpoints",
            "config.json",
            "metrics.jsonl",
            "samples",
        }
    assert (workdir / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    kept = [sorted(path.name for path in (one / "checkpoints").iterdir()) for one in (tmp_path / "whole", workdir)]
    assert kept[0] == kept[1]
    jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / "whole")[1], weights(workdir)[1])


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_with_those_that_feed_it_keeps_the_step_before(exams, cache, tmp_path, monkeypatch):
    config = config_of(exams, cache, **{"train.steps": 5})
    real = loop.data_feed

    def ended_with_us(*arguments):
        feed = real(*arguments)
        yield from (next(feed), next(feed), next(feed))
        os.kill(os.getpid(), signal.SIGTERM)
        raise InputError("the process that draws has ended")

    monkeypatch.setattr(loop, "data_feed", ended_with_us)
    with pytest.raises(Ended, match="step 3 of 5 is saved"):
        loop.train(config, tmp_path / "run", *prepare(config))


@pytest.mark.slow
def test_a_batch_that_spoils_a_loss_is_named_at_its_step(exams, cache, tmp_path, monkeypatch):
    """The host logs every fourth step alone, the second one spoils the loss, and the third is not waited for."""
    config = config_of(exams, cache, **{"train.steps": 8, "train.log_every_steps": 4})
    config.train.checkpoint_every_epochs = 3.0
    real_step = steps.train_step

    def poisoned(state, batch, **how):
        new, scalars = real_step(state, batch, **how)
        bad = jax.numpy.where(new.step >= 2, jax.numpy.nan, 0.0)
        return new, {**scalars, "loss_l1": scalars["loss_l1"] + bad, "loss_g": scalars["loss_g"] + bad}

    monkeypatch.setattr(steps, "train_step", poisoned)
    builder, data = prepare(config)
    with pytest.raises(FloatingPointError, match="loss_g is nan, loss_l1 is nan at step 2, whose batch holds") as told:
        loop.train(config, tmp_path / "run", builder, data)
    names = [builder.as_data_source("train")[int(one)] for one in batches.BatchOrder(config.seed, 6, 4)(1)]
    for subject, number in {(one["subject"].decode(), int(one["slice_index"])) for one in names}:
        assert re.search(rf"{subject} \(slices? [\d, ]*{number}", str(told.value))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_not_saved(exams, cache, tmp_path, monkeypatch):
    config = config_of(exams, cache, **{"train.steps": 4})
    real_step = steps.train_step

    def poisoned(state, batch, **how):
        new, scalars = real_step(state, batch, **how)
        spoilt = jax.tree.map(
            lambda leaf: jax.numpy.where(new.step >= 4, jax.numpy.nan, leaf), new.discriminator["params"]
        )
        return new.replace(discriminator={**new.discriminator, "params": spoilt}), scalars

    monkeypatch.setattr(steps, "train_step", poisoned)
    with pytest.raises(FloatingPointError, match="the discriminator: not finite after step 4"):
        loop.train(config, tmp_path / "run", *prepare(config))
    assert checkpoints.choose_step(tmp_path / "run", "latest") == 2


@pytest.mark.slow
def test_a_run_does_not_continue_on_other_exams(exams, cache, tmp_path):
    config = config_of(exams, cache, **{"train.steps": 2})
    builder, data = prepare(config)
    loop.train(config, tmp_path / "run", builder, data)
    others = dataclasses.replace(data, splits={**data.splits, "sub-9999": "train"})
    with pytest.raises(InputError, match="other splits"):
        loop.train(config, tmp_path / "run", builder, others)


@pytest.mark.slow
def test_the_last_and_the_best_checkpoint_are_kept(exams, cache, tmp_path):
    config = config_of(
        exams,
        cache,
        **{"train.steps": 10, "train.keep_checkpoints": 1, "train.learning_rate": 0.02, "train.decay": "constant"},
    )
    loop.train(config, tmp_path / "run", *prepare(config))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = {row["step"]: row["validation_error"] for row in rows if "validation_error" in row}
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == sorted({10, min(errors, key=errors.get)})
    assert checkpoints.choose_step(tmp_path / "run", "best") == min(errors, key=errors.get)
    with pytest.raises(InputError, match="best or latest"):
        checkpoints.choose_step(tmp_path / "run", "7")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named(exams, cache, tmp_path):
    config = config_of(exams, cache, **{"train.steps": 2})
    loop.train(config, tmp_path / "run", *prepare(config))
    for path in (tmp_path / "run" / "checkpoints" / "2" / "discriminator").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(InputError, match="checkpoints/2 cannot be read"):
        loop.train(config_of(exams, cache, **{"train.steps": 4}), tmp_path / "run", *prepare(config))


@pytest.mark.slow
def test_a_step_that_needs_more_memory_than_the_machine_has_is_refused_before_it_is_tried(
    exams, cache, tmp_path, monkeypatch
):
    config = config_of(exams, cache, **{"train.steps": 2})
    builder, data = prepare(config)
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 300)  # a machine of 300 pages of 300 bytes
    with pytest.raises(InputError, match=r"out of memory at config\.train\.batch_size=4"):
        loop.train(config, tmp_path / "run", builder, data)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_rough_hours_follow_the_number_of_steps(exams, cache):
    short, long = config_of(exams, cache, **{"train.steps": 10}), config_of(exams, cache, **{"train.steps": 100_000})
    assert 0 < loop.rough_hours(short, 6) < loop.rough_hours(long, 6)


@pytest.mark.slow
def test_a_run_on_exams_drawn_beside_it_continues_as_if_never_stopped(cache, tmp_path):
    def run(workdir, n_steps):
        config = physics.get_config("demo")
        config.update_from_flattened_dict(
            {
                "data.cache_dir": str(cache),
                "data.size": 32,
                "data.split_fractions": (0.5, 0.25, 0.25),
                "phantom.subjects": 4,
                "phantom.size": 32,
                "phantom.slices": 2,
                "phantom.drawn_beside": 4,
                "model.width": 4,
                "model.depth": 2,
                "train.crop": 0,
                "train.steps": n_steps,
                "train.decay": "constant",
                "train.log_every_steps": 1,
            }
        )
        said = []
        loop.train(config, tmp_path / workdir, *prepare(config), tell=said.append)
        return said[-1], (tmp_path / workdir / "metrics.jsonl").read_text()

    said, whole = run("whole", 4)
    assert "of 4 exams, drawn into" in said
    run("halves", 2)
    halves = run("halves", 4)[1]
    assert [row for row in halves.splitlines() if "loss" in row] == [row for row in whole.splitlines() if "loss" in row]
    last = json.loads(whole.splitlines()[-1])
    assert {f"validation_brain_mae_{name}" for name in physics.MAP_NAMES} <= set(last)
