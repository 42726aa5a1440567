"""Onto the network grid and back: nothing moves, nothing flips, whatever way the exam is stored."""

import dataclasses
import itertools

import numpy as np
import pytest
from exams import AFFINE, ECHO_SECONDS, exam_of, fake_arrays

from dscgan_jax.data import preparation
from dscgan_jax.data.exams import load_exam
from dscgan_jax.data.grid import NetworkGrid, maps_on_network, resampling_matrix, restore
from dscgan_jax.data.preparation import PreparationSettings, prepare
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion import motion
from dscgan_jax.perfusion.signal import BolusTiming

SAME = PreparationSettings(16, 0, 64, "stretch", 1.5, "keep")  # the grid of the invented exams
OTHER = PreparationSettings(12, 5, 40, "stretch", 1.5, "keep")
OBLIQUE = np.array([[-1.9, 0.3, 0.1, 20.0], [0.3, 2.4, -0.8, -15.0], [0.1, 0.8, 4.8, 4.0], [0, 0, 0, 1]])


def _exam(shape=(16, 16, 3), affine=AFFINE, frames=64, **changes):
    series, maps, mask = fake_arrays(shape, frames, **changes)
    return exam_of(series, mask, affine, maps=maps)


def shorts(prepared):
    return [
        finding.short() for finding in prepared.findings if finding.name != "motion"
    ]  # too few voxels to look for it


def _network(prepared):
    """Stands for a network: mixes time, and mixes neighbours differently up, down, left and right."""
    mean = prepared.dsc.astype(np.float32).mean(axis=1) * prepared.dsc_scale  # (slice, row, col)
    shifted = 0.5 * mean + 0.3 * np.roll(mean, 1, axis=1) + 0.2 * np.roll(mean, 2, axis=2)
    return np.stack([shifted, shifted * np.linspace(0, 1, mean.shape[1])[:, None].astype(np.float32)], axis=-1)


def _predict(exam, settings=OTHER):
    prepared = prepare(exam, settings)
    return restore(_network(prepared), prepared.grid)


def _stored(exam, axes, signs):
    """The same exam with its axes permuted and flipped, and the affine that keeps every voxel where it is."""

    def change(array):
        moved = array.transpose(*axes, *range(3, array.ndim))
        return moved[tuple(slice(None, None, sign) for sign in signs)]

    old_from_new = np.zeros((4, 4))
    old_from_new[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        old_from_new[old, new] = sign
        old_from_new[old, 3] = 0 if sign > 0 else exam.mask.shape[old] - 1
    maps = {name: change(values) for name, values in exam.maps.items()}
    affine = exam.affine @ old_from_new
    return exam_of(change(exam.series), change(exam.mask), affine, maps=maps, timing=exam.timing), change


@pytest.mark.slow
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("settings", [SAME, OTHER], ids=["same grid", "other grid"])
def test_all_48_ways_to_store_an_exam_give_the_same_prediction_in_the_world(affine, settings):
    exam = _exam((10, 8, 3), affine, frames=30)
    expected = _predict(exam, settings)
    assert expected.std() > 10
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            stored, change = _stored(exam, axes, signs)
            predicted = _predict(stored, settings)
            np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-3)
            np.testing.assert_allclose(stored.stored.to_stored(predicted), change(expected), rtol=1e-5, atol=1e-3)


def test_the_same_array_with_a_tilted_affine_gives_the_same_array_of_predictions():
    angle = np.deg2rad(25)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    exam = _exam((10, 8, 3), frames=30)
    tilted = _exam((10, 8, 3), tilt @ AFFINE, frames=30)
    np.testing.assert_allclose(_predict(tilted), _predict(exam), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_an_affine_turned_by_quarters_turns_the_prediction_with_it(quarter_turns):
    """The same array, said to lie turned about the body axis, is an exam of a turned head, and is predicted as such."""
    angle = quarter_turns * np.pi / 2
    turn = np.eye(4)
    turn[:2, :2] = np.round([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    series, maps, mask = fake_arrays((12, 12, 3), 30)
    said_to_be_turned = exam_of(series, mask, turn @ AFFINE, maps=maps)

    def rotate(array, turns):  # (x, y, ...) by quarters in the plane; x points left in AFFINE
        return np.rot90(array, turns, axes=(0, 1))

    turned_maps = {name: rotate(values, -quarter_turns) for name, values in maps.items()}
    really_turned = exam_of(rotate(series, -quarter_turns), rotate(mask, -quarter_turns), maps=turned_maps)
    settings = dataclasses.replace(OTHER, size=12)
    np.testing.assert_allclose(
        said_to_be_turned.stored.to_stored(_predict(said_to_be_turned, settings)),
        rotate(really_turned.stored.to_stored(_predict(really_turned, settings)), quarter_turns),
        rtol=1e-5,
        atol=1e-3,
    )


def test_row_zero_is_the_front_of_the_head_and_column_zero_the_patients_right():
    volume = np.zeros((16, 16, 3), np.float32)
    volume[15, 15, 2] = 7  # right, front, top
    volume[0, 0, 0] = 9  # left, back, bottom
    grid = NetworkGrid.of(volume.shape, np.diag([8.0, 8.0, 5.0, 1.0]), 16)
    maps, _, _ = maps_on_network({"cbf": volume}, np.ones((16, 16, 3), bool), grid)
    assert np.argwhere(maps[..., 0] == 7).tolist() == [[2, 0, 0]]
    assert np.argwhere(maps[..., 0] == 9).tolist() == [[0, 15, 15]]


def test_on_an_identical_grid_nothing_changes():
    exam = _exam()
    prepared = prepare(exam, SAME)
    assert prepared.dsc_scale == 1.0 and prepared.dsc.dtype == np.int16 and prepared.dsc.shape == (3, 64, 16, 16)
    back = restore(prepared.dsc.transpose(0, 2, 3, 1), prepared.grid)
    np.testing.assert_array_equal(back, exam.series)
    np.testing.assert_array_equal(
        restore(prepared.maps, prepared.grid), np.stack([exam.maps[name] for name in MAP_NAMES], axis=-1)
    )
    np.testing.assert_array_equal(restore(prepared.mask[..., None], prepared.grid)[..., 0] > 0.5, exam.mask)
    assert prepared.has_map.all() and prepared.frame_seconds == 1.5 and prepared.echo_seconds == ECHO_SECONDS
    assert (prepared.baseline_begin, prepared.baseline_end) == (exam.timing.baseline_begin, exam.timing.baseline_end)
    assert prepared.brain_signal == pytest.approx(1000, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("size", [24, 48])
def test_a_smooth_map_survives_the_way_there_and_back(size):
    exam = _exam((32, 28, 4))
    prepared = prepare(exam, dataclasses.replace(SAME, size=size, slices=6))
    back = restore(prepared.maps, prepared.grid, prepared.mask)
    for index, name in enumerate(MAP_NAMES):
        error = np.abs(back[..., index] - exam.maps[name])[exam.mask]
        # The outermost slices and the rim have neighbours on one side only.
        assert np.median(error) < 0.02 * exam.maps[name].max() and error.max() < 0.12 * exam.maps[name].max(), name


@pytest.mark.slow
def test_the_rim_of_a_map_is_not_pulled_down_by_the_zeros_around_it():
    exam = _exam((32, 28, 4))
    exam.maps["mtt"] = np.where(exam.mask, np.float32(5), np.float32(0))
    prepared = prepare(exam, dataclasses.replace(SAME, size=20, slices=3))
    mtt = prepared.maps[..., MAP_NAMES.index("mtt")]  # 5 s everywhere in the brain
    np.testing.assert_allclose(mtt[prepared.mask], 5.0, rtol=1e-5)
    assert not mtt[~prepared.mask].any()
    np.testing.assert_allclose(restore(prepared.maps, prepared.grid, prepared.mask)[exam.mask][:, 2], 5.0, rtol=1e-4)


def test_a_map_may_reach_beyond_the_mask():
    maps = {"ttp": np.full((16, 16, 3), 30, np.float32)}
    mask = np.zeros((16, 16, 3), bool)
    mask[4:12, 4:12] = True
    grid = NetworkGrid.of(mask.shape, AFFINE, 8)
    stacked, has_map, network_mask = maps_on_network(maps, mask, grid)
    np.testing.assert_allclose(stacked[..., 4], 30)
    assert has_map.tolist() == [False, False, False, False, True] and network_mask.mean() == 0.25


def test_a_rectangular_field_of_view_is_padded_to_a_square_in_millimetres():
    shape, affine = (16, 8, 1), np.diag([2.0, 3.0, 5.0, 1.0])  # 32 mm x 24 mm
    grid = NetworkGrid.of(shape, affine, 32)
    stacked, _, mask = maps_on_network({"cbf": np.ones(shape, np.float32)}, np.ones(shape, bool), grid)
    assert grid.field_of_view_mm == 32
    assert mask[0, 4:28].all() and not mask[0, :4].any() and not mask[0, 28:].any()
    np.testing.assert_allclose(stacked[0, 4:28, :, 0], 1)
    assert not stacked[0, :4].any()


def test_a_matrix_with_an_even_margin_is_only_padded_not_interpolated():
    exam = _exam((16, 12, 3))
    prepared = prepare(exam, SAME)
    assert prepared.dsc_scale == 1.0
    np.testing.assert_array_equal(prepared.dsc[:, :, 2:14, ::-1][:, :, ::-1].transpose(3, 2, 0, 1), exam.series)
    np.testing.assert_array_equal(restore(prepared.dsc.transpose(0, 2, 3, 1), prepared.grid), exam.series)


def test_interpolation_weights_by_hand():
    np.testing.assert_allclose(resampling_matrix(2, 1.0, 4, 0.5), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(
        resampling_matrix(4, 1.0, 2, 2.0), [[3 / 7, 3 / 7, 1 / 7, 0], [0, 1 / 7, 3 / 7, 3 / 7]], rtol=1e-6
    )
    np.testing.assert_allclose(resampling_matrix(2, 1.0, 4, 1.0), [[0, 0], [1, 0], [0, 1], [0, 0]])
    assert resampling_matrix(5, 1.2, 5, 1.2) is None


def test_sampling_down_does_not_alias():
    stripes = np.tile([0.0, 1.0], 64)  # the finest pattern of 128 voxels
    down = resampling_matrix(128, 1.0, 48, 128 / 48) @ stripes
    np.testing.assert_allclose(down[1:-1], 0.5, atol=0.1)


def test_stretching_keeps_the_first_and_the_last_frame_and_reads_between():
    exam = _exam(frames=40, transient=0)
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32) * 100, exam.series.shape)
    prepared = prepare(
        dataclasses.replace(exam, series=ramp, timing=BolusTiming(0, 4, 12, 20)), dataclasses.replace(SAME, frames=79)
    )
    curve = prepared.dsc[1, :, 8, 8] * prepared.dsc_scale
    np.testing.assert_allclose(curve, np.arange(79) * 50, atol=0.2)
    assert prepared.frame_seconds == pytest.approx(0.75)
    assert (prepared.baseline_begin, prepared.baseline_end) == (8, 23)  # exam frames 4 to 11, twice as fine


def test_seconds_reads_real_time_repeats_the_end_or_cuts_and_says_so():
    exam = _exam(frames=40, transient=0)
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32) * 100, exam.series.shape)
    exam = dataclasses.replace(exam, series=ramp, timing=BolusTiming(0, 0, 12, 20))  # 40 frames of 1.5 s
    longer = prepare(exam, dataclasses.replace(SAME, frames=64, time_mode="seconds", frame_seconds=1.0))
    curve = longer.dsc[1, :, 8, 8] * longer.dsc_scale
    np.testing.assert_allclose(curve, np.minimum(np.arange(64) / 1.5, 39) * 100, atol=0.2)
    assert shorts(longer) == ["short_frames_repeated=5"] and longer.frame_seconds == 1.0
    assert longer.baseline_end == 17  # exam frame 11 lies at 16.5 s
    shorter = prepare(exam, dataclasses.replace(SAME, frames=30, time_mode="seconds", frame_seconds=1.5))
    assert shorts(shorter) == ["cut_seconds=15"]
    np.testing.assert_array_equal(shorter.dsc[1, :, 8, 8] * shorter.dsc_scale, np.arange(30) * 100)


@pytest.mark.parametrize("frames", [64, 40])
def test_held_transients_become_the_first_steady_frame_and_time_zero_stays(frames):
    exam = _exam(frames=40, transient=0.4)
    held = prepare(exam, dataclasses.replace(SAME, frames=frames, non_steady_state="hold"))
    kept = prepare(exam, dataclasses.replace(SAME, frames=frames))
    assert exam.timing.non_steady_frames == 1 and shorts(held) == ["transients_held=1"] and shorts(kept) == []
    first_steady = exam.series[::-1, ::-1].transpose(2, 3, 1, 0)[:, 1]  # RAS -> (slice, row, col)
    np.testing.assert_allclose(held.dsc[:, 0] * held.dsc_scale, first_steady, atol=0.05)
    np.testing.assert_allclose(
        held.dsc[:, frames // 2] * held.dsc_scale, kept.dsc[:, frames // 2] * kept.dsc_scale, atol=0.1
    )


def test_int16_is_finer_than_the_noise_and_a_wild_voxel_does_not_spoil_it():
    exam = _exam()
    series = exam.series * np.float32(0.01234)
    prepared = prepare(dataclasses.replace(exam, series=series), SAME)
    back = restore((prepared.dsc * prepared.dsc_scale).transpose(0, 2, 3, 1), prepared.grid)
    np.testing.assert_allclose(back, series, atol=series.max() / 32767)
    series = series.copy()
    series[0, 0, 0, 5] = 1e6
    prepared = prepare(dataclasses.replace(exam, series=series), SAME)
    assert shorts(prepared) == ["signal_clipped=1"]
    back = restore((prepared.dsc * prepared.dsc_scale).transpose(0, 2, 3, 1), prepared.grid)
    np.testing.assert_allclose(back[exam.mask], series[exam.mask], atol=series[exam.mask].max() * 1e-3)


def test_with_a_lead_the_bolus_arrives_at_one_frame_however_late_the_scan_saw_it():
    settings = dataclasses.replace(
        SAME, time_mode="seconds", frame_seconds=1.0, lead_seconds=9.0, non_steady_state="hold"
    )
    early, late = (prepare(_exam(arrival=arrival), settings) for arrival in (12.0, 30.0))
    curves = [exam.dsc[exam.mask.nonzero()[0][0]].mean(axis=(1, 2)) for exam in (early, late)]
    assert abs(int(np.argmin(curves[0])) - int(np.argmin(curves[1]))) <= 1
    for exam in (early, late):
        assert (exam.baseline_begin, exam.frame_seconds) == (0, 1.0) and 7 <= exam.baseline_end <= 9
    assert any(short.startswith("short_frames_repeated") for short in shorts(late))


def test_a_lead_longer_than_the_scan_before_the_bolus_repeats_the_first_steady_frame():
    settings = dataclasses.replace(
        SAME, time_mode="seconds", frame_seconds=1.5, lead_seconds=60.0, non_steady_state="hold"
    )
    prepared = prepare(_exam(arrival=12.0), settings)
    assert any(short.startswith("early_bolus_frames_repeated") for short in shorts(prepared))
    np.testing.assert_array_equal(prepared.dsc[:, 0], prepared.dsc[:, 10])


def test_ttp_on_the_network_grid_counts_from_the_first_network_frame():
    exam = _exam(arrival=30.0)
    acquired = prepare(exam, SAME)
    moved = prepare(exam, dataclasses.replace(SAME, time_mode="seconds", frame_seconds=1.0, lead_seconds=9.0))
    assert acquired.first_seconds == 0.0 and moved.first_seconds > 5.0
    ttp, inside = MAP_NAMES.index("ttp"), acquired.maps[..., MAP_NAMES.index("ttp")] != 0
    np.testing.assert_allclose(
        moved.maps[..., ttp][inside], acquired.maps[..., ttp][inside] - moved.first_seconds, rtol=1e-6
    )
    assert (moved.maps[..., ttp][~inside] == 0).all()
    np.testing.assert_array_equal(np.delete(moved.maps, ttp, axis=-1), np.delete(acquired.maps, ttp, axis=-1))


def test_motion_is_looked_for_unless_nobody_asks(monkeypatch):
    exam = _exam()
    looked = []
    monkeypatch.setattr(preparation, "with_motion_finding", lambda one: looked.append(one) or one)
    prepare(exam, SAME)
    assert looked == [exam]
    prepare(exam, SAME, look_for_motion=False)
    assert len(looked) == 1


def test_a_brain_lost_between_the_pixels_is_refused():
    mask = np.zeros((16, 16, 3), bool)
    mask[0, 0, 0] = True
    with pytest.raises(InputError, match="sub-1: the brain mask has no voxel"):
        prepare(dataclasses.replace(_exam(), mask=mask), dataclasses.replace(SAME, size=3))


@pytest.mark.parametrize(
    ("field", "value"), [("time_mode", "warp"), ("non_steady_state", "drop"), ("frames", 1), ("size", 0)]
)
def test_nonsense_settings_are_refused(field, value):
    with pytest.raises(InputError, match=r"config.data"):
        dataclasses.replace(SAME, **{field: value})


def test_the_real_exam_comes_back_as_it_was(real_exam):
    exam = load_exam(real_exam)
    prepared = prepare(exam, PreparationSettings(128, 0, 80, "stretch", 1.5, "hold"))
    assert prepared.dsc.shape == (1, 80, 128, 128) and prepared.frame_seconds == pytest.approx(98 / 79)
    last = restore(prepared.dsc[:, -1:].transpose(0, 2, 3, 1) * np.float32(prepared.dsc_scale), prepared.grid)
    np.testing.assert_allclose(last[..., 0], exam.series[..., -1], atol=0.1)
    rows = np.flatnonzero(prepared.mask[0].any(axis=1))
    assert rows[0] > 20 and rows[-1] > 95  # the forehead is up and narrow, the back of the head down


def test_realignment_is_given_the_exam_on_ras_axes(monkeypatch):
    exam = _exam()
    mended = np.roll(exam.series, 1, axis=0)
    seen = []

    def realign(given, given_affine):
        seen.append((given, given_affine))
        moved = np.arange(given.shape[-1]) > 40
        return motion.Realignment(
            mended, np.tile(np.eye(4), (64, 1, 1)), np.zeros((64, 3)), np.zeros((64, 3)), np.zeros(3), moved, False
        )

    monkeypatch.setattr(preparation.motion, "realign", realign)
    rigid = dataclasses.replace(SAME, motion="rigid")
    prepared = prepare(exam, rigid)
    np.testing.assert_array_equal(seen[0][0], exam.series)
    np.testing.assert_array_equal(seen[0][1], exam.affine)
    expected = prepare(dataclasses.replace(exam, series=mended), SAME)
    np.testing.assert_array_equal(prepared.dsc, expected.dsc)
    assert shorts(prepared) == [*shorts(expected), "motion_corrected=0"]
    assert (prepared.dsc != prepare(exam, SAME).dsc).any()


def test_an_exam_that_lies_still_is_prepared_as_it_is(monkeypatch):
    exam = _exam()
    still = motion.Realignment(
        exam.series,
        np.tile(np.eye(4), (64, 1, 1)),
        np.zeros((64, 3)),
        np.zeros((64, 3)),
        np.zeros(3),
        np.zeros(64, bool),
        False,
    )
    monkeypatch.setattr(preparation.motion, "realign", lambda series, affine: still)
    assert preparation.realigned(exam) is exam


def test_another_kind_of_motion_correction_is_refused():
    with pytest.raises(InputError, match=r"config.data.motion is 'elastic'"):
        dataclasses.replace(SAME, motion="elastic")
