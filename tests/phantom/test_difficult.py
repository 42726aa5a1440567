"""The preset `difficult`: each kind is what it says, the truth stays the tissue's, other presets stay as they were."""

import dataclasses
import json
import pathlib

import command_line
import numpy as np
import pytest

from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.phantom import exam as exams
from dscgan_jax.phantom import varied
from dscgan_jax.phantom.acquisition import IDEAL, REAL, Imperfections
from dscgan_jax.phantom.difficult import FIRST_PASS_SECONDS, JERKS, KINDS, RANGES, Difficulty
from dscgan_jax.phantom.exam import Phantom, draw_phantom
from dscgan_jax.phantom.presets import PRESETS

MANY = 200
STILL = Imperfections(motion=False)


def drawn(seed, size=40, slices=4, imperfections=REAL) -> Phantom:
    return draw_phantom("difficult", seed, size=size, slices=slices, imperfections=imperfections)


@pytest.fixture(scope="module")
def cohort() -> dict[str, list[Phantom]]:
    """Three exams of each kind."""
    found = {kind: [] for kind in KINDS}
    for number in range(12):
        exam = drawn((3, number))
        found[exam.truth["difficulty"]].append(exam)
    return found


@pytest.fixture
def without_difficulty(monkeypatch):
    """The same person, in the same state and scanner, examined well."""

    def draw(seed, size=40, slices=4, imperfections=STILL) -> Phantom:
        easy = dataclasses.replace(PRESETS["difficult"], difficult=False, truncated_share=0.0)
        with monkeypatch.context() as patched:
            patched.setitem(exams.PRESETS, "difficult", easy)
            return drawn(seed, size, slices, imperfections)

    return draw


def _darkest(exam: Phantom) -> float:
    """Lowest signal over that before the bolus, in the voxel that holds most arterial blood."""
    course = exam.series[np.unravel_index(exam.shares["artery"].argmax(), exam.mask.shape)]
    return float(course.min() / course[:6].mean())


def test_kinds_take_turns_and_each_exam_says_which_it_is(cohort):
    assert [len(found) for found in cohort.values()] == [3] * len(KINDS)
    for number, kind in enumerate(KINDS):
        assert cohort[kind][0].truth["seed"] == [3, number]
    assert drawn(2).truth["difficulty"] == KINDS[2]  # one number is a subject's


def test_an_exam_is_the_same_person_on_another_grid_and_another_exam_another(cohort):
    for number in range(len(KINDS)):
        again, finer = (drawn((3, number), size=size, slices=4) for size in (40, 48))
        first = cohort[KINDS[number]][0]
        np.testing.assert_array_equal(first.series, again.series)
        assert first.truth["difficult"] == finer.truth["difficult"] and first.truth["motion"] == finer.truth["motion"]
        assert first.truth["anatomy"] != cohort[KINDS[number]][1].truth["anatomy"]


def test_numbers_lie_within_their_ranges_and_fill_them():
    found = {name: [] for name in RANGES if not name.startswith("jerk")}
    for number in range(MANY):
        for name, value in Difficulty(np.random.default_rng(number), number).parameters().items():
            found.get(name, []).append(value)
    for name, values in found.items():
        limits = RANGES[name]
        assert limits.low <= min(values) and max(values) <= limits.high
        assert max(values) - min(values) > 0.85 * (limits.high - limits.low), name


def test_the_head_jerks_far_several_times_and_twice_in_the_first_pass():
    counts = set()
    for number in range(0, 80, 4):
        difficulty, seconds = Difficulty(np.random.default_rng(number), number), np.arange(55) * 2.22
        motion = difficulty.motion(np.random.default_rng(number), seconds, 20.0, None)
        steps = np.abs(np.diff(motion.millimetres, axis=0)).max(axis=1) > 0
        times = seconds[1:][steps]
        counts.add(int(steps.sum()))
        assert ((times > 20.0) & (times < 20.0 + FIRST_PASS_SECONDS)).sum() >= 2
        moved = motion.millimetres.any(axis=1)
        for lengths, limits in (
            (np.linalg.norm(motion.millimetres[moved], axis=1), RANGES["jerk_mm"]),
            (np.linalg.norm(motion.degrees[moved], axis=1), RANGES["jerk_degrees"]),
        ):
            assert limits.low - 1e-5 <= lengths.min() and lengths.max() <= limits.high + 1e-5
        np.testing.assert_array_equal(motion.millimetres[:2], 0)
        assert difficulty.parameters() == {"jerks": int(steps.sum())}
    assert counts == set(range(JERKS[0], JERKS[1] + 1))


def test_only_the_kind_motion_moves_unless_it_is_asked_for(cohort):
    for kind, found in cohort.items():
        assert [exam.truth["moved"] for exam in found] == [kind == "motion"] * 3
    assert not drawn(0, size=32, slices=2, imperfections=STILL).truth["moved"]
    assert drawn(1, size=32, slices=2, imperfections=Imperfections(motion=True)).truth["moved"]


def test_no_voxel_shows_blood_alone_where_the_kind_says_so_and_some_do_elsewhere(without_difficulty):
    exam = drawn(1, size=128, slices=0, imperfections=IDEAL)
    usual = without_difficulty(1, size=128, slices=0, imperfections=IDEAL)
    assert exam.shares["artery"].max() < 0.2 < 0.6 < usual.shares["artery"].max()
    assert exam.affine[2, 2] == 5.0 and exam.series.shape[2] == 8
    # At the peak blood is black: how dark a voxel becomes says how much of it is blood.
    assert _darkest(usual) < 0.4 < 0.6 < _darkest(exam)


def test_a_truncated_exam_shows_the_peak_of_healthy_tissue_and_none_of_late_tissue(cohort, without_difficulty):
    for number, exam in zip((2, 6, 10), cohort["truncated"], strict=True):
        usual = without_difficulty((3, number))
        last = exam.arterial_seconds[-1]
        assert exam.truth["truncated"] and len(exam.arterial_seconds) < len(usual.arterial_seconds)
        late, healthy = usual.lesion > 0, usual.mask & (usual.maps["tmax"] < 2.5)
        np.testing.assert_array_equal(exam.lesion, usual.lesion)  # the tissue is the same
        for name in ("cbf", "cbv", "mtt", "tmax"):
            np.testing.assert_array_equal(exam.maps[name], usual.maps[name])
        assert np.median(usual.maps["ttp"][healthy]) < last
        assert np.mean(usual.maps["ttp"][late] > last) > 0.9
        with pytest.raises(InputError, match=r"no bolus|within the first pass"):
            Exam.from_arrays(exam.series, exam.affine, repetition_time=exam.frame_seconds)


def test_the_signal_of_a_low_contrast_exam_hardly_stands_out_from_the_noise(cohort, without_difficulty):
    for number, exam in zip((3, 7, 11), cohort["low_contrast"], strict=True):
        wanted, noise = exam.truth["difficult"]["contrast_to_noise"], exam.truth["noise_sigma"]
        clean = drawn((3, number), imperfections=IDEAL)
        usual = without_difficulty((3, number), imperfections=IDEAL)
        grey = (clean.shares["grey"] > 0.8) & (clean.lesion == 0) & clean.mask
        contrast, usually = (
            np.median(one.series[grey][:, :6].mean(axis=1) - one.series[grey].min(axis=1)) / noise
            for one in (clean, usual)
        )
        assert contrast == pytest.approx(wanted, rel=0.3)  # voxels of the cortex are not pure
        assert usually > 2.5 * contrast and usually > 7
        np.testing.assert_array_equal(exam.maps["tmax"], usual.maps["tmax"])


def test_a_whole_cohort_can_be_of_the_test_split(tmp_path):
    out = tmp_path / "cohort"
    options = ["--preset=difficult", "--subjects=5", "--size=32", "--slices=1"]
    command_line.program(
        "--mode=phantom",
        f"--output={out}",
        *options,
        "--config.data.split_fractions=(0.0, 0.0, 1.0)",
        check=True,
    )
    rows = (out / "participants.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[1] for row in rows] == ["test"] * 5
    kinds = [json.loads(path.read_text())["difficulty"] for path in sorted(out.glob("*/perf/*_truth.json"))]
    assert kinds == [*KINDS, KINDS[0]]


def test_the_page_of_the_phantom_lists_every_range_with_its_source():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "phantom.md"
    assert varied.range_table(RANGES) in page.read_text(encoding="utf-8")
    assert all(one.source for one in RANGES.values())
