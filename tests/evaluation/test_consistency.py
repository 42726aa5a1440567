"""Maps that agree with each other and with their series, and maps that do not."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from dscgan_jax.data.exams import Exam
from dscgan_jax.data.quality import Consistency
from dscgan_jax.evaluation import consistency
from dscgan_jax.evaluation.consistency import consistency_of, doubts, usual_limits
from dscgan_jax.phantom.simulation import simulate


@pytest.fixture(scope="module")
def simulated():
    return simulate("acute", 7, size=48, slices=4)  # a still head


def truth_of(simulated):
    return {name: simulated.truth[name].copy() for name in ("cbf", "cbv", "mtt", "tmax", "ttp")}, simulated.truth.mask


def test_the_truth_agrees_with_itself_and_with_its_series(simulated):
    found = consistency_of(*truth_of(simulated), simulated.exam)
    assert found.central_volume < 1e-5
    assert found.ttp_offset_seconds < 1.0 and found.ttp_spread_seconds < 1.0
    assert found.cbv_disorder < 0.3 and found.tmax_disorder < 0.3
    assert doubts(found, {}) == ()


@pytest.mark.parametrize(
    ("name", "change", "value"),
    [
        ("mtt", lambda mtt: 2 * mtt, ("central_volume", np.log(2))),
        ("ttp", lambda ttp: ttp + 5.0, ("ttp_offset_seconds", 5.0)),
        ("cbv", lambda cbv: -cbv, ("cbv_disorder", None)),
        ("tmax", lambda tmax: -tmax, ("tmax_disorder", None)),
    ],
)
def test_a_map_that_contradicts_the_others_is_the_one_that_is_named(simulated, name, change, value):
    volumes, mask = truth_of(simulated)
    right = consistency_of(volumes, mask, simulated.exam)
    volumes[name] = change(volumes[name])
    wrong = consistency_of(volumes, mask, simulated.exam)
    what, expected = value
    if expected is None:  # ranks turned around: r becomes -r
        assert getattr(wrong, what) == pytest.approx(2 - getattr(right, what), abs=1e-3)
    else:
        assert getattr(wrong, what) == pytest.approx(expected, abs=1.0 if what.startswith("ttp") else 1e-3)
    usual = {field: max(number, 0.05) for field, number in right.known().items()}
    [finding] = doubts(wrong, usual)
    assert finding.name == "maps_contradict" and consistency.WORDS[what] in finding.text


def test_volumes_without_any_order_are_wrong_whoever_made_them(simulated):
    volumes, mask = truth_of(simulated)
    found = consistency_of({"cbv": -volumes["cbv"]}, mask, simulated.exam)
    assert found.central_volume is None and len(doubts(found, {})) == 1


@pytest.mark.parametrize(("seconds", "told"), [(1.0, 0), (15.0, 1)])
def test_times_of_another_bolus_are_wrong_whoever_made_them(simulated, seconds, told):
    volumes, mask = truth_of(simulated)
    assert len(doubts(consistency_of({"ttp": volumes["ttp"] + seconds}, mask, simulated.exam), {})) == told


def test_a_head_that_moved_for_good_leaves_its_blood_volume_in_order(simulated):
    volumes, mask = truth_of(simulated)
    exam = simulated.exam
    brighter = 1 + 0.1 * np.random.default_rng(0).standard_normal((*mask.shape, 1))  # what another voxel has
    later = np.arange(exam.series.shape[-1]) > exam.timing.peak_frame + 8
    moved = dataclasses.replace(exam, series=np.where(later, exam.series * brighter, exam.series).astype(np.float32))
    assert consistency_of(volumes, mask, moved).cbv_disorder < 0.5


def test_ranks_are_those_of_scipy_where_values_are_equal():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 500), rng.integers(0, 9, 500) + rng.integers(0, 2, 500)
    assert consistency._rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second)[0])
    assert consistency._rank_correlation(np.ones(9), np.arange(9)) == 0


def test_a_constant_or_random_volume_follows_nothing(simulated):
    volumes, mask = truth_of(simulated)
    for cbv in (np.ones_like(volumes["cbv"]), np.random.default_rng(1).random(mask.shape)):
        assert doubts(consistency_of({"cbv": cbv}, mask, simulated.exam), {})


def test_a_reversed_series_contradicts_the_maps_of_the_right_one(simulated):
    exam = simulated.exam
    reversed_exam = dataclasses.replace(exam, series=exam.series[..., ::-1])
    found = consistency_of(*truth_of(simulated), reversed_exam)
    assert found.ttp_offset_seconds > 5


def test_what_is_usual_comes_from_exams_and_not_from_few():
    rows = [Consistency(central_volume=value) for value in np.linspace(0.02, 0.05, 100)]
    assert usual_limits(rows[:3]) == {}
    limits = usual_limits(rows)
    assert limits == {"central_volume": pytest.approx(np.quantile(np.linspace(0.02, 0.05, 100), 0.95))}
    assert doubts(Consistency(central_volume=1.2 * limits["central_volume"]), limits) == ()
    assert doubts(Consistency(central_volume=1.3 * limits["central_volume"]), limits)


def test_of_a_few_exams_one_in_twenty_others_is_beyond_what_is_usual():
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(2000):
        *few, other = np.exp(rng.normal(-3.0, 0.5, 6))
        beyond.append(other > usual_limits([Consistency(central_volume=value) for value in few])["central_volume"])
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.015)
    assert usual_limits([Consistency(central_volume=0.0)] * 4) == {"central_volume": pytest.approx(1e-3)}
    near_zero = [Consistency(central_volume=value) for value in (0.0, 0.2, 0.2, 0.2)]
    assert usual_limits(near_zero) == {"central_volume": pytest.approx(0.6)}


def test_a_mask_without_voxels_says_nothing(simulated):
    volumes, mask = truth_of(simulated)
    assert consistency_of(volumes, np.zeros_like(mask), simulated.exam) == Consistency()


def test_a_series_without_a_bolus_and_a_few_voxels_say_nothing(simulated):
    volumes, mask = truth_of(simulated)
    flat = np.full_like(simulated.exam.series, 500.0)
    assert consistency_of(volumes, mask, simulated.exam, flat) == Consistency()
    few = np.zeros_like(mask)
    few[tuple(np.argwhere(mask)[7])] = True
    assert consistency_of(volumes, few, simulated.exam) == Consistency()


def test_voxels_without_signal_change_nothing(simulated):
    volumes, mask = truth_of(simulated)
    dead = mask & (np.arange(mask.size).reshape(mask.shape) % 3 > 0)
    series = np.where(dead[..., None], 0.0, simulated.exam.series).astype(np.float32)
    assert mask.sum() < consistency.MOST_VOXELS
    assert consistency_of(volumes, mask, simulated.exam, series) == consistency_of(
        volumes, mask & ~dead, simulated.exam
    )


@pytest.mark.slow
def test_an_exam_of_arrays_has_a_quality_record_in_its_sidecars(simulated):
    from dscgan_jax.methods import conventional

    exam = Exam.from_arrays(
        simulated.phantom.series,
        simulated.phantom.affine,
        repetition_time=simulated.phantom.frame_seconds,
        echo_time=simulated.phantom.echo_seconds,
    )
    maps = conventional.deconvolve(exam, "csvd")
    record = maps.sidecar("tmax")["Quality"]
    assert record["baseline_frames"] >= 2 and 0 < record["fall"] < 1 and record["signal_to_noise"] > 10
    assert record["seconds_after_peak"] == pytest.approx(
        (exam.series.shape[-1] - 1 - exam.timing.peak_frame) * exam.frame_seconds, rel=0.01
    )
    assert record["frames_in_first_pass"] == pytest.approx(record["first_pass_seconds"] / exam.frame_seconds, rel=0.01)
    assert 0 <= record["aif_quality"] <= 1 and record["saturated"] < 0.01
