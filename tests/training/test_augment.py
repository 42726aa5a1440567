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
