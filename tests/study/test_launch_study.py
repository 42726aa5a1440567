"""The command of the study: what it would run, and one line where it cannot."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def launch(*arguments):
    line = [sys.executable, str(ROOT / "launch" / "study.py"), *arguments]
    return subprocess.run(line, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_slurm_submits_a_stage_after_the_other_and_the_page_at_the_end(tmp_path):
    done = launch(f"--workdir={tmp_path}", "--scale=tiny", "--slurm", "--dry_run", "--", "--time=1:00:00")
    assert done.returncode == 0, done.stderr
    scripts = done.stdout.split("sbatch --parsable")[1:]
    assert len(scripts) == 4  # exams; acute networks and conventional maps; what waits for them; the page
    assert "jobs=(prepare/acute-" in scripts[0] and "#SBATCH --time=1:00:00" in scripts[0]
    assert "--dependency=afterany:<stage 1>" in scripts[1] and "acute/temp-tmax" in scripts[1]
    assert scripts[-1].rstrip().endswith("--page")


@pytest.mark.slow
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path):
    folder = tmp_path / "study"
    for arguments, words in (
        (["--parts=paper,figures"], "figures is none of paper, recommended, comparators"),
        (["--root_acute=/nowhere/exams"], "--root_acute=/nowhere/exams: there is no such folder."),
        (["--job=acute/none"], "--job=acute/none: there is no such job"),
        (["--page"], "holds no study; run one there first"),
        (["--", "--time=1:00:00"], "unexpected argument '--time=1:00:00'; options of sbatch need --slurm."),
    ):
        done = launch(f"--workdir={folder}", "--scale=tiny", *arguments)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and words in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not folder.exists()


def test_folder_of_another_study_is_refused(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"scale": "paper", "roots": {}, "seed": 0}))
    done = launch(f"--workdir={tmp_path}", "--scale=tiny", "--list")
    assert done.returncode == 1
    assert "holds a study with scale 'paper', this one has 'tiny'" in done.stderr


@pytest.mark.slow
def test_a_study_that_is_asked_to_end_says_so_by_its_status(tmp_path):
    line = [sys.executable, str(ROOT / "launch" / "study.py"), f"--workdir={tmp_path / 'study'}", "--scale=tiny"]
    line += ["--workers=1", f"--cache_dir={tmp_path / 'cache'}"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(tmp_path.rglob("log.txt")) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143 and "ended by SIGTERM" in said
