"""Whatever lies around the brain, a network that sees nothing outside it is given the same."""

import dataclasses

import exams
import numpy as np
import pytest

from dscgan_jax import settings
from dscgan_jax.configs import default, temp_tmax
from dscgan_jax.data.grid import nearest_on_network
from dscgan_jax.data.preparation import PreparationSettings, prepare
from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import brain, morphology
from dscgan_jax.phantom.exam import draw_phantom

ZERO = PreparationSettings(64, 0, 64, "seconds", 1.25, "hold", lead_seconds=12.0, outside_brain="zero")
OTHER_GRID = dataclasses.replace(ZERO, size=80, slices=4)


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom("acute", (31, 2), size=64, slices=6)


@pytest.fixture(scope="module")
def places(phantom):
    """Where brain, air and scalp are, (x, y, z) bool each, and the signal of the brain."""
    level = phantom.truth["brain_signal"]
    edges = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    whole = brain.with_fluid_spaces(phantom.mask, edges)
    head = morphology.filled(np.median(phantom.series[..., 1:8], axis=-1) > 0.2 * level)
    scalp = head & (morphology.depth_mm(~whole, edges) > 6.0)
    for name in ("grey", "white", "csf", "sinus"):
        scalp &= phantom.shares[name] < 0.02
    return {"brain": whole, "air": ~head, "scalp": scalp, "level": level}


def exam_of(phantom, series=None, mask=None, source="file"):
    """The exam of a phantom, with another series or mask where given; its bolus is found again."""
    series = phantom.series.astype(np.float32) if series is None else series
    mask = phantom.mask if mask is None else mask
    return exams.exam_of(series, mask, phantom.affine, frame_seconds=phantom.frame_seconds, mask_source=source)


def lone(phantom, series):
    """The exam as somebody brings it who has neither mask nor maps."""
    return exam_of(phantom, series, brain.brain_mask(series, phantom.affine).tissue, "threshold")


def edges_mm(phantom):
    return np.linalg.norm(phantom.affine[:3, :3], axis=0)


def test_a_dent_of_the_found_brain_is_shown_all_the_same(phantom):
    whole = brain.brain_mask(phantom.series, phantom.affine).brain
    dented = whole.copy()
    slab = np.flatnonzero(whole[:, 32, 3])
    dented[slab[-3:], 28:34, 3] = False  # 11 mm deep, 22 mm wide: an infarct at the surface
    filled = brain.without_notches(dented, edges_mm(phantom))
    assert (whole & ~filled).sum() < 0.5 * (whole & ~dented).sum()
    assert (filled & ~whole).sum() < 0.01 * whole.sum()


def relative(prepared):
    """(slice, time, row, col) signal over the brain's."""
    return prepared.dsc * np.float32(prepared.dsc_scale / prepared.brain_signal)


def changed(phantom, places, how):
    """The series with other surroundings."""
    series, rng = phantom.series.astype(np.float32), np.random.default_rng(0)
    strength = 0.12 * places["level"]
    noise = np.hypot(*rng.normal(0, strength, (2, *series.shape))).astype(np.float32)
    return {
        "constant": np.where(places["air"][..., None], np.float32(strength), series),
        "noise": np.where(places["air"][..., None], noise, series),
        "empty": np.where(places["air"][..., None], np.float32(0), series),
        "bright spots": np.where(
            (places["air"] & (rng.random(places["air"].shape) < 0.005))[..., None], np.float32(1e4 * np.pi), series
        ),
    }[how]


@pytest.mark.slow
@pytest.mark.parametrize("settings_", [ZERO, OTHER_GRID], ids=["own grid", "other grid"])
@pytest.mark.parametrize("how", ["constant", "noise", "empty", "bright spots"])
def test_the_network_is_given_the_same_bit_by_bit_whatever_the_air_is(phantom, places, how, settings_):
    series = changed(phantom, places, how)
    assert (series != phantom.series).any()
    for given in (lambda series: exam_of(phantom, series), lambda series: lone(phantom, series)):
        before, after = prepare(given(phantom.series.astype(np.float32)), settings_), prepare(given(series), settings_)
        np.testing.assert_array_equal(after.dsc, before.dsc)
        assert (after.dsc_scale, after.brain_signal) == (before.dsc_scale, before.brain_signal)
        assert (after.baseline_begin, after.baseline_end) == (before.baseline_begin, before.baseline_end)
    kept = dataclasses.replace(settings_, outside_brain="keep")
    assert (prepare(exam_of(phantom, series), kept).dsc != prepare(exam_of(phantom), kept).dsc).any()


def test_a_gain_of_a_thousand_changes_nothing_but_rounding(phantom):
    plain, loud = prepare(exam_of(phantom), ZERO), prepare(exam_of(phantom, phantom.series * np.float32(1000)), ZERO)
    np.testing.assert_allclose(relative(loud), relative(plain), atol=1e-3)
    assert loud.brain_signal == pytest.approx(1000 * plain.brain_signal, rel=1e-3)


@pytest.mark.slow
def test_bright_scalp_is_not_shown_but_for_a_few_voxels_that_it_shares(phantom, places):
    assert places["scalp"].sum() > 1000
    series = phantom.series * np.where(places["scalp"], np.float32(3), np.float32(1))[..., None]
    plain, bright = prepare(exam_of(phantom), ZERO), prepare(exam_of(phantom, series), ZERO)
    assert (plain.brain ^ bright.brain).sum() <= 0.003 * plain.brain.sum()
    different = (np.abs(relative(plain) - relative(bright)) > 2e-3).any(axis=1)
    assert different.sum() <= 0.003 * plain.brain.sum()


def test_of_a_stripped_exam_the_same_brain_is_shown_but_for_its_rim_of_fluid(phantom, places):
    plain = prepare(exam_of(phantom), ZERO)
    stripped = prepare(lone(phantom, phantom.series * places["brain"][..., None].astype(np.float32)), ZERO)
    assert (plain.brain ^ stripped.brain).sum() < 0.03 * plain.brain.sum()  # measured: 1.5-2.7 %
    assert (phantom.mask & ~stripped.brain).sum() < 0.002 * phantom.mask.sum()
    both = nearest_on_network(
        plain.brain & stripped.brain & places["brain"], plain.grid
    )  # filled dents were stripped too
    shown = [np.moveaxis(relative(one), 1, -1)[both] for one in (plain, stripped)]
    np.testing.assert_allclose(shown[0], shown[1], rtol=0.02, atol=2e-3)


def test_outside_the_brain_is_zero_and_the_brain_is_the_one_of_the_series_not_of_the_mask(phantom):
    half = phantom.mask & (np.arange(64) < 32)[:, None, None]
    for mask in (phantom.mask, half, np.ones_like(phantom.mask)):
        prepared = prepare(exam_of(phantom, mask=mask), ZERO)
        found = brain.brain_mask(phantom.series, phantom.affine).brain
        np.testing.assert_array_equal(prepared.brain, brain.without_notches(found, edges_mm(phantom)))
        outside = ~nearest_on_network(prepared.brain, prepared.grid)
        assert not np.moveaxis(prepared.dsc, 1, -1)[outside].any()
        assert prepared.brain_signal == pytest.approx(phantom.truth["brain_signal"], rel=0.15)
    assert prepare(exam_of(phantom), dataclasses.replace(ZERO, outside_brain="keep")).brain is None


def test_nearly_all_tissue_is_shown(phantom):
    assert (phantom.mask & ~prepare(exam_of(phantom), ZERO).brain).sum() <= 0.002 * phantom.mask.sum()


def test_a_mask_found_in_the_series_is_not_looked_for_twice(phantom, monkeypatch):
    exam = lone(phantom, phantom.series.astype(np.float32))
    expected = prepare(dataclasses.replace(exam, mask_source="file"), ZERO)
    monkeypatch.setattr(brain, "brain_mask", lambda *_: pytest.fail("looked for again"))
    np.testing.assert_array_equal(prepare(exam, ZERO).dsc, expected.dsc)


def test_where_no_brain_is_found_the_given_mask_tells_it_and_a_note_says_so(phantom, monkeypatch):
    def nothing(*_):
        raise InputError("no brain found: no tissue that the bolus passes; check that this is a head.")

    monkeypatch.setattr(brain, "brain_mask", nothing)
    prepared = prepare(exam_of(phantom), ZERO)
    whole = brain.with_fluid_spaces(phantom.mask, edges_mm(phantom))
    np.testing.assert_array_equal(prepared.brain, brain.without_notches(whole, edges_mm(phantom)))
    told = [finding for finding in prepared.findings if finding.name == "brain_from_mask"]
    assert [finding.severity for finding in told] == ["note"] and "no tissue that the bolus passes" in told[0].text


def test_another_word_is_refused():
    with pytest.raises(InputError, match=r"config.data.outside_brain is 'blur'; it must be one of keep, zero"):
        dataclasses.replace(ZERO, outside_brain="blur")
    config = default.get_config()
    config.data.outside_brain = "blur"
    with pytest.raises(InputError, match=r"config.data.outside_brain is 'blur'"):
        settings.check(config)


def test_the_air_is_hidden_by_default_but_not_from_the_published_network_nor_from_older_ones(tmp_path):
    assert [default.get_config(variant).data.outside_brain for variant in (None, "demo", "published")] == [
        "zero",
        "zero",
        "keep",
    ]
    older = settings.to_json(temp_tmax.get_config("demo"))
    del older["data"]["outside_brain"]
    assert settings.from_json(older, default.get_config()).data.outside_brain == "keep"
    with pytest.raises(
        InputError, match=r"data.outside_brain='keep', this one has 'zero'; .*--config.data.outside_brain=keep"
    ):
        settings.check_same_run(older, temp_tmax.get_config("demo"), tmp_path)
    as_before = temp_tmax.get_config("demo")
    as_before.data.outside_brain = "keep"
    settings.check_same_run(older, as_before, tmp_path)
