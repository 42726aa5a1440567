"""What a network predicts of an exam, and what it reports about itself.

On three tiny phantom exams and weights that learned nothing.
"""

import dataclasses
import json

import config_reads
import nibabel
import numpy as np
import pytest
import runs

from dscgan_jax import provenance
from dscgan_jax.app import options
from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import temp_tmax
from dscgan_jax.data import exams, layouts
from dscgan_jax.data.scaling import Limits
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import consistency
from dscgan_jax.findings import Finding
from dscgan_jax.methods import cohort as cohorts
from dscgan_jax.methods import network, network_files
from dscgan_jax.methods.asked import Asked
from dscgan_jax.models import networks
from dscgan_jax.perfusion import brain, motion
from dscgan_jax.phantom import cohort
from dscgan_jax.training import checkpoints, weights
from dscgan_jax.training import loop as train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Exams in `exams`, a run of the demo's config in `run`."""
    folder = tmp_path_factory.mktemp("world")
    cohort.write_cohort(folder / "exams", preset="acute", subjects=3, seed=6, size=32, slices=2)
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(
        {**runs.TINY, "train.steps": 1, "data.root": str(folder / "exams"), "data.cache_dir": str(folder / "cache")}
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "compiled_within_memory", config_reads.StepThatOnlyCounts)
        train.train(config, folder / "run", *prepare(config))
    return folder


@pytest.fixture
def exam(world):
    return exams.load_exam(world / "exams" / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz")


@pytest.fixture
def predictor(world):
    return network.Predictor.from_run(world / "run")


def names(prediction):
    return [finding.name for finding in prediction.findings]


def test_maps_do_not_depend_on_the_air_and_are_zero_outside_the_brain(predictor, exam):
    found = brain.without_notches(brain.brain_mask(exam.series, exam.affine).brain, exam.voxel_mm)
    air = ~found & (exam.series[..., 1:6].mean(axis=-1) < 0.2 * exam.series[exam.mask].mean())
    noisy = dataclasses.replace(exam, series=np.where(air[..., None], np.float32(100), exam.series))
    assert (noisy.series != exam.series).sum() > 10_000
    first, second = predictor.predict(exam), predictor.predict(noisy)
    np.testing.assert_array_equal(first.volumes["tmax"], second.volumes["tmax"])
    assert first.volumes["tmax"][found].any() and not first.volumes["tmax"][~found].any()
    assert not {"air_reaches_network", "unlike_training"} & {*names(first), *names(second)}


def test_a_network_that_sees_the_air_says_so(predictor, exam):
    predictor.preparation = dataclasses.replace(predictor.preparation, outside_brain="keep")
    prediction, as_it_is = predictor.predict(exam), predictor.predict_all(exam, ("per_slice",))[0]
    warned = [finding for finding in prediction.findings if finding.name == "air_reaches_network"]
    assert [finding.severity for finding in warned] == ["warning"] and "config.data.outside_brain=zero" in warned[
        0
    ].text
    inside = brain.without_notches(brain.brain_mask(exam.series, exam.affine).brain, exam.voxel_mm)
    assert as_it_is["tmax"].all() and np.array_equal(prediction["tmax"] != 0, inside)


def test_a_given_mask_cuts_the_maps_and_what_the_network_did_not_see_of_it_is_told(predictor, exam):
    whole = predictor.predict(exam)
    half = exam.mask & (np.arange(exam.mask.shape[0]) < exam.mask.shape[0] // 2)[:, None, None]
    cut = predictor.predict(dataclasses.replace(exam, mask=half, mask_source="file"))
    np.testing.assert_array_equal(cut["tmax"], np.where(half, whole["tmax"], 0))
    assert np.array_equal(cut.mask, half) and "mask_beyond_brain" not in names(cut)
    everywhere = predictor.predict(dataclasses.replace(exam, mask=np.ones_like(exam.mask), mask_source="file"))
    assert "mask_beyond_brain" in names(everywhere)


def test_a_checkpoint_from_before_sees_the_air_and_is_not_asked_what_it_was_trained_on(world, exam, monkeypatch):
    load = checkpoints.load_record

    def older(*given):
        record = load(*given).to_json()
        del record["config"]["data"]["outside_brain"], record["data"]["features"]
        return checkpoints.CheckpointRecord.from_json(record)

    monkeypatch.setattr(checkpoints, "load_record", older)
    predictor = network.Predictor.from_run(world / "run")
    assert predictor.preparation.outside_brain == "keep"
    told = names(predictor.predict(dataclasses.replace(exam, frame_seconds=6.0)))
    assert "air_reaches_network" in told and "unlike_training" not in told


def test_an_exam_unlike_the_training_exams_is_told_of_and_a_stripped_one_where_that_reaches_the_network(
    predictor, exam
):
    slow = predictor.predict(dataclasses.replace(exam, frame_seconds=6.0))
    assert any(
        finding.name == "unlike_training" and "frame length in s 6 (training 2.22 to 2.22)" in finding.text
        for finding in slow.findings
    )
    inside = brain.brain_mask(exam.series, exam.affine).brain
    stripped = dataclasses.replace(exam, series=exam.series * inside[..., None])
    assert "unlike_training" not in names(predictor.predict(stripped))
    predictor.preparation = dataclasses.replace(predictor.preparation, outside_brain="keep")
    assert "unlike_training" in names(predictor.predict(stripped))


def test_ttp_counts_from_the_first_acquired_frame_wherever_the_network_begins(world, exam):
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict({**runs.QUICK, "target": ("tmax", "ttp")})
    assert config.data.lead_seconds == 12.0
    _, variables, _ = networks.build(config.model, config.data.frames, 2, 0)
    trained = network.Predictor.from_run(world / "run").record
    limits = (Limits(0.0, 12.0), Limits(0.0, 40.0))
    scaling = dataclasses.replace(trained.scaling, targets=("tmax", "ttp"), limits=limits)
    record = dataclasses.replace(trained, config=config, scaling=scaling)
    predictor = network.Predictor(weights.Weights("two", "0", 0, "best", record, variables, ""))
    first = predictor.predict(exam)
    earlier = dataclasses.replace(
        exam,
        series=np.concatenate([exam.series[..., 2:3]] * 3 + [exam.series], axis=-1),
        timing=dataclasses.replace(
            exam.timing,
            baseline_begin=exam.timing.baseline_begin + 3,
            baseline_end=exam.timing.baseline_end + 3,
            peak_frame=exam.timing.peak_frame + 3,
        ),
    )
    second = predictor.predict(earlier)
    inside = first.mask & second.mask
    assert inside.sum() > 100 and not second["ttp"][~second.mask].any()
    begins = predictor.preparation.first_seconds_of(exam)
    assert begins > 0 and begins <= first["ttp"][inside].min() and first["ttp"].max() <= begins + 40.0
    later = second["ttp"][inside] - first["ttp"][inside]
    np.testing.assert_allclose(later, 3 * exam.frame_seconds, atol=0.05)


def test_a_sidecar_tells_what_trained_the_network_and_what_used_it(world, exam, tmp_path, monkeypatch):
    trained = network.Predictor.from_run(world / "run").record.software
    monkeypatch.setattr(provenance, "software_versions", lambda: {"dscgan_jax": "of tomorrow"})
    predictor = network.Predictor.from_run(str(world / "run"), motion="rigid")
    paths, _ = network_files.predict_file(predictor, exam, str(tmp_path / "maps"))
    record = json.loads((tmp_path / "maps" / paths[0].name.replace(".nii.gz", ".json")).read_text())
    assert record["TrainingSoftware"] == trained and record["Software"] == {"dscgan_jax": "of tomorrow"}
    assert record["Settings"]["motion"] == "rigid" and record["Settings"]["outside_brain"] == "zero"


def test_a_cohort_is_made_once_by_a_network_and_again_by_another_or_in_another_way(world, tmp_path):
    subjects = layouts.find_subjects(world / "exams", "bids")
    work = network_files.PredictWork(world / "run")

    def plan(how):
        return cohorts.plan(how, subjects, tmp_path / "out", world / "exams")

    rows = [outcome.row for outcome in cohorts.run(plan(work)).values()]
    assert [row.status for row in rows] == ["made"] * 3
    sha256 = network.Predictor.from_run(world / "run").sha256
    assert {(row.method, row.network, row.network_sha256) for row in rows} == {("network", "run", sha256)}
    perf = tmp_path / "out" / "sub-0001" / "perf"
    assert (perf / "sub-0001_mask.nii.gz").is_file() and (tmp_path / "out" / rows[0].page).is_file()
    assert not plan(work).missing
    assert len(plan(dataclasses.replace(work, norm="running")).missing) == 3
    assert len(plan(dataclasses.replace(work, motion="rigid")).missing) == 3


def test_the_seal_of_a_cohort_knows_the_network_by_its_digest(world, tmp_path):
    work = network_files.PredictWork(world / "run")
    assert work.made_of()["network"]["sha256"] == network.Predictor.from_run(world / "run").sha256
    assert work.made_of() != network_files.PredictWork().made_of()


@pytest.mark.slow
def test_conventional_maps_stand_beside_those_of_a_network_or_it_is_said_why_not(
    exam, predictor, tmp_path, monkeypatch
):
    asked = Asked(beside="csvd", offered=options.offered_to(options.PREDICT))
    paths, told = network_files.predict_file(predictor, exam, tmp_path / "both", asked)
    assert {one.name for one in told} > {one.name for one in predictor.predict(exam).findings}  # of both
    assert [path.name for path in paths if "desc-csvd_tmax" in path.name] and paths[-1].suffix == ".html"
    page = paths[-1].read_text()
    assert "<h3>cSVD</h3>" in page and page.count("data-map=") == 5 + len(predictor.scaling.targets)
    assert any(one.flag == "--aif=FILE" for one in told) and "--aif=FILE" not in page  # predict does not read it

    def without_an_artery(exam, settings, given):
        raise InputError(f"{exam.subject}: no voxel looks like an artery.")

    monkeypatch.setattr("dscgan_jax.methods.conventional.deconvolved", without_an_artery)
    paths, findings = network_files.predict_file(predictor, exam, tmp_path / "one", asked)
    [reason] = [finding for finding in findings if finding.name == "conventional_missing"]
    assert reason.severity == "warning" and reason.text.endswith("the network's: no voxel looks like an artery")
    assert "desc-csvd" not in " ".join(path.name for path in paths) and paths[-1].is_file()
    with pytest.raises(InputError, match="--desc=csvd names the network's maps as those of --beside"):
        Asked(beside="csvd", desc="csvd")


@pytest.mark.slow
def test_conventional_maps_beside_a_networks_keep_to_the_given_mask(exam, predictor, tmp_path):
    half = exam.mask.copy()
    half[: len(half) // 2] = False
    cut = dataclasses.replace(exam, mask=half, mask_source="file")
    paths, _ = network_files.predict_file(predictor, cut, tmp_path / "maps", Asked(beside="csvd"))
    for path in paths:
        if path.name.endswith("tmax.nii.gz"):
            tmax = exam.stored.to_ras(np.asarray(nibabel.load(path).dataobj))
            assert tmax[half].any() and not tmax[~half].any(), path.name


def test_maps_of_a_realigned_series_are_held_against_that_series(world, exam, monkeypatch):
    pose, still = np.zeros((exam.series.shape[-1], 3)), np.zeros(exam.series.shape[-1], bool)
    brought_back = exam.series.copy()
    moved = motion.Realignment(brought_back, np.eye(4)[None], pose, pose, pose[0], ~still, False)
    monkeypatch.setattr(motion, "realign_if_possible", lambda *_: (moved, ()))
    held = []
    monkeypatch.setattr(
        network.consistency, "consistency_of", lambda *given: held.append(given[3]) or consistency.Consistency()
    )
    for correction, series in (("rigid", brought_back), ("none", exam.series)):
        network.Predictor.from_run(world / "run", motion=correction).predict(exam)
        assert held.pop() is series


def test_what_is_usual_is_kept_with_the_run_and_what_is_not_is_told(world, predictor, exam):
    usual = consistency.usual_limits(network.rows_of(predictor, [dataclasses.replace(exam, findings=())] * 4))
    assert usual.keys() == {"tmax_disorder"} and 0 < usual["tmax_disorder"] < 2
    weights.keep_usual(world / "run", predictor.sha256, {"tmax_disorder": 0.1})
    judged = network.Predictor.from_run(world / "run").predict(exam)
    [told] = [one for one in judged.findings if one.name == "maps_contradict"]
    assert told.severity == "warning" and "Tmax" in told.text
    assert judged.sidecar("tmax")["Quality"]["tmax_disorder"] == pytest.approx(usual["tmax_disorder"], abs=0.01)
    weights.keep_usual(world / "run", "of another checkpoint", {"tmax_disorder": 0.1})
    assert "maps_contradict" not in names(network.Predictor.from_run(world / "run").predict(exam))
    (world / "run" / weights.USUAL_FILE).write_text("damaged")
    with pytest.raises(InputError, match=r"usual.json: damaged .* remove it"):
        network.Predictor.from_run(world / "run")
    (world / "run" / weights.USUAL_FILE).unlink()


def test_exams_with_a_warning_do_not_say_what_is_usual(predictor, exam):
    moved = dataclasses.replace(exam, findings=(Finding("motion", "warning", "the head moved"),))
    assert network.rows_of(predictor, [moved] * 4) == []
