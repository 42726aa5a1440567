"""Several devices and processes train as one would; errors are one line, before anything long starts."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
import runs

from dscgan_jax.app import start
from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import temp_tmax
from dscgan_jax.errors import InputError
from dscgan_jax.phantom import cohort as phantom_exams
from dscgan_jax.training import distributed, loop, sharding

pytestmark = pytest.mark.slow

STEPS = 4
# Sums over devices are taken in another order: a few units in the last place of float32 (1.2e-7), which four small
# steps of Adam leave so. A lost or doubled slice would move the losses by more than 1e-3.
RTOL = 1e-5

# What compiles quickly (runs.QUICK): that the temporal network is the same on several devices is seen in test_sharding.
QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# The command line, and in the same process, which saves a second start, the same run with more steps.
TWICE = """
import pathlib, sys
from dscgan_jax import main
try:
    main.entry()
except SystemExit as end:
    if end.code:
        raise
from dscgan_jax.app import train
config = main.read_config()
config.train.steps += 2
train.run(config, pathlib.Path("two"))
"""


def fields(world, **changes):
    """8 slices a step, of which 8 devices take one each; one checkpoint, at the last step."""
    return {
        **runs.QUICK,
        "data.root": str(world / "exams"),
        "data.cache_dir": str(world / "cache"),
        "train.steps": STEPS,
        "train.batch_size": 8,
        "train.checkpoint_every_epochs": 1000.0,
        **changes,
    }


def started(world, line, devices):
    """A process of its own with virtual devices."""
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=world,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK_COMPILER}",
        },
    )


def free_port():
    """Below the ports that systems hand out by themselves, and another one for each process of tests."""
    for port in range(20_000 + os.getpid() % 10_000, 30_100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def rows(workdir, kind="loss_g"):
    """Rows of metrics.jsonl that hold something, by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in lines if kind in row}


def assert_same(mine, others, steps):
    for step in steps:
        assert mine[step].keys() == others[step].keys()
        np.testing.assert_allclose(list(mine[step].values()), list(others[step].values()), rtol=RTOL, err_msg=str(step))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All runs: `one` on one device; `two` in two processes with two devices each, interrupted after the second step;
    `eight` on eight devices until the third step, from which `eight-one` goes on with one."""
    folder = tmp_path_factory.mktemp("distributed")
    phantom_exams.write_cohort(
        folder / "exams", preset="acute", subjects=4, seed=3, size=32, slices=3, split_fractions=(0.5, 0.25, 0.25)
    )
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(fields(folder))
    start.set_up(config)
    prepared = prepare(config)

    eight = {"train.steps": STEPS - 1, "train.decay": "constant"}
    port = free_port()
    line = [
        "--config=configs/temp_tmax.py:demo",
        *[
            f"--config.{name}={value}"
            for name, value in fields(
                folder, **{"train.decay": "constant", "train.steps": STEPS - 2, "data.on_device": "always"}
            ).items()
        ],
        "--workdir=two",
    ]
    processes = [
        started(
            folder,
            [
                sys.executable,
                "-c",
                TWICE,
                f"--coordinator=127.0.0.1:{port}",
                "--processes=2",
                f"--process={index}",
                *line,
            ],
            2,
        )
        for index in range(2)
    ]
    processes.append(
        started(
            folder, [sys.executable, "-c", runs.DRIVER, json.dumps(fields(folder, **eight)), str(folder / "eight")], 8
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sharding,
            "data_mesh",
            lambda: jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]),
        )
        config.train.decay = "constant"
        loop.train(config, folder / "one", *prepared)
        told = [process.communicate(timeout=300) for process in processes]
        assert not any(process.returncode for process in processes), "\n".join(part for parts in told for part in parts)
        shutil.copytree(folder / "eight", folder / "eight-one")
        loop.train(config, folder / "eight-one", *prepared)  # resumes with one device
    return folder, told


def test_two_processes_train_and_resume_to_the_losses_of_one(world):
    folder, told = world
    assert "resuming" in told[0][0] and f"from step 2 of {STEPS}" in told[0][0]
    assert_same(rows(folder / "two"), rows(folder / "one"), range(1, STEPS + 1))
    assert rows(folder / "two").keys() == set(range(1, STEPS + 1))
    validated = [rows(folder / workdir, "validation_error") for workdir in ("two", "one")]
    assert_same(*validated, [STEPS])


def test_one_process_speaks_for_all(world):
    folder, told = world
    (lead, _), (peer, peer_error), _ = told
    assert f"{STEPS} steps of 8 slices on 4 x cpu of 2 processes" in lead and "on each device" in lead
    assert "test: 1 subjects" in lead and (folder / "two" / "report.html").is_file()
    assert [line for line in peer.splitlines() if "[Gloo]" not in line] == [] and peer_error == ""
    assert len(list((folder / "two").glob("events.*"))) == 2  # one for each start
    assert not list((folder / "two").glob(".*"))


def test_eight_devices_train_to_the_losses_of_one(world):
    assert_same(rows(world[0] / "eight"), rows(world[0] / "one"), range(1, STEPS))


def test_a_checkpoint_of_eight_devices_goes_on_with_one(world):
    """Its next step is that of the run that never stopped."""
    assert_same(rows(world[0] / "eight-one"), rows(world[0] / "one"), [STEPS])
    assert rows(world[0] / "eight-one").keys() == set(range(1, STEPS + 1))


def test_a_lost_slice_would_be_found_out(world):
    """Other slices, as the next batch has them, are far from within the tolerance."""
    losses = rows(world[0] / "one")
    assert abs(losses[1]["loss_l1"] - losses[2]["loss_l1"]) > 100 * RTOL * losses[1]["loss_l1"]


def test_four_devices_can_reduce():
    distributed.check_devices_reduce(sharding.data_mesh())
    assert distributed._sum_of_numbers(sharding.data_mesh()) == 10


def test_devices_that_add_up_wrongly_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "_sum_of_numbers", lambda mesh: 6)
    with pytest.raises(
        InputError, match=r"all-reduce across the 4 cpu devices of 1 processes gave 6 instead of 10\. Look at"
    ):
        distributed.check_devices_reduce(sharding.data_mesh())


def test_devices_that_hang_are_given_up(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(distributed, "_sum_of_numbers", lambda mesh: never.wait())
    with pytest.raises(distributed.Stuck, match=r"did not finish within 0\.2 s\. Look at"):
        distributed.check_devices_reduce(sharding.data_mesh(), timeout_seconds=0.2)
    never.set()


def test_devices_that_refuse_are_told_in_one_line(monkeypatch):
    def refuse(mesh):
        raise jax.errors.JaxRuntimeError("INTERNAL: no route\nto host")

    monkeypatch.setattr(distributed, "_sum_of_numbers", refuse)
    with pytest.raises(InputError, match=r"failed: INTERNAL: no route\. Look at"):
        distributed.check_devices_reduce(sharding.data_mesh())


def test_peers_end_where_the_lead_has_failed(monkeypatch):
    monkeypatch.setattr(distributed, "is_lead", lambda: False)
    monkeypatch.setattr(distributed, "everywhere", lambda fact: False)
    with pytest.raises(InputError, match="process 0 could not go on"):
        distributed.lead_first("anything", lambda: 5)


def test_a_process_with_another_config_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "_gathered", lambda digest: np.stack([digest, digest, digest + 1]))
    with pytest.raises(InputError, match="process 2 was started with another config"):
        distributed.check_same_everywhere("anything")


def test_a_folder_that_a_process_does_not_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "_gathered", lambda values: values[None])
    monkeypatch.setattr(distributed, "barrier", lambda name: None)
    distributed.check_shared(tmp_path / "run")  # the lead sees what it wrote
    monkeypatch.setattr(distributed, "is_lead", lambda: False)
    with pytest.raises(InputError, match="run is not the same folder for all processes"):
        distributed.check_shared(tmp_path / "run")  # another lead wrote elsewhere
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"processes": 2}, "need --coordinator=HOST:PORT, --processes=N and --process=I together"),
        ({"coordinator": "node1", "processes": 2, "process": 0}, "expected HOST:PORT"),
        ({"coordinator": "node1:99999", "processes": 2, "process": 0}, "expected HOST:PORT"),
        ({"coordinator": "node1:29400", "processes": 2, "process": 2}, "below their number"),
        ({"automatic": True, "processes": 2}, "leave them out"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        distributed.initialize(
            **{"automatic": False, "coordinator": None, "processes": None, "process": None, **values}
        )


def test_a_port_that_is_taken_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be opened here"):
            distributed.initialize(automatic=False, coordinator=f"127.0.0.1:{port}", processes=2, process=0)


def test_one_process_alone_joins_nobody():
    distributed.initialize(automatic=False, coordinator=None, processes=None, process=None)
    assert distributed.is_lead() and not distributed.has_joined()
    assert distributed.lead_first("anything", lambda: 5) == 5
    np.testing.assert_array_equal(distributed.sum_over_processes(np.array([0.1, 1e9])), [0.1, 1e9])
    distributed.check_same_everywhere("anything")


def test_the_front_door_tells_in_one_line_who_is_missing(tmp_path):
    lines = {
        "did not all come within 1 s": [
            f"--coordinator=127.0.0.1:{free_port()}",
            "--processes=2",
            "--process=1",
            "--wait_seconds=1",
        ],
        "found neither Slurm, Open MPI nor a TPU pod": ["--distributed=auto"],
        "--mode=predict runs in one process": ["--mode=predict", "--processes=2"],
    }
    processes = [started(tmp_path, runs.command(*arguments), 1) for arguments in lines.values()]
    for words, process in zip(lines, processes, strict=True):
        out, error = process.communicate(timeout=120)
        assert process.returncode == 1 and out == "", out + error
        assert error.startswith("error: ") and error.count("\n") == 1 and words in error, error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("platforms", ["cuda,cpu", "tpu,cpu"])
def test_a_cpu_is_refused_where_something_else_was_asked_for_first(monkeypatch, platforms):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    with pytest.raises(InputError, match=f"asks for {platforms[:-4]}, but JAX found cpu"):
        start.check_platform()
