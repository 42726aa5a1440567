"""A folder of exams from the command line: what a user reads, the exit status, and a run that goes on."""

import shutil

import pytest
from command_line import program
from exams import truncate

from dscgan_jax.app import cohort as app_cohort
from dscgan_jax.data import subject_files
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.phantom import cohort


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """Three phantom exams, the second of them cut off."""
    root = tmp_path_factory.mktemp("cohorts") / "exams"
    cohort.write_cohort(root, preset="acute", subjects=3, seed=1, size=48, slices=1)
    truncate(root / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz")
    return root


def deconvolve(exams, out, *more):
    return program("deconvolve", exams, out, "--method=csvd", "--motion=none", "--aif=files", "--workers=1", *more)


@pytest.mark.slow
def test_one_broken_exam_costs_itself_and_the_last_line_and_the_status_say_so(exams, tmp_path):
    done = deconvolve(exams, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: 1 of 3 exams failed; {tmp_path / 'out' / 'summary.csv'} says why. The same command tries them again."
    )
    assert "\nfailed: sub-0002: " in done.stdout and "2 of 3 exams: " in done.stdout
    assert sorted(path.name for path in tmp_path.rglob("*_tmax.nii.gz")) == [
        "sub-0001_tmax.nii.gz",
        "sub-0003_tmax.nii.gz",
    ]
    again = deconvolve(exams, tmp_path / "out")
    assert "2 of 3 exams are there already" in again.stdout and again.returncode == 1


@pytest.mark.slow
def test_a_whole_cohort_ends_well_and_input_is_the_same_as_the_word(exams, tmp_path):
    root = shutil.copytree(exams, tmp_path / "exams")
    shutil.rmtree(root / "sub-0002")
    (root / "participants.tsv").unlink()
    flags = ["--method=csvd", "--motion=none", "--aif=files"]
    done = program("--mode=deconvolve", f"--input={root}", f"--output={tmp_path / 'out'}", *flags, "--workers=1")
    assert done.returncode == 0, done.stderr
    assert [row.status for row in exam_rows.read(tmp_path / "out" / "summary.csv")] == ["made", "made"]
    assert "2 of 2 exams are there already" in deconvolve(root, tmp_path / "out").stdout


def test_the_command_that_trains_on_the_maps_reads_the_series_as_they_were_read():
    read = subject_files.Overrules(frame_seconds=1.5, accept=("frame_length", "gaps"), modality="ct")
    fields = ["--config.data.modality=ct", "--config.data.tr_seconds=1.5", "--accept=frame_length,gaps"]
    assert app_cohort._same_fields(read) == fields
    assert app_cohort._same_fields(subject_files.NOTHING_OVERRULED) == []


def test_nobody_usable_is_one_line_with_the_first_reason(exams, tmp_path):
    root = shutil.copytree(exams, tmp_path / "exams")
    for path in root.rglob("*_aif.tsv"):
        path.unlink()
    done = deconvolve(root, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: none of the 3 exams could be used; the first: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers=0"], "--workers=0"),
        (["--workers=-1"], "--workers=-1"),
        (["--mask=exams/mask.nii.gz"], "give <subject>_mask.nii.gz beside each series"),
        (["--aif=exams/participants.tsv"], "one file cannot serve a whole folder"),
    ],
)
def test_what_a_folder_cannot_have_is_one_line(exams, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(exams.parent)
    (exams / "mask.nii.gz").touch()
    done = program("deconvolve", exams, tmp_path / "out", *arguments)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_exams_is_one_line(tmp_path):
    (tmp_path / "nothing").mkdir()
    for mode in ("predict", "deconvolve"):
        done = program(mode, tmp_path / "nothing", tmp_path / "out")
        assert done.returncode == 1 and "expected exams as sub-*/" in done.stderr
        assert not (tmp_path / "out").exists()
