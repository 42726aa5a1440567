"""A study from exams to page: the paper's pix2pix for Tmax, acute and fine-tuned, on a few small phantom exams."""

import csv
import dataclasses
import json
import pathlib

import pytest

from dscgan_jax.app import options, places
from dscgan_jax.errors import InputError
from dscgan_jax.study import jobs, plan, results
from dscgan_jax.study.plan import ACUTE, CHRONIC, Scale, Study

pytestmark = pytest.mark.slow

SMALLEST = Scale(
    {ACUTE: (4, 1, 2), CHRONIC: (3, 1, 2)},
    4,
    {
        **plan.SCALES["tiny"].fields,
        "data.size": 32,
        "phantom.size": 32,
        "phantom.slices": 2,
        "phantom.seed": 3,  # of whose exams all can be used
        "model.width": 2,
        "model.depth": 2,
        "model.discriminator_width": 2,
        "train.batch_size": 4,  # over the four devices of the tests
    },
    steps=4,
    tuned_steps=2,
)
WANTED = ("acute/pix2pix-tmax", "chronic/pix2pix-tmax", "chronic/conventional-true-aif")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two networks and the conventional maps of one cohort."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.SCALES, "tiny", SMALLEST)
        study = Study(folder, "tiny", ("paper",), cache_dir=str(folder / "cache"))
        for job in plan.ordered(study.jobs(), WANTED):
            jobs.run(study, job)
        yield study


@pytest.fixture(scope="module")
def record(study):
    return results.gather(study)


def test_jobs_leave_what_others_need_and_say_that_they_are_done(study):
    by_name = {job.name: job for job in study.jobs()}
    done = jobs.Done.of(study, by_name["chronic/pix2pix-tmax"])
    assert done.records == "chronic/pix2pix-tmax/evaluation/test" and done.steps_per_second > 0
    assert jobs.progress_of(study, by_name["chronic/pix2pix-tmax"]) == 1.0
    assert jobs.Done.of(study, by_name["acute/temp-tmax"]) is None


def test_records_hold_both_cohorts_with_their_nulls(record):
    titles = {(one.cohort, one.method): one.title for one in record.entries}
    assert titles["chronic", "pix2pix"] == "pix2pix, the paper's settings, fine-tuned"
    assert ("chronic", "parametric-true-aif") in titles
    assert set(record.nulls) == {"acute", "chronic"} and record.patients == {"acute": 2, "chronic": 2}
    assert "acute/temp-tmax" in record.missing and "chronic/pix2pix-tmax" not in record.missing


def test_page_and_tables_are_written_with_a_picture_of_patients(study, record, tmp_path):
    path = results.write(record, study, tmp_path / "study.md")
    page = path.read_text(encoding="utf-8")
    assert "Example and worst patients" in page and page.count("data:image/png") >= 4
    with (study.folder / "study.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows if row["cohort"] == "acute"} == {"pix2pix", "null_median", "blank"}
    assert len([row for row in rows if row["method"] == "pix2pix"]) == 4
    assert "](study_chronic_bars.png)" in (tmp_path / "study.md").read_text(encoding="utf-8")


def test_job_that_is_done_is_not_done_again(study):
    job = next(job for job in study.jobs() if job.name == "acute/pix2pix-tmax")
    before = {path: path.stat().st_mtime_ns for path in study.workdir(job).rglob("*")}
    jobs.run(study, job)
    assert {path: path.stat().st_mtime_ns for path in study.workdir(job).rglob("*")} == before


def test_exams_that_are_prepared_serve_whichever_job_needs_them_first(study):
    """Other parts of the study bring other jobs, whose configs differ in what prepares nothing."""
    job = next(job for job in study.jobs() if job.kind == plan.PREPARE)
    path = study.workdir(job) / jobs.DONE_FILE
    before = path.read_text()
    stored = json.loads(before)
    stored["config"]["model"]["width"] += 1
    path.write_text(json.dumps(stored))
    assert jobs.Done.of(study, job) is not None
    path.write_text(before)


def test_same_seed_gives_the_same_records(study, record, tmp_path):
    again = dataclasses.replace(study, folder=tmp_path)
    for job in plan.ordered(again.jobs(), WANTED[:1]):
        jobs.run(again, job)
    [first] = [one for one in record.entries if (one.cohort, one.method) == ("acute", "pix2pix")]
    [second] = results.gather(again).entries

    def numbers(entry):
        return [{name: value for name, value in row.items() if name != "seconds_predict"} for row in entry.rows]

    assert numbers(first) == numbers(second)


def test_pictures_read_exams_as_the_jobs_do(study):
    """With the frame length that the user gave, not the one in the files."""
    job = next(job for job in study.jobs() if job.name == "acute/pix2pix-tmax")
    root = places.with_root(study.config(job)).data.root
    given = {"layout": "bids", "tr_seconds": 1.7, "te_seconds": 0.0, "accept": ()}
    own = dataclasses.replace(study, roots={ACUTE: root}, exams=given)
    assert results._exam(own, ACUTE, "sub-0001").frame_seconds == 1.7


def test_scoring_overrules_what_is_read_and_nothing_else():
    """Whatever a job says of conventional methods, evaluate reads it."""
    small = Study(pathlib.Path("/study"))
    scoring = [job for job in small.jobs() if job.kind in (plan.SCORE_DIFFICULT, plan.UNCHANGED)]
    with_methods = 0
    for job in scoring:
        config = small.config(job)
        options.check_methods(jobs.given_of(config), tuple(config.evaluate.baselines), "config.evaluate.baselines")
        with_methods += bool(config.evaluate.baselines)
    assert len(scoring) > with_methods == 1


def test_fine_tuning_without_its_donor_is_one_line(study, tmp_path):
    elsewhere = dataclasses.replace(study, folder=tmp_path)
    job = next(job for job in study.jobs() if job.name == "chronic/pix2pix-tmax")
    with pytest.raises(InputError, match="acute/pix2pix-tmax"):
        jobs.run(elsewhere, job)
