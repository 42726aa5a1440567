"""Five maps of drawn exams against their truth; what is given, found, refused and written down."""

import dataclasses
import json

import fits
import numpy as np
import pytest
from scipy import ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import conventional, kinetics, motion, parametric
from dscgan_jax.perfusion.conventional import ConventionalMaps, Settings, conventional_maps, invert
from dscgan_jax.perfusion.measurement import Given, Measured, measure
from dscgan_jax.perfusion.parametric import FitSettings
from dscgan_jax.phantom.acquisition import IDEAL, REAL
from dscgan_jax.phantom.exam import Phantom, draw_phantom

STROKE = 10  # a seed with an occlusion and a core
NAMES = ("cbf", "cbv", "mtt", "tmax", "ttp")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with fits.small_blocks_and_tables_once():
        yield


@pytest.fixture(scope="module")
def exam() -> Phantom:
    """Noise, drift, non-steady-state frames and pulsation; six slices."""
    return draw_phantom("acute", STROKE, size=64, slices=6)


@pytest.fixture(scope="module")
def measured(exam) -> Measured:
    """With the true mask and AIF."""
    return measure(*fits.arguments(exam), given=fits.truth(exam))


@pytest.fixture(scope="module")
def usual(measured) -> ConventionalMaps:
    return invert(measured, chosen())


@pytest.fixture(scope="module")
def slab(exam) -> Measured:
    """One slice: what a change of settings is tried on."""
    tissue = exam.mask & (np.arange(6) == 3)
    return measure(*fits.arguments(exam), given=dataclasses.replace(fits.truth(exam), tissue=tissue))


@pytest.fixture(scope="module")
def fitted(measured) -> ConventionalMaps:
    """With the shape of the transit times that suits the exam."""
    return invert(measured)


def chosen(**changes) -> Settings:
    """Settings with one shape of the transit times, whose search takes time."""
    return Settings(**{"fit": FitSettings(transit_shape=2.0), **changes})


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def differs(one: ConventionalMaps, other: ConventionalMaps, name: str) -> float:
    """Median change of a map over its median size."""
    tissue = other.measured.tissue
    return float(
        np.median(np.abs(one.maps[name] - other.maps[name])[tissue]) / np.median(np.abs(other.maps[name][tissue]))
    )


def assert_same(one: np.ndarray, other: np.ndarray):
    """Within 1 % in 95 % of the voxels: rounding shifts where the last steps of the fit end."""
    difference = np.abs(one - other) / np.median(np.abs(other))
    assert np.quantile(difference, 0.95) < 0.01 and difference.max() < 0.5


# --------------------------------------------------------------------------------------------- against truth


@pytest.fixture(scope="module")
def ideal() -> tuple[Phantom, ConventionalMaps]:
    """Pure kinetics, with the true mask and AIF."""
    exam = draw_phantom("acute", STROKE, size=64, slices=6, imperfections=IDEAL)
    return exam, conventional_maps(*fits.arguments(exam), chosen(scale="none"), fits.truth(exam))


def test_pure_kinetics_come_back(ideal):
    """Voxels mix tissues and the drawn residue is not the fitted one: hence the margins of CBF, MTT and Tmax."""
    exam, result = ideal
    assert (result.measured.tissue == exam.mask).all()
    error = {name: (result.maps[name] - exam.maps[name])[exam.mask] for name in NAMES}
    share = {name: np.abs(error[name] / exam.maps[name][exam.mask]) for name in NAMES}
    assert np.median(share["cbv"]) < 0.01 and np.quantile(share["cbv"], 0.9) < 0.03
    assert np.median(share["cbf"]) < 0.1 and np.median(share["mtt"]) < 0.1
    assert np.median(np.abs(error["tmax"])) < 0.4 and np.median(np.abs(error["ttp"])) < 0.1
    assert dice(result.maps["tmax"] > 6, exam.lesion > 0) > 0.9


def test_pure_kinetics_come_back_in_every_voxel(ideal):
    exam, result = ideal
    share = np.abs(result.maps["cbf"] / np.maximum(exam.maps["cbf"], 1e-3) - 1)[exam.mask]
    assert np.quantile(share, 0.99) < 0.5


def test_a_real_exam_with_true_mask_and_curve(exam, measured):
    result = invert(measured, chosen(scale="none"))
    error = {name: (result.maps[name] - exam.maps[name])[exam.mask] for name in NAMES}
    share = {name: np.median(np.abs(error[name] / exam.maps[name][exam.mask])) for name in NAMES}
    assert share["cbf"] < 0.15 and share["cbv"] < 0.08 and share["mtt"] < 0.15
    assert np.median(np.abs(error["tmax"])) < 0.4 and np.median(np.abs(error["ttp"])) < 0.3
    assert dice(result.maps["tmax"] > 6, exam.lesion > 0) > 0.88
    raw = invert(measured, chosen(method="osvd", scale="none"))
    late = np.median((raw.maps["tmax"] - exam.maps["tmax"])[exam.mask])
    assert late > 1.0  # why Tmax of the SVD methods is offered with an offset


@pytest.mark.slow
def test_without_a_user():
    """Enough slices to hold the arteries at the base."""
    exam = draw_phantom("acute", 3, size=96, slices=16)
    result = conventional_maps(*fits.arguments(exam))
    assert result.measured.arterial.source == "auto" and result.measured.arterial.n_voxels > 0
    assert dice(result.measured.tissue, exam.mask) > 0.92
    assert dice(result.maps["tmax"] > 6, exam.lesion > 0) > 0.8
    white = result.measured.tissue & (exam.shares["white"] > 0.9) & (exam.maps["tmax"] < 4)
    assert np.median(result.maps["cbf"][white]) == pytest.approx(conventional.WHITE_MATTER_CBF, rel=0.15)


def test_maps_lie_in_the_tissue_and_are_finite(exam, usual):
    assert tuple(usual.maps) == NAMES
    for name, volume in usual.maps.items():
        assert volume.shape == exam.mask.shape and volume.dtype == np.float32, name
        assert np.isfinite(volume).all() and not volume[~exam.mask].any(), name
        assert name == "tmax" or (volume >= 0).all()
    inside = {name: volume[exam.mask & (usual.maps["cbf"] > 0)] for name, volume in usual.maps.items()}
    np.testing.assert_allclose(inside["mtt"], 60 * inside["cbv"] / inside["cbf"], rtol=1e-4)


@pytest.mark.parametrize("method", ["osvd", "csvd", "ssvd"])
def test_every_method_gives_the_same_five_maps(slab, method):
    result = invert(slab, chosen(method=method))
    assert tuple(result.maps) == NAMES
    for volume in result.maps.values():
        assert np.isfinite(volume).all() and volume[slab.tissue].any() and not volume[~slab.tissue].any()
    assert (result.maps["cbv"] >= 0).all() and (result.maps["mtt"] >= 0).all()
    upside_down = invert(dataclasses.replace(slab, curves=-slab.curves), chosen(method=method, scale="none"))
    assert not upside_down.maps["cbv"].any() and not upside_down.maps["mtt"].any()


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "base", "name"),
    [
        ({"method": "osvd"}, {}, "cbf"),
        ({"method": "csvd"}, {"method": "osvd"}, "cbf"),
        ({"method": "ssvd"}, {"method": "csvd"}, "cbf"),
        ({"scale": "none"}, {}, "cbf"),
        ({"scale": 3.0}, {"scale": "none"}, "cbv"),
        ({"tmax_offset": "healthy"}, {"method": "osvd"}, "tmax"),
        ({"tmax_offset": "healthy"}, {}, "tmax"),
        ({"truncation_threshold": 0.3}, {"method": "csvd", "scale": "none"}, "cbf"),
        ({"truncation_threshold": 0.4}, {"method": "ssvd", "scale": "none"}, "cbf"),
        ({"oscillation_index": 0.1}, {"method": "osvd", "scale": "none"}, "cbf"),
        ({"neighbourhood_mm": 0.0}, {}, "tmax"),
        ({"neighbourhood_mm": 20.0}, {}, "tmax"),
        ({"fit": FitSettings(transit_shape=1.0)}, {"scale": "none"}, "cbf"),
        ({"fit": FitSettings(transit_shape=2.0, dispersion=False)}, {}, "tmax"),
        ({"fit": FitSettings(transit_shape=2.0, mtt_seconds=12.0, mtt_spread=0.1)}, {}, "mtt"),
        ({"fit": FitSettings(transit_shape=2.0, neighbour_delay_spread=2.0)}, {}, "tmax"),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
def test_every_setting_has_an_effect(slab, change, base, name):
    one, other = invert(slab, chosen(**{**base, **change})), invert(slab, chosen(**base))
    assert differs(one, other, name) > 0.01


def test_the_settings_of_the_fit_reach_it(slab, monkeypatch):
    asked = {}

    def fit(*arguments, **how):
        asked.update(how)
        raise InterruptedError

    monkeypatch.setattr(parametric, "fit", fit)
    settings = chosen(fit=FitSettings(transit_shape=2.0, delay_seconds=3.0), neighbourhood_mm=7.0)
    with pytest.raises(InterruptedError):
        invert(slab, settings)
    assert asked["settings"] is settings.fit and asked["neighbourhood_mm"] == 7.0
    assert asked["first_frame"] == slab.timing.baseline_begin > 0  # non-steady-state frames do not count


def test_a_factor_multiplies_cbf_and_cbv_alone(slab):
    once, thrice = invert(slab, chosen(scale="none")), invert(slab, chosen(scale=3.0))
    assert (once.scale_factor, thrice.scale_factor) == (1.0, 3.0)
    for name, factor in zip(NAMES, (3, 3, 1, 1, 1)):
        np.testing.assert_allclose(thrice.maps[name], factor * once.maps[name], rtol=1e-6)


@pytest.mark.parametrize("method", ["parametric", "osvd"])
def test_white_matter_gets_its_reference_flow(exam, measured, method):
    result = invert(measured, chosen(method=method))
    white = exam.mask & (exam.shares["white"] > 0.9) & (exam.maps["tmax"] < 4)
    assert np.median(result.maps["cbf"][white]) == pytest.approx(22.0, rel=0.15)
    assert result.scale_factor != 1.0


@pytest.mark.parametrize("method", ["osvd", "csvd"])
def test_cbv_of_an_svd_method_has_the_factor_of_the_fit(exam, measured, usual, fitted, method):
    """That of its CBF makes up for regularisation too, which takes nothing from CBV."""
    result = invert(measured, chosen(method=method))
    cbv, truth = result.maps["cbv"][measured.tissue], exam.maps["cbv"][measured.tissue]
    error = np.abs(cbv - truth).mean()
    assert error < 0.5 * np.abs(cbv * result.scale_factor / result.volume_factor - truth).mean()
    assert np.median(cbv) == pytest.approx(np.median(fitted.maps["cbv"][measured.tissue]), rel=0.1)
    assert np.median(cbv) == pytest.approx(np.median(truth), rel=0.15)  # of few voxels the shape is known to a fifth
    assert result.volume_factor < 0.9 * result.scale_factor and usual.volume_factor == usual.scale_factor
    flows = measured.tissue & (result.maps["cbf"] > 0)
    cbf, cbv, mtt = (result.maps[name][flows] for name in ("cbf", "cbv", "mtt"))
    np.testing.assert_allclose(mtt, 60 * cbv / cbf, rtol=1e-4)
    factors = result.record()["ScaleFactor"], result.record()["VolumeScaleFactor"]
    assert factors == pytest.approx((result.scale_factor, result.volume_factor), abs=1e-5)


@pytest.mark.slow
def test_a_curve_that_is_late_or_tissues_own_is_told(exam, measured):
    def doubts(given: Given) -> set[str]:
        result = invert(measure(*fits.arguments(exam), given=given), chosen(neighbourhood_mm=0.0))
        return {finding.name for finding in result.findings if finding.severity == "warning"}

    true = fits.truth(exam)
    assert not {name for name in doubts(true) if name.startswith("arterial")}
    seconds, curve = true.arterial_seconds, true.arterial_mm
    assert seconds is not None and curve is not None
    late = dataclasses.replace(true, arterial_mm=np.interp(seconds - 2.0, seconds, curve))
    assert "arterial_late" in doubts(late)
    early = dataclasses.replace(true, arterial_mm=np.interp(seconds + 3.0, seconds, curve))
    assert "arterial_early" in doubts(early) and "arterial_early" not in doubts(true)
    grey = (exam.shares["grey"] > 0.9) & (exam.maps["tmax"] < 3)
    assert {"arterial_late", "arterial_low"} <= doubts(Given(tissue=true.tissue, arterial_mask=grey))


def test_too_little_white_matter_is_not_scaled_and_said(exam):
    few = exam.mask & (np.arange(64) < 24)[:, None, None] & (np.arange(6) == 0)
    assert few.sum() > 30
    few.ravel()[np.flatnonzero(few)[60:]] = False
    result = invert(measure(*fits.arguments(exam), given=dataclasses.replace(fits.truth(exam), tissue=few)), chosen())
    assert result.scale_factor == 1.0
    assert any("could be healthy white matter: CBF and CBV were not scaled" in note.text for note in result.findings)


@pytest.mark.parametrize("method", ["parametric", "osvd"])
def test_the_healthy_offset_moves_tmax_as_a_whole(measured, method):
    raw, moved = (invert(measured, chosen(method=method, tmax_offset=offset)) for offset in ("none", "healthy"))
    tissue = measured.tissue
    np.testing.assert_allclose((moved.maps["tmax"] - raw.maps["tmax"])[tissue], moved.tmax_shift_seconds, atol=1e-4)
    assert raw.tmax_shift_seconds == 0.0
    counts, edges = np.histogram(moved.maps["tmax"][tissue], np.arange(-3.0, 15.0, 0.8) + 0.4)
    assert abs(edges[counts.argmax()] + 0.4 - conventional.HEALTHY_TMAX_SECONDS) <= 0.8


@pytest.mark.slow
def test_motion_is_corrected_where_it_is_asked_for():
    exam = draw_phantom("acute", 3, size=64, slices=6, imperfections=dataclasses.replace(REAL, motion=True))
    still, moving = (measure(*fits.arguments(exam), realign=how, given=fits.truth(exam)) for how in ("rigid", "none"))
    assert still.realignment.moved and moving.realignment is None
    assert any("frames were realigned: the head moved by up to" in note.text for note in still.findings)
    inverted = [invert(which, chosen(scale="none")) for which in (still, moving)]
    for name, share in (("cbf", 0.85), ("mtt", 0.65), ("tmax", 0.6)):
        errors = [np.abs(fitted.maps[name] - exam.maps[name])[exam.mask].mean() for fitted in inverted]
        assert errors[0] < share * errors[1], name
    said = inverted[0].record()["Motion"]
    assert said["ResampledFrames"] == still.realignment.resampled.sum() and said["LargestDegrees"] > 1.0
    assert "Motion" not in inverted[1].record()


def test_the_setting_of_motion_reaches_the_measurement(exam, slab, monkeypatch):
    asked = []
    monkeypatch.setattr(motion, "realign", lambda series, affine: asked.append(series) or _still(series))
    given = dataclasses.replace(fits.truth(exam), tissue=slab.tissue)
    results = [
        conventional_maps(*fits.arguments(exam), chosen(method="csvd", motion=how), given) for how in ("none", "rigid")
    ]
    assert len(asked) == 1 and results[1].measured.realignment is not None
    np.testing.assert_array_equal(results[0].maps["tmax"], results[1].maps["tmax"])  # nothing moved
    assert not any("realigned" in note.text for note in results[1].findings)


def _still(series) -> motion.Realignment:
    count = series.shape[-1]
    return motion.Realignment(
        series,
        np.tile(np.eye(4), (count, 1, 1)),
        np.zeros((count, 3)),
        np.zeros((count, 3)),
        np.zeros(3),
        np.zeros(count, bool),
        False,
    )


BAD = [
    ("method", "tikhonov"),
    ("motion", "yes"),
    ("tmax_offset", "2"),
    ("scale", "auto"),
    ("scale", 0.0),
    ("scale", -1.0),
    ("scale", float("nan")),
    ("scale", float("inf")),
    ("truncation_threshold", -0.1),
    ("truncation_threshold", 1.0),
    ("truncation_threshold", float("nan")),
    ("oscillation_index", 0.0),
    ("oscillation_index", float("nan")),
    ("neighbourhood_mm", -1.0),
    ("neighbourhood_mm", float("nan")),
    ("fit", FitSettings(transit_shape=-1.0)),
    ("fit", FitSettings(transit_shape=float("nan"))),
    ("fit", FitSettings(transit_shape=float("inf"))),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: getattr(value, "transit_shape", value))
def test_bad_settings_are_refused_in_one_line(name, value):
    with pytest.raises(InputError) as refused:
        Settings(**{name: value})
    text = str(refused.value)
    assert "\n" not in text and "must be" in text
    assert ("transit_shape" if name == "fit" else name) in text


# ----------------------------------------------------------------------------------------- unknown echo time


@pytest.mark.slow
def test_without_echo_time_timing_stays_and_flow_is_relative(exam, slab):
    series, artery = fits.with_artery(exam, slab.tissue)
    given = Given(tissue=slab.tissue, arterial_mask=artery)
    known, unknown = (
        conventional_maps(series, exam.affine, exam.frame_seconds, te, chosen(scale="none"), given)
        for te in (exam.echo_seconds, float("nan"))
    )
    assert unknown.measured.relative and unknown.record()["RelativeUnits"]
    assert any("echo time is unknown" in note.text for note in unknown.findings)
    assert not any("echo time" in note.text for note in known.findings)
    for settings in (chosen(scale="none"), chosen(), chosen(method="csvd")):
        one, other = invert(known.measured, settings), invert(unknown.measured, settings)
        for name in NAMES:  # tissue and artery lose the same factor
            assert_same(other.maps[name][slab.tissue], one.maps[name][slab.tissue])


@pytest.mark.slow
def test_a_curve_in_mm_needs_the_echo_time_or_a_reference(exam, slab):
    given = dataclasses.replace(fits.truth(exam), tissue=slab.tissue)
    without = (exam.series, exam.affine, exam.frame_seconds, float("nan"))
    for scale in ("none", 2.0):
        with pytest.raises(InputError, match="needs the echo time; give --te= in seconds, or --scale=reference_wm"):
            conventional_maps(*without, chosen(scale=scale), given)
    relative, known = conventional_maps(*without, chosen(), given), invert(slab, chosen())
    assert relative.scale_factor != pytest.approx(known.scale_factor, rel=0.5)
    for name in NAMES:
        assert_same(relative.maps[name][slab.tissue], known.maps[name][slab.tissue])


# ------------------------------------------------------------------------------------------------ written down


def test_the_record_is_plain_and_complete(usual):
    record = json.loads(json.dumps(usual.record(), allow_nan=False))
    assert set(record["Constants"]) == set(kinetics.CONSTANTS)
    for name, constant in record["Constants"].items():
        assert constant["Value"] == kinetics.CONSTANTS[name].value and constant["Unit"] and constant["Source"]
    assert record["ArterialInput"]["Source"] == "curve" and record["ArterialInput"]["WidthSeconds"] > 0
    assert record["ScaleFactor"] == pytest.approx(usual.scale_factor, abs=1e-5)
    assert record["Timing"]["peak_frame"] == usual.measured.timing.peak_frame
    assert record["RelativeUnits"] is False
    assert record["TransitShape"] == usual.transit_shape == 2.0


def test_what_is_not_known_is_null_in_the_record(usual):
    arterial = dataclasses.replace(usual.measured.arterial, width_seconds=float("nan"), arrival_seconds=float("nan"))
    unknown = dataclasses.replace(usual, measured=dataclasses.replace(usual.measured, arterial=arterial))
    record = json.loads(json.dumps(unknown.record(), allow_nan=False))
    assert record["ArterialInput"]["WidthSeconds"] is None and record["ArterialInput"]["ArrivalSeconds"] is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["parametric", "osvd"])
def test_an_infarct_without_flow_is_as_late_as_what_still_flows_beside_it(exam, method):
    lesion = exam.lesion > 0
    dead = ndimage.binary_erosion(lesion, np.ones((3, 3, 1)))
    series, rng = exam.series.astype(np.float32), np.random.default_rng(0)
    level = np.median(series[exam.mask][:, 2:7])
    series[dead] = level * (1 + rng.normal(0, 0.02, (dead.sum(), series.shape[-1])))
    found = invert(measure(*fits.arguments(exam, series), given=fits.truth(exam)), chosen(method=method))
    late = found.maps["tmax"] > 6
    assert dead.sum() > 50 and late[dead].mean() > 0.9
    assert late[exam.mask & ~lesion].mean() < 0.1
