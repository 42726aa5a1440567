"""Augmentation: each change is one that another exam could have had, and truth changes with it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.data.batch import Batch
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.settings import CORNER, CORNERS
from dscgan_jax.training import augment, changes

TTP, TMAX = MAP_NAMES.index("ttp"), MAP_NAMES.index("tmax")
FRAMES, SIZE, STEP = 40, 16, 1.25
KEY = jax.random.key(0)


def world(n=3) -> Batch:
    """A bolus that is darkest 10 frames after frame 8, in a brain of 10 x 10 pixels; nothing around it."""
    rng = np.random.default_rng(0)
    mask = np.zeros((n, SIZE, SIZE), bool)
    mask[:, 3:13, 2:12] = True
    curve = 1000 - 400 * np.exp(-(((np.arange(FRAMES) - 18) / 4.0) ** 2))
    gain = rng.uniform(0.8, 1.2, (n, 1, SIZE, SIZE))
    dsc = np.rint(curve[None, :, None, None] * gain * mask[:, None])
    maps = np.where(mask[..., None], rng.uniform(1, 5, (n, SIZE, SIZE, 5)), 0)
    maps[..., TTP] = np.where(mask, 18 * STEP, 0)

    def same(value, dtype):
        return np.full(n, value, dtype)

    return Batch(
        dsc.astype(np.float32),
        dsc_scale=same(0.5, np.float32),
        baseline_begin=same(0, np.int32),
        baseline_end=same(8, np.int32),
        brain_signal=same(500.0, np.float32),
        echo_seconds=same(0.03, np.float32),
        maps=maps.astype(np.float32),
        has_map=np.ones((n, 5), bool),
        mask=mask,
    )


def one() -> Batch:
    return jax.tree.map(lambda values: jnp.asarray(values[0]), world())


def darkest(slice_: Batch) -> int:
    return int(np.argmin(np.asarray(slice_.dsc).sum(axis=(1, 2))))


def test_a_mirror_exchanges_left_and_right_of_all_there_is_and_twice_is_nothing():
    before = one()
    after = changes.mirrored(before)
    np.testing.assert_array_equal(after.dsc, before.dsc[:, :, ::-1])
    np.testing.assert_array_equal(after.maps[..., TMAX], before.maps[:, ::-1, TMAX])
    np.testing.assert_array_equal(after.mask, before.mask[:, ::-1])
    jax.tree.map(np.testing.assert_array_equal, changes.mirrored(after), before)


@pytest.mark.slow
def test_noise_has_the_share_of_the_brains_signal_and_leaves_what_is_zero():
    before = one()
    after = changes.with_noise(before, jax.random.key(0), 0.05)
    noise = (np.asarray(after.dsc) - before.dsc) * before.dsc_scale
    assert noise[:, before.mask].std() == pytest.approx(0.05 * 500, rel=0.05)
    assert (noise[:, ~before.mask] == 0).all()
    np.testing.assert_array_equal(after.maps, before.maps)


@pytest.mark.parametrize("frames", [-2, 3])
def test_a_delay_moves_bolus_baseline_and_ttp_together_and_nothing_else(frames):
    before = one()
    after = changes.delayed(before, frames, STEP)
    assert darkest(after) == darkest(before) + frames
    assert int(after.baseline_end) == 8 + frames
    np.testing.assert_allclose(after.maps[..., TTP][before.mask], (18 + frames) * STEP)
    assert (np.asarray(after.maps)[..., TTP][~before.mask] == 0).all()
    np.testing.assert_array_equal(after.maps[..., :TTP], before.maps[..., :TTP])


def test_a_delay_never_leaves_an_exam_without_baseline():
    before = one()
    after = changes.delayed(before, -20, STEP)
    assert 0 <= int(after.baseline_begin) < int(after.baseline_end)


def test_a_stopped_scan_holds_its_last_frame_and_ttp_lies_within_it():
    before = one()
    after = changes.stopped(before, 30, STEP)
    np.testing.assert_array_equal(after.dsc[31:], np.broadcast_to(before.dsc[30], after.dsc[31:].shape))
    np.testing.assert_array_equal(after.dsc[:31], before.dsc[:31])
    np.testing.assert_array_equal(after.maps, before.maps)
    cut = changes.stopped(before, 12, STEP)
    np.testing.assert_allclose(cut.maps[..., TTP][before.mask], 12 * STEP)
    assert darkest(cut) == 12


def test_a_spoilt_frame_is_the_mean_of_its_neighbours():
    before = one()
    after = changes.with_spoilt_frame(before, 17)
    np.testing.assert_allclose(after.dsc[17], (before.dsc[16] + before.dsc[18]) / 2)
    np.testing.assert_array_equal(np.delete(after.dsc, 17, axis=0), np.delete(before.dsc, 17, axis=0))


def test_a_crop_cuts_series_maps_and_mask_at_the_same_place():
    before = one()
    after = changes.cropped(before, 2, 1, 12)
    np.testing.assert_array_equal(after.dsc, before.dsc[:, 2:14, 1:13])
    np.testing.assert_array_equal(after.maps, before.maps[2:14, 1:13])
    np.testing.assert_array_equal(after.mask, before.mask[2:14, 1:13])


@pytest.mark.slow
def test_a_crop_keeps_the_corners_where_curves_of_the_exam_lie():
    whole, (near, far) = one(), CORNERS
    dsc = whole.dsc
    for row in CORNERS:
        for col in CORNERS:
            dsc = dsc.at[:, row, col].set(300.0)
    whole = dataclasses.replace(whole, dsc=dsc)
    cut = changes.cropped(whole, 2, 1, 12)
    kept = changes.with_corners_of(cut, whole)
    for row in CORNERS:
        assert (kept.dsc[:, row, near] == 300).all() and (kept.dsc[:, row, far] == 300).all()
    np.testing.assert_array_equal(kept.dsc[:, CORNER:-CORNER], cut.dsc[:, CORNER:-CORNER])
    seen = [
        augment.augmented(world(), KEY, frame_seconds=STEP, crop=12, corners=corners).dsc for corners in (True, False)
    ]
    assert (seen[0][:, :, :2, :2] == 0).all() and not np.array_equal(*seen)


def test_a_crop_lies_around_the_brain(monkeypatch):
    monkeypatch.setattr(augment, "JITTER", 0)
    assert [int(place) for place in augment._corner(one().mask, jax.random.key(0), 11)] == [2, 1]
    empty = np.zeros((SIZE, SIZE), bool)
    assert [int(place) for place in augment._corner(empty, jax.random.key(0), 11)] == [2, 2]


def with_curves(before: Batch, aif, mean) -> Batch:
    """Curves of ΔR2* over the peak of the AIF in the corners, as they are shown."""
    dsc = jnp.asarray(before.dsc)
    for band, curve in zip(CORNERS, (aif, mean), strict=True):
        for col in CORNERS:
            dsc = dsc.at[:, band, col].set(jnp.asarray(1000 * (1 - 0.5 * curve))[:, None, None])
    return dataclasses.replace(before, dsc=dsc)


def tissue(flow, mtt, delay, pace=1.0, width=2.0):
    """ΔR2* of a tissue and AIF at each frame, by brute force: all times are `pace` times as long about frame 8."""
    fine, step = np.arange(0, FRAMES - 1, 0.01), 0.01 * STEP
    seconds = (fine - 8) * STEP
    aif = np.where(seconds > 0, seconds / (width * pace), 0) ** 2 * np.exp(-np.maximum(seconds, 0) / (width * pace))
    residue = np.where(seconds >= delay * pace, np.exp(-(seconds - delay * pace) / (mtt * pace)), 0)
    residue = residue[fine >= 8]
    curve = (flow / pace) * np.convolve(aif, residue)[: len(fine)] * step
    frames = np.arange(FRAMES)
    return np.interp(frames, fine, curve), np.interp(frames, fine, aif)


def exam_of(curve, aif) -> Batch:
    before = one()
    dsc = jnp.where(before.mask, 1000.0 * jnp.exp(-jnp.asarray(curve))[:, None, None], 0.0)
    return with_curves(dataclasses.replace(before, dsc=dsc), aif / aif.max(), curve / aif.max())


def drop(slice_: Batch) -> np.ndarray:
    """ΔR2* of the middle pixel."""
    return -np.log(np.asarray(slice_.dsc)[:, 8, 8] / 1000.0)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_stretched_exam_is_that_of_a_person_whose_times_are_all_so_much_longer(factor):
    before = exam_of(*tissue(0.02, 4.0, 2.0, width=4.0))
    curve, aif = tissue(0.02, 4.0, 2.0, pace=factor, width=4.0)
    after = changes.stretched(before, factor, STEP, 8.0, 8.0)
    seen = slice(0, 32)  # later frames are held where all goes faster
    np.testing.assert_allclose(drop(after)[seen], curve[seen], atol=0.03 * curve.max())  # between frames: linear
    np.testing.assert_allclose(after.dsc[seen, 0, 0], 1000 * (1 - 0.5 * aif / aif.max())[seen], atol=12)
    by = {"cbf": 1 / factor, "cbv": 1.0, "mtt": factor, "tmax": factor}
    for name, times in by.items():
        channel = MAP_NAMES.index(name)
        np.testing.assert_allclose(after.maps[..., channel], before.maps[..., channel] * times, rtol=1e-5)
    np.testing.assert_allclose(after.maps[..., TTP][before.mask], (8 + factor * 10) * STEP, rtol=1e-5)
    assert 0 <= int(after.baseline_begin) < int(after.baseline_end) <= 9


def test_a_wider_bolus_is_convolved_in_all_curves_alike_and_ttp_is_not_known():
    curve, aif = tissue(0.02, 4.0, 2.0)
    before = exam_of(curve, aif)
    after = changes.widened(before, 2.0, True)
    kernel = np.exp(-np.arange(FRAMES) / 2.0)
    slower = [np.convolve(values, kernel / kernel.sum())[:FRAMES] for values in (curve, aif)]
    np.testing.assert_allclose(drop(after), slower[0], atol=1e-3)
    shown = 2 * (1 - np.asarray(after.dsc)[:, 0, 0] / 1000.0)
    np.testing.assert_allclose(shown, slower[1] / slower[1].max(), atol=1e-3)
    mean = 2 * (1 - np.asarray(after.dsc)[:, -1, -1] / 1000.0)
    np.testing.assert_allclose(mean, slower[0] / slower[1].max(), atol=1e-3)
    np.testing.assert_array_equal(after.has_map, [name != "ttp" for name in MAP_NAMES])
    np.testing.assert_array_equal(after.maps, before.maps)
    assert (np.asarray(after.dsc)[:, 14:, 6:10] == 0).all()


def test_the_arrival_is_where_the_aif_crosses_a_tenth_of_its_peak():
    curve, aif = tissue(0.02, 4.0, 2.0)
    fine = np.linspace(0, FRAMES - 1, 40001)
    crossing = fine[np.argmax(np.interp(fine, np.arange(FRAMES), aif) >= 0.1 * aif.max())]
    assert float(changes.arrival(exam_of(curve, aif), True)) == pytest.approx(crossing, abs=0.01)
    assert float(changes.arrival(exam_of(curve, 1e-9 + 0 * aif), True)) == 8  # none was found: the baseline's end
    assert float(changes.arrival(exam_of(curve, aif), False)) == 8


def test_more_agent_makes_all_of_tissue_higher_and_no_curve_that_is_shown():
    before = exam_of(*tissue(0.02, 4.0, 2.0))
    after = changes.stronger(before, 1.3, True)
    np.testing.assert_allclose(drop(after), 1.3 * drop(before), atol=1e-3)
    np.testing.assert_array_equal(after.dsc[:, 0, 0], before.dsc[:, 0, 0])


@pytest.mark.parametrize("turns", [1, 2])
def test_a_head_turned_by_right_angles_is_turned_with_all_its_truth(turns):
    before = one()
    before = dataclasses.replace(before, dsc=before.dsc.at[:, 3:6, 3:8].mul(0.5))
    after = changes.turned(before, 90.0 * turns, 1.0, False)
    np.testing.assert_array_equal(after.dsc, np.rot90(before.dsc, turns, axes=(1, 2)))
    np.testing.assert_array_equal(after.maps, np.rot90(before.maps, turns, axes=(0, 1)))
    np.testing.assert_array_equal(after.mask, np.rot90(before.mask, turns, axes=(0, 1)))


def test_a_larger_head_has_more_pixels_each_with_the_truth_of_one_before_and_corners_stay():
    before = exam_of(*tissue(0.02, 4.0, 2.0))
    after = changes.turned(before, 0.0, 1.2, True)
    assert after.mask.sum() > 1.2 * before.mask.sum()
    pairs = {tuple(values) for values in np.asarray(before.maps)[np.asarray(before.mask)]}
    assert {tuple(values) for values in np.asarray(after.maps)[np.asarray(after.mask)]} <= pairs
    np.testing.assert_array_equal(after.dsc[:, :CORNER, :CORNER], before.dsc[:, :CORNER, :CORNER])
    smaller = changes.turned(before, 45.0, 0.8, True)  # whose picture reaches beyond the corners
    assert not np.asarray(smaller.dsc)[:, CORNER:-CORNER, 1][:, 2:-2].any()


@pytest.mark.slow
def test_other_exams_keep_peaks_where_ttp_says_where_it_is_known():
    batch = jax.tree.map(jnp.asarray, world(24))
    batch = jax.vmap(lambda slice_: with_curves(slice_, *[np.exp(-(((np.arange(FRAMES) - 14) / 3) ** 2))] * 2))(batch)
    after = augment.augmented(batch, jax.random.key(3), frame_seconds=STEP, crop=0, corners=True, more=True)
    known = np.asarray(after.has_map)[:, TTP]
    assert 8 < known.sum() < 24
    for number in np.flatnonzero(known):
        curve = np.asarray(after.dsc[number])[:, 4:12, 4:12].sum(axis=(1, 2))
        said = np.asarray(after.maps[number, 4:12, 4:12, TTP])
        assert abs(int(np.argmin(curve)) * STEP - said[said > 0].mean()) <= 2 * STEP


@pytest.mark.slow
def test_slices_of_a_batch_get_changes_of_their_own_which_the_key_decides():
    batch = world()
    first, again, other = (
        augment.augmented(batch, jax.random.key(seed), frame_seconds=STEP, crop=12) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first.dsc.shape == (3, FRAMES, 12, 12) and first.maps.shape == (3, 12, 12, 5)
    assert not np.array_equal(first.dsc, other.dsc)
    assert not np.array_equal(first.dsc[0] > 0, first.dsc[1] > 0) or not np.array_equal(first.maps[0], first.maps[1])


@pytest.mark.slow
def test_whatever_is_done_the_peak_stays_where_ttp_says():
    batch = world(24)
    after = augment.augmented(batch, jax.random.key(3), frame_seconds=STEP, crop=0)
    for number in range(24):
        curve = np.asarray(after.dsc[number]).sum(axis=(1, 2))
        said = np.asarray(after.maps[number, ..., TTP])[np.asarray(after.mask[number])]
        assert np.ptp(said) == 0
        assert abs(int(np.argmin(curve)) * STEP - said[0]) <= 2 * STEP


@pytest.mark.slow
def test_slices_of_an_exam_that_is_seen_whole_are_changed_alike_but_for_the_noise(monkeypatch):
    alike = jax.tree.map(lambda values: jnp.asarray(values[[0, 0, 0, 1, 1, 1]]), world())
    alike = dataclasses.replace(alike, mask=alike.mask.at[1, :6].set(False))  # a crop is laid around all slices' brain

    def changed():
        change = functools.partial(augment.augmented, frame_seconds=STEP, crop=12, exam_slices=3)
        of_keys = jax.jit(jax.vmap(change, (None, 0)), compiler_options={"xla_backend_optimization_level": 0})
        return np.asarray(of_keys(alike, jax.random.split(jax.random.key(0), 4)).dsc)

    noisy = changed()
    assert (noisy[:, 0] != noisy[:, 1]).any()
    monkeypatch.setattr(augment, "MOST_NOISE", 0.0)
    exams = changed().reshape(4, 2, 3, FRAMES, 12, 12)
    np.testing.assert_array_equal(exams, np.broadcast_to(exams[:, :, :1], exams.shape))
    assert len({exam.tobytes() for exam in exams[:, 0, 0]}) > 1
