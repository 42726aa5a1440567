"""What a page holds is what the arrays hold, within a step of their codes."""

import base64
import zlib

import numpy as np
import pytest

from dscgan_jax.pages.viewer import packing


def unpacked(packed, name, shape):
    """As the script of a page unpacks it."""
    content = zlib.decompress(base64.b64decode(packed.texts[name]))
    return np.frombuffer(content, packed.dtypes[name]).reshape(shape)


def frames_of(added):
    """The frames of which only what each adds is kept."""
    return np.add.accumulate(added, axis=0, dtype=np.uint8)


def test_a_page_shows_the_front_on_top_and_the_right_of_the_patient_on_the_left():
    volume = np.zeros((4, 5, 2))
    volume[3, 4, 1] = 1.0  # right, front, upper slice
    shown = packing.as_shown(volume)
    assert shown.shape == (2, 5, 4) and shown[1, 0, 0] == 1.0
    column_row_slice = np.array([0, 0, 1, 1])
    assert (packing.shown_to_ras(volume.shape) @ column_row_slice)[:3].tolist() == [3, 4, 1]


def test_a_map_is_kept_to_a_step_of_its_range_and_nothing_outside_is_a_value():
    random = np.random.default_rng(0)
    volume = random.normal(5.0, 20.0, (6, 7, 3)).astype(np.float32)
    inside = random.random(volume.shape) < 0.5
    codes, low, high = packing.map_codes(volume, inside)
    kept = unpacked(packing.Packed.of(codes=codes), "codes", volume.shape)
    assert ((kept > 0) == inside).all()
    values = low + (kept[inside].astype(float) - 1) * (high - low) / packing.CODES
    assert np.abs(values - volume[inside]).max() <= 0.51 * (high - low) / packing.CODES


def test_a_map_of_one_value_and_a_map_of_none_have_codes():
    codes, low, _ = packing.map_codes(np.full((2, 2), 3.0), np.ones((2, 2), bool))
    assert (codes == 1).all() and low == 3.0
    assert not packing.map_codes(np.full((2, 2), 3.0), np.zeros((2, 2), bool))[0].any()


@pytest.mark.parametrize(("most", "block"), [(10**9, 1), (20 * 9, 2)])
def test_curves_are_in_the_order_of_the_page_and_means_where_there_are_too_many(monkeypatch, most, block):
    monkeypatch.setattr(packing, "MOST_CURVE_VALUES", most)
    random = np.random.default_rng(1)
    tissue = np.zeros((6, 6, 2), bool)
    tissue[1:5, 1:6] = True
    volume = random.normal(size=(*tissue.shape, 9))
    fit = volume + 0.1
    codes = packing.curve_codes(tissue, volume[tissue], fit[tissue])
    assert codes.block == block
    shown, inside = packing.as_shown(volume), packing.as_shown(tissue)
    expected = [
        shown[z, row : row + block, column : column + block][inside[z, row : row + block, column : column + block]]
        for z in range(2)
        for row in range(0, 6, block)
        for column in range(0, 6, block)
        if inside[z, row : row + block, column : column + block].any()
    ]
    expected = np.stack([curves.mean(axis=0) for curves in expected])
    step = (codes.high - codes.low) / packing.LEVELS
    np.testing.assert_allclose(codes.low + codes.measured * step, expected.T, atol=step.max())
    np.testing.assert_allclose(codes.low + frames_of(codes.fitted) * step, expected.T + 0.1, atol=step.max())


@pytest.mark.parametrize(("most", "block"), [(10**9, 1), (5 * 7 * 3 * 4 / 4, 2)])
def test_the_film_is_the_series_up_to_white_and_binned_where_it_is_large(monkeypatch, most, block):
    monkeypatch.setattr(packing, "MOST_FILM_VALUES", most)
    series = np.random.default_rng(2).uniform(0, 120, (5, 7, 3, 4))
    film = frames_of(packing.film_codes(series, 100.0))
    shown = np.minimum(np.moveaxis(packing.as_shown(series), 3, 0) / 100.0 * packing.GREYS, np.inf)
    assert film.shape == (4, 3, -(-7 // block), -(-5 // block))
    corner = np.minimum(shown[:, :, :block, :block].mean(axis=(2, 3)), packing.GREYS)
    np.testing.assert_allclose(film[:, :, 0, 0], corner, atol=0.51)
    edge = np.minimum(shown[:, :, -1, -1], packing.GREYS)  # 5 and 7 are odd: the last square is one voxel
    np.testing.assert_allclose(film[:, :, -1, -1], edge, atol=0.51)
