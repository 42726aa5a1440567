"""Jobs in processes: what is done is not done again, what fails costs those that need it alone."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from dscgan_jax import settings
from dscgan_jax.errors import InputError
from dscgan_jax.study import schedule
from dscgan_jax.study.jobs import DONE_FILE, Done
from dscgan_jax.study.plan import CONVENTIONAL, Job, Study

FIRST, SECOND = (
    Job("acute/first", CONVENTIONAL, "acute"),
    Job("acute/second", CONVENTIONAL, "acute", after=("acute/first",)),
)
OTHER = Job("acute/other", CONVENTIONAL, "acute")
DONE = Done(CONVENTIONAL, 60.0, False, "", settings.to_json(Study(pathlib.Path()).config(FIRST)), None, "cpu", 1)
WRITES = (  # whole, as a job does: whoever shows progress may look at any time
    "import os, pathlib, sys; path = pathlib.Path(sys.argv[1] + '.new'); path.write_text(sys.argv[2]); "
    "os.replace(path, sys.argv[1])"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(schedule, "POLL_SECONDS", 0.02)


def works(study):
    """A command that does a job: it says that it is done."""
    text = json.dumps(DONE.__dict__)
    return lambda job: [sys.executable, "-S", "-c", WRITES, str(study.workdir(job) / DONE_FILE), text]


def run(study, jobs, command, workers=2):
    said = []
    failed = schedule.run_all(study, jobs, command, workers, (), said.append)
    return failed, said


def test_jobs_run_after_those_they_wait_for_and_once(tmp_path):
    study = Study(tmp_path)
    failed, said = run(study, [FIRST, SECOND, OTHER], works(study))
    assert not failed and len(said) == 3
    assert said[-1].startswith("[3/3]")
    failed, said = run(study, [FIRST, SECOND, OTHER], lambda job: ["false"])  # would fail
    assert (failed, said) == ({}, ["3 of 3 jobs are done already"])


def test_failed_job_costs_those_that_need_it_and_says_its_last_line(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    study = Study(tmp_path)
    fails = [sys.executable, "-S", "-c", "print('much'); raise SystemExit('error: the disk is full')"]
    failed, _ = run(study, [FIRST, SECOND, OTHER], lambda job: fails if job == FIRST else works(study)(job))
    assert failed["acute/first"].startswith("error: the disk is full (")
    assert failed["acute/second"] == "it needs acute/first"
    assert Done.of(study, OTHER) == DONE and Done.of(study, SECOND) is None


def test_process_that_ends_well_without_having_said_so_has_failed(tmp_path):
    failed, _ = run(Study(tmp_path), [OTHER], lambda job: ["true"])
    assert failed["acute/other"].startswith("it said nothing")


def test_job_that_was_killed_says_by_what(tmp_path):
    dies = [sys.executable, "-S", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    failed, _ = run(Study(tmp_path), [OTHER], lambda job: dies)
    assert failed["acute/other"].startswith("killed by SIGKILL, as the system does where memory is short")


def test_damaged_record_of_a_job_is_refused_in_one_line(tmp_path):
    study = Study(tmp_path)
    study.workdir(OTHER).mkdir(parents=True)
    (study.workdir(OTHER) / DONE_FILE).write_text('{"kind": ')
    with pytest.raises(InputError, match=r"job.json: damaged .* remove it, and the job is done again"):
        Done.of(study, OTHER)


def test_job_that_was_done_with_another_config_is_refused_in_one_line(tmp_path):
    study = Study(tmp_path)
    run(study, [OTHER], works(study))
    other_seed = dataclasses.replace(study, seed=1)
    with pytest.raises(
        InputError, match=r"phantom.seed=0, this one has 1; remove that folder, and the job is done again"
    ):
        Done.of(other_seed, OTHER)


def test_stopping_the_study_stops_its_jobs(tmp_path):
    """A job that waits is interrupted as by Ctrl-C, and does not outlive the study."""
    study, pid = Study(tmp_path), tmp_path / "pid"
    code = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(300)"
    )

    def stop_once_it_runs(study, jobs, running):
        @contextlib.contextmanager
        def bar():
            def show():
                if pid.is_file() and pid.read_text():
                    raise KeyboardInterrupt

            yield show

        return bar()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "_bar", stop_once_it_runs)
        with pytest.raises(KeyboardInterrupt):
            run(study, [OTHER], lambda job: [sys.executable, "-S", "-c", code, str(pid)])
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_job_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "GRACE_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-S", "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()  # it is deaf now
    with pytest.raises(KeyboardInterrupt), schedule._stopped_with_us([schedule._Running(OTHER, process, 0)]):
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGKILL


def test_stages_hold_jobs_that_may_run_at_the_same_time():
    assert schedule.stages([FIRST, SECOND, OTHER]) == [[FIRST, OTHER], [SECOND]]


def test_workers_share_the_cores(tmp_path):
    study = Study(tmp_path)
    text = json.dumps(DONE.__dict__)
    code = f"import os; print(sorted(os.sched_getaffinity(0))); {WRITES}"
    line = lambda job: [sys.executable, "-S", "-c", code, str(study.workdir(job) / DONE_FILE), text]  # noqa: E731
    run(study, [FIRST, OTHER], line)
    shares = [json.loads((study.workdir(job) / schedule.LOG_FILE).read_text()) for job in (FIRST, OTHER)]
    cores = sorted(set(shares[0]) | set(shares[1]))
    assert shares[0] != shares[1] or len(cores) == 1
