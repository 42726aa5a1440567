"""What a study consists of: the paper's 20 models, each on the exams and after the network that it needs."""

import itertools
import pathlib

import pytest

from dscgan_jax import settings
from dscgan_jax.configs import ablations
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.study import plan
from dscgan_jax.study.plan import Study

FOLDER = pathlib.Path("/study")


def kinds(jobs, kind):
    return [job for job in jobs if job.kind == kind]


def test_paper_has_twenty_models():
    jobs = Study(FOLDER, "small", ("paper",)).jobs()
    acute, tuned = kinds(jobs, plan.TRAIN), kinds(jobs, plan.TUNE)
    assert {(job.method, job.map_name) for job in acute} == {(m, n) for m in ("temp", "pix2pix") for n in MAP_NAMES}
    assert len(acute) == len(tuned) == 10


@pytest.mark.parametrize("n_parts", range(1, len(plan.PARTS)))
def test_any_parts_make_a_study_and_share_their_jobs_names(n_parts):
    all_names = {job.name for job in Study(FOLDER).jobs()}
    for parts in itertools.combinations(plan.PARTS, n_parts):
        assert {job.name for job in Study(FOLDER, parts=parts).jobs()} <= all_names


@pytest.mark.parametrize("scale", plan.SCALES)
def test_every_job_waits_for_jobs_before_it_and_has_a_config_that_works(scale):
    study = Study(FOLDER, scale)
    jobs = study.jobs()
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for place, job in enumerate(jobs):
        assert set(job.after) <= set(names[:place]), job.name
        settings.check(study.config(job))


def test_fine_tuning_begins_with_the_acute_network_of_its_method_and_map():
    study = Study(FOLDER, "paper", ("paper",))
    [job] = [job for job in kinds(study.jobs(), plan.TUNE) if (job.method, job.map_name) == ("temp", "tmax")]
    config = study.config(job)
    assert config.train.start_from == "/study/acute/temp-tmax" and "acute/temp-tmax" in job.after
    assert (config.train.epochs, config.train.steps, config.phantom.preset) == (50.0, 0, "chronic")


@pytest.mark.parametrize("method", ["temp", "pix2pix"])
def test_paper_column_is_what_the_config_files_say(method):
    """Its own files, acute and fine-tuned, with nothing but the study's cache, seed and comparators in between."""
    study = Study(FOLDER, "paper", ("paper",))
    by_name = {job.name: job for job in study.jobs()}
    for cohort, file in (("acute", f"{method}_mtt"), ("chronic", f"finetune_{method}_mtt")):
        ours, theirs = study.config(by_name[f"{cohort}/{method}-mtt"]), plan.config_of(file)
        for config in (ours, theirs):
            config.evaluate.baselines = ()
            config.train.start_from = ""
        assert settings.to_json(ours) == settings.to_json(theirs)


@pytest.fixture
def own_exams(tmp_path):
    """Makes a folder of two exams with such maps; nobody opens them."""

    def make(*maps):
        root = tmp_path / "-".join(maps)
        for subject in ("sub-1", "sub-2"):
            folder = root / subject / "perf"
            folder.mkdir(parents=True)
            for name in ("dsc", *maps):
                (folder / f"{subject}_{name}.nii.gz").touch()
        return str(root)

    return make


def test_own_exams_take_the_place_of_phantoms_and_have_no_known_truth(own_exams):
    study = Study(FOLDER, "paper", roots={"acute": own_exams("cbf", "tmax"), "chronic": own_exams("tmax")})
    jobs = study.jobs()
    assert not kinds(jobs, plan.TRUE_AIF) and not [job for job in jobs if job.cohort == plan.DIFFICULT]
    assert {study.config(job).data.root for job in jobs} == set(study.roots.values())


def test_maps_that_most_exams_lack_are_not_planned(own_exams):
    study = Study(FOLDER, "paper", ("paper",), {"acute": own_exams("cbf", "tmax"), "chronic": own_exams("tmax")})
    jobs = study.jobs()
    assert {job.map_name for job in kinds(jobs, plan.TRAIN)} == {"cbf", "tmax"}
    assert {job.map_name for job in kinds(jobs, plan.TUNE)} == {"tmax"}
    [conventional] = [job for job in kinds(jobs, plan.CONVENTIONAL) if job.cohort == plan.CHRONIC]
    assert study.config(conventional).target == ("tmax",)


def test_own_acute_exams_alone_are_a_study_of_these(own_exams):
    jobs = Study(FOLDER, "paper", roots={"acute": own_exams("tmax")}).jobs()
    assert {job.cohort for job in jobs} == {plan.ACUTE}


def test_exams_are_prepared_once_for_all_that_read_them_alike():
    jobs = Study(FOLDER, "small", ("paper", "recommended")).jobs()
    prepared = [job for job in kinds(jobs, plan.PREPARE) if job.cohort == plan.ACUTE]
    assert len(prepared) == 2  # the paper stretches time, the recommended settings do not
    assert prepared[0].name in prepared[1].after  # phantom exams are drawn once
    assert jobs[: len(kinds(jobs, plan.PREPARE))] == kinds(jobs, plan.PREPARE)


def test_each_ablation_is_a_row():
    jobs = Study(FOLDER, "small", ("ablations",)).jobs()
    assert {job.method for job in kinds(jobs, plan.TRAIN)} == {f"ablation-{name}" for name in ablations.CHANGES}


def test_tiny_study_is_four_models_of_tmax():
    jobs = Study(FOLDER, "tiny").jobs()
    assert len(kinds(jobs, plan.TRAIN)) + len(kinds(jobs, plan.TUNE)) == 4


def test_job_brings_those_it_waits_for():
    jobs = Study(FOLDER, "tiny").jobs()
    names = [job.name for job in plan.ordered(jobs, ["chronic/temp-tmax"])]
    assert names[-1] == "chronic/temp-tmax" and "acute/temp-tmax" in names and len(names) == len(set(names))


def test_unknown_job_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"--job=acute/nothing: there is no such job; --list names the \d+ there are"):
        plan.ordered(Study(FOLDER, "tiny").jobs(), ["acute/nothing"])
