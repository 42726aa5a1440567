"""Maps of a folder of exams: what is made, what is left, what fails alone, and what is not overwritten."""

import dataclasses
import fcntl
import json
import pathlib
import shutil

import exams as invented
import pytest
import runs
import side_by_side
from side_by_side import Maps

from dscgan_jax.data import dataset, layouts
from dscgan_jax.data.subject_files import NOTHING_OVERRULED, Overrules
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods import cohort, exam_files
from dscgan_jax.methods.conventional_files import DeconvolveWork
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.phantom import cohort as phantom_cohort

SUBJECTS = ("sub-0001", "sub-0002", "sub-0003")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three invented exams."""
    return invented.write_fake_cohort(tmp_path_factory.mktemp("cohort") / "exams", 3, mask=False, maps=())


@pytest.fixture
def exams(three, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(three, tmp_path / "exams")


def planned(root, out, how=None, overrules=NOTHING_OVERRULED, layout="bids"):
    subjects, without_folder = layouts.listed(root, layout, overrules)
    lost = {who: layouts.no_folder(who) for who in without_folder}
    return cohort.plan(how or Maps(), subjects, out, root, lost)


def made(root, out, how=None, **changes):
    return cohort.run(planned(root, out, how, **changes))


def maps_in(out):
    return sorted(path.name for path in out.rglob("*_tmax.nii.gz"))


def test_a_folder_without_maps_becomes_one_that_can_be_trained_on(exams, tmp_path):
    with pytest.raises(InputError, match="--mode=deconvolve"):
        dataset.prepared(invented.config_of(exams, tmp_path / "cache"), progress=False)
    taught, counted = tmp_path / "taught", []
    outcomes = cohort.run(planned(exams, taught), progress=counted.append)
    assert tuple(outcomes) == SUBJECTS and counted == [1, 1, 1]
    found = layouts.find_subjects(taught, "bids")
    assert [set(files.maps) for files in found] == [set(MAP_NAMES)] * 3 and all(files.mask for files in found)
    assert [files.split for files in found] == [files.split for files in layouts.find_subjects(exams, "bids")]
    prepared = dataset.prepared(invented.config_of(taught, tmp_path / "cache"), progress=False)
    assert prepared.info.splits["train"].num_examples == 3


@pytest.mark.slow
def test_conventional_maps_of_a_cohort_have_their_pages_and_the_quality_of_their_aif(tmp_path):
    """On phantom exams too coarse for an automatic AIF."""
    phantom_cohort.write_cohort(tmp_path / "exams", preset="acute", subjects=1, seed=1, size=48, slices=1)
    how = DeconvolveWork(Settings(method="csvd", scale="none", motion="none"), "files")
    outcome = made(tmp_path / "exams", tmp_path / "out", how)["sub-0001"]
    perf = tmp_path / "out" / "sub-0001" / "perf"
    assert (
        outcome.row.page == "sub-0001/perf/sub-0001.html" and "given as a curve" in (perf / "sub-0001.html").read_text()
    )
    assert outcome.row.method == "csvd" and 0 <= outcome.row.aif_quality <= 1
    assert {finding.name for finding in outcome.findings} >= set(outcome.row.warnings)
    assert json.loads((perf / "sub-0001_outcome.json").read_text())["made_of"]["settings"]["method"] == "csvd"
    with pytest.raises(InputError, match="one file cannot serve a whole folder"):
        planned(tmp_path / "exams", tmp_path / "out", DeconvolveWork(how.settings, "curve.tsv"))


def test_summary_and_page_tell_of_each_exam(three, tmp_path):
    outcomes = made(three, tmp_path / "out")
    rows = exam_rows.read(tmp_path / "out" / "summary.csv")
    assert [row.subject for row in rows] == list(SUBJECTS)
    for row in rows:
        assert (row.method, row.aif_quality) == ("plain", 0.5) and row.seconds > 0 and 4.9 < row.tmax_median < 5.1
        assert row.brain_ml == row.tmax_over_4s_ml > row.tmax_over_6s_ml == 0
        assert {*row.warnings, *row.notes} == {one.name for one in outcomes[row.subject].findings}
        assert (tmp_path / "out" / row.page).is_file() and (tmp_path / "out" / row.thumbnail).is_file()
    page = (tmp_path / "out" / "cohort.html").read_text()
    assert "3 of 3 exams have maps" in page and rows[0].page in page


def test_a_folder_goes_on_where_it_was_and_whatever_decides_the_maps_makes_them_again(exams, tmp_path):
    out = tmp_path / "out"
    perf = out / "sub-0001" / "perf"

    def time_of(how=None, **overrules):
        made(exams, out, how, overrules=Overrules(**overrules))
        return (perf / "sub-0001_cbf.nii.gz").stat().st_mtime_ns

    first = time_of()
    assert time_of() == first and planned(exams, out).missing == ()
    slower = time_of(echo_seconds=0.06)
    assert slower > first and time_of(echo_seconds=0.06) == slower
    other = time_of(Maps(version=2))
    assert other > slower
    invented.rewrite_sidecar(exams / "sub-0001" / "perf" / "sub-0001_dsc.json", EchoTime=0.04)
    with_other_sidecar = time_of(Maps(version=2))
    assert with_other_sidecar > other
    (perf / "sub-0001_outcome.json").unlink()  # as after a kill
    again = time_of(Maps(version=2))
    assert again > with_other_sidecar
    (perf / "sub-0001_page.html").unlink()
    assert time_of(Maps(version=2)) > again


def test_what_is_not_made_again_does_not_stay(exams, tmp_path):
    perf = tmp_path / "out" / "sub-0001" / "perf"
    made(exams, tmp_path / "out")
    seal = perf / "sub-0001_outcome.json"
    record = json.loads(seal.read_text())
    for name in ("sub-0001_k2.nii.gz", "mine.txt"):  # of a correction of leakage; of the user
        (perf / name).write_text("")
    record["files"].append("sub-0001_k2.nii.gz")
    record["made_of"]["version"] = "0.0.1"
    seal.write_text(json.dumps(record))
    (perf / ".partial-abc").mkdir()  # of a process that was killed
    made(exams, tmp_path / "out")
    assert not (perf / "sub-0001_k2.nii.gz").exists() and not (perf / ".partial-abc").exists()
    assert (perf / "mine.txt").is_file()


def test_what_a_killed_run_did_not_come_to_remove_goes_with_the_next(exams, tmp_path, monkeypatch):
    made(exams, tmp_path / "out")
    seal = tmp_path / "out" / "sub-0001" / "perf" / "sub-0001_outcome.json"
    record = json.loads(seal.read_text())
    record["files"].append("sub-0001_k2.nii.gz")
    record["made_of"]["version"] = "0.0.1"
    seal.write_text(json.dumps(record))
    stale = seal.with_name("sub-0001_k2.nii.gz")
    stale.write_text("")

    def killed(*args):
        raise SystemExit  # nothing that is caught, as no kill is

    with monkeypatch.context() as patched:
        patched.setattr(exam_files, "_write_thumbnail", killed)
        with pytest.raises(SystemExit):
            made(exams, tmp_path / "out")
    assert stale.exists()
    made(exams, tmp_path / "out")
    assert not stale.exists() and json.loads(seal.read_text())["row"]["status"] == "made"


def test_an_exam_that_cannot_be_used_costs_itself_alone_and_is_tried_again(exams, tmp_path):
    out = tmp_path / "out"
    series = exams / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz"
    whole = series.read_bytes()
    invented.truncate(series)
    shutil.rmtree(exams / "sub-0003")
    outcomes = made(exams, out)
    assert [outcomes[name].row.status for name in SUBJECTS] == ["made", "failed", "failed"]
    assert "sub-0002_dsc.nii.gz" in outcomes["sub-0002"].row.reason and "no folder" in outcomes["sub-0003"].row.reason
    assert maps_in(out) == ["sub-0001_tmax.nii.gz"]
    assert [row.status for row in exam_rows.read(out / "summary.csv")] == ["made", "failed", "failed"]
    assert "sub-0002\texclude\nsub-0003\texclude" in (out / "participants.tsv").read_text()
    series.write_bytes(whole)
    assert made(exams, out)["sub-0002"].row.status == "made"
    assert maps_in(out) == ["sub-0001_tmax.nii.gz", "sub-0002_tmax.nii.gz"]


def test_an_exam_that_is_no_longer_in_the_folder_keeps_its_maps_and_is_not_trained_on(exams, tmp_path):
    made(exams, tmp_path / "out")
    shutil.rmtree(exams / "sub-0003")
    (exams / "participants.tsv").write_text("participant_id\tsplit\nsub-0001\ttrain\nsub-0002\ttest\n")
    plan = planned(exams, tmp_path / "out")
    assert plan.former == ("sub-0003",)
    cohort.run(plan)
    assert "sub-0003\texclude" in (tmp_path / "out" / "participants.tsv").read_text()
    assert len(maps_in(tmp_path / "out")) == 3


def test_a_subject_without_series_fails_before_anything_begins(exams, tmp_path):
    (exams / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz").unlink()
    plan = planned(exams, tmp_path / "out")
    assert "no such file" in plan.known["sub-0002"].row.reason and len(plan.missing) == 2


def test_a_defect_of_ours_costs_one_exam_too_and_is_called_one(three, tmp_path, monkeypatch):
    real = exam_files.load_exam

    def broken(files):
        if files.subject == "sub-0002":
            raise ZeroDivisionError("division by zero")
        return real(files)

    monkeypatch.setattr(exam_files, "load_exam", broken)
    outcomes = made(three, tmp_path / "out")
    assert "ZeroDivisionError: division by zero (a defect" in outcomes["sub-0002"].row.reason
    assert outcomes["sub-0003"].row.status == "made"


def test_a_full_disk_stops_all_and_leaves_whole_exams(three, tmp_path, monkeypatch):
    real = exam_files.write_whole

    def full(path, text):
        if path.name == "sub-0002_outcome.json":
            raise OSError(28, "No space left on device")
        real(path, text)

    monkeypatch.setattr(exam_files, "write_whole", full)
    with pytest.raises(InputError, match="the disk is full"):
        made(three, tmp_path / "out")
    assert [row.subject for row in exam_rows.read(tmp_path / "out" / "summary.csv")] == ["sub-0001"]


def test_an_interrupted_run_has_its_records_and_its_page(three, tmp_path):
    out = tmp_path / "out"

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cohort.run(planned(three, out), progress=interrupt)
    assert [row.subject for row in exam_rows.read(out / "summary.csv")] == ["sub-0001"]
    assert "1 of 3 exams have maps" in (out / "cohort.html").read_text()
    assert [job.subject for job in planned(three, out).missing] == ["sub-0002", "sub-0003"]
    assert [path.name for path in out.rglob(".*")] == [".bidsignore"]


def test_an_exam_that_is_interrupted_leaves_nothing(three, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(exam_files, "_write_thumbnail", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(three, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cohort.json",
        "cohort.html",
        "summary.csv",
        "participants.tsv",
        "participants.json",
        "dataset_description.json",
        ".bidsignore",
    }


def test_of_a_folder_half_made_again_in_another_way_the_rest_is_not_trained_on(three, tmp_path):
    made(three, tmp_path / "out")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cohort.run(planned(three, tmp_path / "out", Maps(version=2)), progress=interrupt)
    splits = {files.subject: files.split for files in layouts.listed(tmp_path / "out", "bids", NOTHING_OVERRULED)[0]}
    assert splits["sub-0001"] != layouts.EXCLUDE
    assert splits["sub-0002"] == splits["sub-0003"] == layouts.EXCLUDE
    made(three, tmp_path / "out", Maps(version=2))
    assert layouts.EXCLUDE not in {files.split for files in layouts.find_subjects(tmp_path / "out", "bids")}


@pytest.mark.slow
def test_two_processes_make_the_same_maps_and_one_that_dies_costs_its_exam(exams, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(side_by_side.__file__).parent))
    made(exams, tmp_path / "one")
    (exams / "sub-0002" / "perf" / "killed").write_text("")
    outcomes = cohort.run(planned(exams, tmp_path / "two"), 2)
    assert [outcomes[name].row.status for name in SUBJECTS] == ["made", "failed", "made"]
    assert "killed by SIGKILL" in outcomes["sub-0002"].row.reason
    for name in ("sub-0001_tmax.nii.gz", "sub-0001_mask.nii.gz", "sub-0001_dsc.json", "sub-0001_thumbnail.png"):
        one, two = (tmp_path / where / "sub-0001" / "perf" / name for where in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


# ------------------------------------------------------------------------------------------- the output


def test_a_folder_is_not_written_into_itself(three, tmp_path):
    with pytest.raises(InputError, match="holds the exams themselves"):
        planned(three, three)
    made(three, tmp_path / "once")
    with pytest.raises(InputError, match="holds the exams themselves"):
        planned(tmp_path / "once", tmp_path / "once")  # its series are links to elsewhere
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        planned(three, tmp_path / "file")


def test_nothing_of_somebody_else_is_overwritten(three, tmp_path):
    theirs = tmp_path / "theirs" / "sub-0002" / "perf" / "sub-0002_tmax.nii.gz"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    before = runs.snapshot(tmp_path / "theirs")
    with pytest.raises(InputError, match=r"holds sub-0002, which this program did not write"):
        made(three, tmp_path / "theirs")
    assert runs.snapshot(tmp_path / "theirs") == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    made(three, tmp_path / "notes")
    assert (tmp_path / "notes" / "notes.txt").read_text() == "mine"


def test_maps_of_other_exams_or_another_method_need_another_folder(three, exams, tmp_path):
    made(three, tmp_path / "out")
    with pytest.raises(InputError, match=f"another cohort \\(deconvolve of {three}\\); give another folder"):
        planned(exams, tmp_path / "out")

    with pytest.raises(InputError, match="another cohort"):
        planned(three, tmp_path / "out", Maps(mode="predict"))


def test_maps_of_an_older_version_are_made_again_in_their_folder(three, tmp_path):
    perf = tmp_path / "out" / "sub-0001" / "perf"
    perf.mkdir(parents=True)
    for name in ("conventional.json", "k1.nii.gz", "tmax.nii.gz"):
        (perf / f"sub-0001_{name}").write_text("{}")
    made(three, tmp_path / "out")
    assert not (perf / "sub-0001_conventional.json").exists() and not (perf / "sub-0001_k1.nii.gz").exists()
    assert (perf / "sub-0001_tmax.nii.gz").stat().st_size > 2


def test_one_folder_is_made_by_one_process_at_a_time(three, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "LOCK_SECONDS", 0.2)
    (tmp_path / "out").mkdir()
    plan = planned(three, tmp_path / "out")
    with (tmp_path / "out" / cohort._LOCK).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is making these maps"):
            cohort.run(plan)


def test_who_waits_for_another_process_is_told_at_once(three, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "LOCK_SECONDS", 0.2)
    (tmp_path / "out").mkdir()
    told = []
    with (tmp_path / "out" / cohort._LOCK).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            cohort.run(planned(three, tmp_path / "out"), tell=told.append)
    assert len(told) == 1 and "it is waited for" in told[0]


def test_a_file_system_whose_open_files_are_never_those_of_their_names_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort.os.path, "samestat", lambda one, other: False)
    monkeypatch.setattr(cohort, "LOCK_SECONDS", 0.2)
    with cohort.only_one(tmp_path / "out") as lock:
        assert lock > 0


def test_an_exam_whose_name_cannot_be_shown_fails_alone(exams, tmp_path):
    odd = (exams / "sub-0002").rename(exams / "sub-2\u200b")
    [series] = odd.glob("perf/*_dsc.nii.gz")
    series.rename(series.with_name("sub-2\u200b_dsc.nii.gz"))
    (exams / "participants.tsv").unlink(missing_ok=True)
    outcomes = made(exams, tmp_path / "out")
    assert {name: one.row.status for name, one in outcomes.items()} == {
        "sub-0001": "made",
        "sub-0003": "made",
        "sub-2\\u200b": "failed",
    }
    assert "rename its file or folder" in outcomes["sub-2\\u200b"].row.reason
    assert "\u200b" not in (tmp_path / "out" / "summary.csv").read_text(encoding="utf-8")


def test_two_subjects_of_one_name_are_refused(three, tmp_path):
    subjects = layouts.find_subjects(three, "bids")
    subjects[1] = dataclasses.replace(subjects[1], subject="0001")
    with pytest.raises(InputError, match="subjects sub-0001 and 0001 are one name"):
        cohort.plan(Maps(), subjects, tmp_path / "out", three)
