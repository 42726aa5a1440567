"""The study of the shipped network counts as it says: on invented records, and on small series with a known answer."""

import json
import math

import numpy as np
import pytest
import shipped_network_checklist as checklist
import shipped_network_exams as of_exams
import shipped_network_page as page
import shipped_network_pictures as pictures
import shipped_network_real as real
import shipped_network_records as records
import shipped_network_robustness as robustness
import shipped_network_run as study

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS

AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])  # a voxel is 1 mL


def scores(found, true, both, mae=0.5, inside=None):
    """Of one source of one exam; all maps err alike."""
    volumes = {"found_ml": found, "found_inside_ml": found if inside is None else inside, "real_ml": true}
    one = {"mae": mae, "bias": 0.0, "r": 0.9}
    return volumes | {"both_ml": both, "covered": 1.0} | dict.fromkeys(MAP_NAMES, one)


def exam(subject=0, network=(10.0, 10.0, 10.0), mae=0.5, fit=(10.0, 10.0, 5.0), fit_mae=0.6, warnings=(), **known):
    """A record: (found, true, both) of network and conventional methods."""
    properties = {name: 50.0 for name in records.BORDERS} | {"slices": 20, "warnings": len(warnings)}
    words = {"motion": "still", "tail": "whole", "skull": "there", "disease": "acute", "side": "left"}
    made = {"network": scores(*network, mae), "parametric": scores(*fit, fit_mae), "osvd": scores(*fit, fit_mae)}
    nulls = {"null": scores(0.0, network[1], 0.0, 1.0), "constant": scores(0.0, network[1], 0.0, 0.8)}
    return {
        "cohort": "acute",
        "subject": subject,
        "properties": properties | words | known,
        "warnings": list(warnings),
        "refusals": {},
        "scores": made | nulls,
        "seconds": {"network": 2.0},
    }


def maps_of(tmax, mask):
    volumes = {"tmax": np.asarray(tmax, np.float32)}
    return ExamMaps("one", volumes, {"tmax": "s"}, StoredGrid(mask.shape, AFFINE), mask=mask)


# ------------------------------------------------------------------------------------------------ one exam


def test_a_lesion_outside_the_true_brain_is_false_and_errors_are_those_of_the_common_brain():
    brain = np.zeros((4, 1, 1), bool)
    brain[:3] = True
    truth = maps_of([[[7.0]], [[7.0]], [[2.0]], [[0.0]]], brain)
    own = np.array([False, True, True, True]).reshape(4, 1, 1)
    found = of_exams.score(maps_of([[[0.0]], [[8.0]], [[2.5]], [[9.0]]], own), truth)
    volumes = [found[name] for name in ("found_ml", "found_inside_ml", "real_ml", "both_ml")]
    assert volumes == pytest.approx([2, 1, 2, 1])
    assert found["tmax"]["mae"] == pytest.approx((1.0 + 0.5) / 2) and found["covered"] == pytest.approx(2 / 3)
    assert records.dice(found) == pytest.approx(0.5) and records.dice(found, "inside_") == pytest.approx(2 / 3)


def test_a_source_whose_brain_is_elsewhere_is_refused():
    brain = np.array([True, False]).reshape(2, 1, 1)
    assert "no voxel in common" in of_exams.score(maps_of(7.0 * ~brain, ~brain), maps_of(7.0 * brain, brain))


# ------------------------------------------------------------------------------------------------ sums


def test_pooled_dice_weighs_exams_by_their_lesions_and_shares_count_those_with_one():
    some = [exam(0, (100.0, 100.0, 100.0)), exam(1, (10.0, 10.0, 2.0)), exam(2, (1.0, 1.0, 0.0))]
    found = records.summary_of(some, "network")
    assert found.dice == pytest.approx(2 * 102 / 222) and found.low == 0.5 and found.exams == 3
    assert found.volume_bias == 0.0 and found.volume_r == pytest.approx(1.0)


def test_an_error_is_compared_with_that_of_the_nulls_on_the_same_exams():
    some = [exam(0, mae=0.2), exam(1, mae=0.4)]
    del some[1]["scores"]["parametric"]
    assert records.summary_of(some, "network").over_null == pytest.approx(dict.fromkeys(MAP_NAMES, 0.3))
    assert records.summary_of(some, "network").over_constant["tmax"] == pytest.approx(0.3 / 0.8)
    assert records.summary_of(some, "parametric").exams == 1
    assert records.summary_of(some, "oracle") is None
    assert records.compare(some, "parametric").mae == pytest.approx((0.2, 0.6))  # of the exam that both have


@pytest.mark.parametrize(
    ("changes", "losses"),
    [
        ({}, []),
        ({"mae": 0.6}, ["Tmax MAE"]),
        ({"network": (10.0, 10.0, 5.0)}, ["Dice"]),
        ({"mae": 0.7, "network": (10.0, 10.0, 1.0)}, ["Tmax MAE", "Dice"]),
        ({"network": (0.0, 0.0, 0.0), "fit": (0.0, 0.0, 0.0)}, []),  # no lesion, no Dice
    ],
)
def test_the_network_wins_only_where_it_is_better_than_the_other(changes, losses):
    assert records.compare([exam(**changes)], "parametric").losses == losses


def test_strata_hold_their_lower_border_and_every_exam_once():
    some = [exam(0, slices=5), exam(1, slices=6, motion="moved"), exam(2, slices=15)]
    found = {title: [one["subject"] for one in those] for title, those in records.strata_of(some).items()}
    assert [found[f"slices {limits}"] for limits in ("< 6", "≥ 6, < 15", "≥ 15")] == [[0], [1], [2]]
    assert found["motion: moved"] == [1] and found["motion: still"] == [0, 2]
    asked = {title: [one["subject"] for one in those] for title, those in records.demanded(some).items()}
    assert asked["≤ 5 slices"] == [0] and asked["motion"] == [1] and asked["overall"] == [0, 1, 2]


def test_a_warning_is_judged_by_what_it_sees_and_by_how_often_it_is_right():
    low, high = (10.0, 10.0, 5.0), (10.0, 10.0, 9.0)
    some = [
        exam(0, low, warnings=["motion", "noisy"]),
        exam(1, low),
        exam(2, high, warnings=["motion"]),
        exam(3, high),
        exam(4, (4.0, 4.0, 0.0), warnings=["motion"]),  # too small to have a Dice
    ]
    found = records.reliability(some)
    assert list(found) == ["any warning", "motion", "noisy"]
    assert (found["motion"].exams, found["motion"].low, found["motion"].warned) == (4, 2, 2)
    assert found["motion"].seen == 0.5 and found["motion"].right == 0.5 and found["motion"].silent_low == 0.5
    assert found["noisy"].right == 1.0 and found["noisy"].silent_low == pytest.approx(1 / 3)


def test_the_exams_that_are_drawn_have_the_median_and_the_lowest_dice():
    some = [exam(number, (10.0, 10.0, both)) for number, both in enumerate((9.0, 3.0, 6.0, 8.0))]
    found = records.shown([*some, exam(4, (4.0, 4.0, 0.0))])  # the last is too small to count
    assert {title: one["subject"] for title, one in found.items()} == {"median Dice": 2, "lowest Dice": 1}
    assert records.shown([]) == {}


# ------------------------------------------------------------------------------------------------ what is asked


def test_a_number_meets_its_limit_at_the_limit_and_none_is_not_measured():
    assert checklist.limit("a", "≤", 0.27, "", 0.27).met and not checklist.limit("a", "≤", 0.27, "", 0.271).met
    assert checklist.limit("a", "≥", 0.95, "", 0.95).met and not checklist.limit("a", "≥", 0.95, "", 0.94).met
    for nothing in (None, math.nan):
        assert checklist.limit("a", "≥", 0.95, "", nothing).row[2:] == ["–", "not measured"]


def test_a_change_is_judged_by_its_worst_exam_and_by_refusals():
    def change(*values):
        return checklist.of_changes([{"changes": {"turned": {"asked": 0.1} | value}} for value in values])[0]

    assert change({"change": 0.01}, {"change": 0.09}).met
    assert not change({"change": 0.01}, {"change": 0.1}).met
    refused = change({"change": 0.01}, {"refused": "no brain"})
    assert not refused.met and "1 refused" in refused.measured
    assert not change({"refused": "no brain"}).met


def test_all_that_is_asked_is_listed_though_nothing_was_measured_and_nothing_is_called_met():
    nothing = {"run": {"network": {"file_bytes": None}}, "exams": [], "changes": [], "real": None}
    demands = checklist.checklist(nothing)
    assert {one.met for one in demands} == {None} and len(demands) > 20


# ------------------------------------------------------------------------------------------------ pictures


def test_a_kept_picture_comes_back_within_a_step_and_keeps_the_outline_of_six_seconds():
    tmax = np.array([[0.0, 6.0, np.nextafter(6.0, 7.0)], [5.96, 11.99, 99.0]])
    back = pictures.unpacked(json.loads(json.dumps(pictures.packed(tmax, *MAPS["tmax"].window))))
    np.testing.assert_array_equal(back > 6.0, tmax > 6.0)
    np.testing.assert_allclose(back[:, :2], tmax[:, :2], atol=12.0 / pictures.STEPS)
    assert back[1, 2] > 12.0


# ------------------------------------------------------------------------------------------------ other forms


def test_the_same_voxels_stored_otherwise_are_the_same_exam():
    series = np.random.default_rng(0).uniform(1, 2, (3, 4, 2, 5)).astype(np.float32)
    affine = np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    stored, turned = robustness.stored_otherwise(series, affine)
    assert stored.shape != series.shape
    grid = StoredGrid.of(stored, turned)
    np.testing.assert_array_equal(grid.to_ras(stored), series)
    np.testing.assert_allclose(grid.ras_affine, affine)


def test_slices_that_are_kept_stay_where_they_are():
    affine = np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    for kept, first, step in ((slice(3, 5), 13.0, 4.0), (slice(None, None, 2), 1.0, 8.0)):
        moved = robustness.affine_of(affine, kept)
        assert moved[2, 3] == first and moved[2, 2] == step


def test_a_head_is_what_its_scalp_encloses():
    ring = np.zeros((20, 20, 1), bool)
    ring[4:16, 4:16] = True
    ring[6:14, 6:14] = False
    ring[9:11, 14:16] = False  # a gap in the scalp
    head = robustness.head_of(ring)
    assert head[5:15, 5:15].all() and not head[:3].any() and not head[:, 17:].any()


def test_a_change_of_tmax_is_the_mean_over_the_brain_that_both_have():
    mask = np.ones((2, 1, 4), bool)
    before = maps_of(np.full(mask.shape, 5.0), mask)
    fewer = mask[:, :, ::2].copy()
    fewer[0, 0, 0] = False
    after = maps_of(np.where(fewer, [[[5.5, 6.5]]], 0.0), fewer)
    found = robustness.difference(before, after, slice(None, None, 2))
    assert found["change"] == pytest.approx((0.5 + 1.5 + 1.5) / 3) and found["kept"] == 0.75
    assert (found["before_ml"], found["after_ml"]) == pytest.approx((0.0, 2.0))


# ------------------------------------------------------------------------------------------------ the real exam


def test_the_lowest_signal_is_found_between_frames():
    seconds = np.arange(10) * 2.0
    lows = np.array([7.3, 8.0, 8.9])
    found = real.lowest_seconds(100 + (seconds - lows[:, None]) ** 2, 2.0)
    np.testing.assert_allclose(found, lows)
    assert np.isfinite(real.lowest_seconds(np.ones((1, 5)), 2.0)).all()


def test_agreement_leaves_a_common_difference_out():
    against = np.array([1.0, 2.0, 3.0])
    found = real.agreement(against + 5.0, against)
    assert (found["mean_difference"], found["centred_mae"], found["r"]) == (5.0, 0.0, pytest.approx(1.0))


# ------------------------------------------------------------------------------------------------ the study


def plan(**changes):
    how = {"cohorts": ("acute", "varied"), "subjects": 2, "changed": 1, "size": 64, "slices": 4, "varied_size": 0}
    return study.Plan(**how | {"real": ""} | changes)


def test_shards_make_every_record_once_and_what_is_there_stays(tmp_path):
    made = []
    jobs = {name: lambda name=name: made.append(name) or {"x": math.nan} for name in plan().jobs(None)}
    assert sorted(jobs) == [
        *(f"changes-{preset}-0000" for preset in ("acute", "chronic")),
        *(f"exam-{cohort}-000{number}" for cohort in ("acute", "varied") for number in (0, 1)),
    ]
    study.make(tmp_path, jobs, "1/2")
    study.make(tmp_path, jobs, "2/2")
    study.make(tmp_path, jobs, "")
    assert sorted(made) == sorted(jobs)
    assert json.loads((tmp_path / "exam-acute-0000.json").read_text())["x"] is None
    for wrong in ("3/2", "0/2", "1", "a/b"):
        with pytest.raises(InputError, match="expected K/N"):
            study.make(tmp_path, jobs, wrong)


def test_a_folder_holds_one_study(tmp_path):
    run = {"study": {"network": "abc"}, "hardware": "one"}
    assert study.hold(tmp_path / "new", run) == run
    assert study.hold(tmp_path / "new", run | {"hardware": "another"}) == run
    with pytest.raises(InputError, match="choose another folder"):
        study.hold(tmp_path / "new", run | {"study": {"network": "def"}})


def test_only_exams_that_are_drawn_keep_their_slices(tmp_path):
    names = []
    for number, both in enumerate((9.0, 3.0, 6.0, 5.0, 8.0)):
        one = exam(number, (10.0, 10.0, both)) | {"slice": {}}
        names.append(f"exam-acute-{number:04d}")
        (tmp_path / f"{names[-1]}.json").write_text(json.dumps(one))
    results = study.gathered(tmp_path, {}, [*names, "exam-acute-0009"])
    assert [one["subject"] for one in results["exams"] if "slice" in one] == [1, 2]
    again = records.shown(results["exams"])
    assert [again[title]["subject"] for title in ("median Dice", "lowest Dice")] == [2, 1]
    assert results["changes"] == [] and results["real"] is None


def test_the_page_is_made_of_records_that_lack_this_and_that():
    whose = {
        "name": "small",
        "in_words": "small 0.1.0",
        "step": 5,
        "file_bytes": 2e6,
        "card": "# small\n\n## The network\n\nlight\n",
    }
    whose |= {"software": {"jax": "1"}, "limits": {"tmax": [0.0, 12.0]}, "config": CONFIG}
    run = {"network": whose, "versions": {"jax": "1"}, "hardware": {"device": "a processor"}}
    run["study"] = {"seed": 1, "phantom": "1", "size": 64}
    refused = {"cohort": "acute", "subject": 9, "refused": "no bolus"}
    results = {"run": run, "exams": [exam(0), refused], "changes": [], "real": None}
    text = page.page(results, lambda name, _: f"![]({name})")
    assert "# The network `small`" in text and "exam 9: no bolus" in text and "Cohort acute: 1 exam\n" in text
    assert "- steps: 5 of 2 slices: 10 slices\n" in text and "A real exam" not in text
    for line in [line for line in text.splitlines() if line.startswith("|")]:
        assert line.count("|") > 3
    assert "nan" not in text


CONFIG = {
    "train": {"batch_size": 2, "learning_rate": 0.1, "decay": "cosine", "augment": False},
    "loss": {"objective": "l1", "outside_weight": 0.1},
    "phantom": {"drawn_beside": 0},
    "seed": 3,
}
