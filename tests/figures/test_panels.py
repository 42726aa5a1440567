"""Pictures of maps: which way up, which window, and what is shown where; read back from the axes, not from pixels."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dscgan_jax.figures import panels
from dscgan_jax.maps import MAPS


def head():
    """(row, col): a brain, a lesion of Tmax 9 s on the picture's right."""
    brain = np.zeros((24, 20), bool)
    brain[4:-4, 4:-4] = True
    tmax = np.where(brain, 2.0, 0.0)
    tmax[8:14, 11:15] = 9.0
    return brain, tmax


def contours(axis):
    return [collection for collection in axis.collections if collection.get_paths()]


def bars(figure):
    return [axis.get_ylabel() for axis in figure.axes if axis.get_label() == "<colorbar>"]


def test_a_volumes_right_and_front_come_to_the_left_and_top():
    volume = np.zeros((4, 6, 2))
    volume[3, 5, 1] = 1.0  # RAS: the most right, most anterior voxel
    picture = panels.axial(volume, 1)
    assert picture.shape == (6, 4) and picture[0, 0] == 1 and picture.sum() == 1


def test_the_bolus_frame_is_where_the_brain_is_darkest():
    brain, _ = head()
    curve = np.array([900, 500, 500, 300, 400, 480.0])  # the first frame is not yet in steady state
    series = np.where(brain, curve[:, None, None], 5.0)
    series[5, ~brain] = 0  # the darkest air does not count
    assert panels.bolus_frame(series, brain) == 3
    assert panels.bolus_frame(series) == 3
    assert panels.bolus_frame(np.zeros((4, 3, 3))) == 0


def test_panel_shows_source_reference_prediction_and_error_in_fixed_windows():
    brain, tmax = head()
    frame = np.where(brain, 300.0, 10.0)
    figure = panels.panel(frame, tmax + 1, tmax, "tmax", subject="sub-7", slice_index=3, brain=brain)
    source, reference, prediction, error = figure.axes[:4]
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["source, bolus peak", "reference", "prediction", "|error|"]
    assert reference.images[0].get_clim() == prediction.images[0].get_clim() == (0, 12)
    assert error.images[0].get_clim() == (0, 6)
    assert bars(figure) == ["Tmax [s]", "|error| [s]"]
    assert source.get_ylabel() == "Tmax\nsub-7, slice 3"
    assert {text.get_text() for text in source.texts} == {"R", "L"}
    shown = np.asarray(error.images[0].get_array())
    assert shown[brain] == pytest.approx(1) and not shown[~brain].any()  # outside the brain errors are not shown


def test_ttp_is_shown_from_the_arrival_of_the_bolus_on():
    brain, tmax = head()
    row = panels.PanelRow("ttp", "s", tmax, tmax + 40, {"prediction": tmax + 41}, brain, arrival_seconds=38.0)
    figure = panels.subject_figure([row, dataclasses.replace(row, arrival_seconds=10.0)])
    assert [axis.images[0].get_clim() for axis in figure.axes[1:4]] == [(38, 68), (38, 68), (0, 15)]
    assert figure.axes[5].images[0].get_clim() == (10, 40)  # another exam, another window
    unknown = panels.panel(tmax, tmax, tmax, "ttp", subject="s", slice_index=0)
    assert unknown.axes[1].images[0].get_clim() == MAPS["ttp"].window
    assert MAPS["tmax"].window_of(38.0) == MAPS["tmax"].window


def test_contour_of_six_seconds_is_solid_in_maps_and_dashed_elsewhere():
    brain, tmax = head()
    figure = panels.panel(tmax, np.minimum(tmax, 5), tmax, "tmax", subject="s", slice_index=0, brain=brain)
    source, reference, prediction, error = (contours(axis) for axis in figure.axes[:4])
    assert len(source) == len(reference) == len(error) == 1 and prediction == []
    assert to_hex(reference[0].get_edgecolor()[0]) == "#ffffff"
    assert reference[0].get_linestyle()[0][1] is None and source[0].get_linestyle()[0][1] is not None


def test_other_maps_have_no_contour():
    _, tmax = head()
    figure = panels.panel(tmax, tmax * 9, tmax * 8, "cbf", subject="s", slice_index=0)
    assert not any(contours(axis) for axis in figure.axes[:4])
    assert figure.axes[1].images[0].get_clim() == (0, 80)
    assert bars(figure) == ["CBF [mL/100 g/min]", "|error| [mL/100 g/min]"]


def test_rows_must_show_the_same_predictions():
    _, tmax = head()
    rows = [panels.PanelRow("tmax", "a", tmax, tmax, {name: tmax}) for name in ("x", "y")]
    with pytest.raises(ValueError, match="same predictions"):
        panels.subject_figure(rows)


def test_sample_panel_writes_a_png_and_returns_its_picture(tmp_path):
    brain, tmax = head()
    series = np.stack([np.where(brain, level, 5.0) for level in (500, 300, 480)])[None]
    maps = np.stack([tmax * 4, tmax], axis=-1)[None]
    rgb = panels.sample_panel(
        tmp_path / "samples" / "step-1.png",
        series=series,
        predicted=maps,
        reference=maps,
        targets=("cbf", "tmax"),
        titles=["sub-1, slice 4"],
        brain=brain[None],
    )
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.std() > 0
    assert (tmp_path / "samples" / "step-1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("n_slices", [1, 9])
def test_a_light_box_shows_one_exam(n_slices):
    _, tmax = head()
    volume = np.repeat(tmax.T[::-1, ::-1, None], n_slices, axis=2)
    series = np.repeat(volume[..., None], 3, axis=3)
    frame = panels.darkest_frame(series)
    shown = {"slices": list(range(n_slices)), "white": 1000.0, "title": "exam"}
    png = panels.maps_png({"tmax": volume, "ttp": volume}, frame, **shown)
    assert png.startswith(b"\x89PNG")


def test_slices_beside_each_other_keep_their_values_and_show_nothing_between():
    pictures = [np.full((4, 50), value, np.float32) for value in (1.0, 2.0, 3.0)]
    row, lefts = panels._beside_each_other(pictures)
    assert lefts == [0, 52, 104] and row.shape == (4, 154)
    for left, picture in zip(lefts, pictures, strict=True):
        np.testing.assert_array_equal(row[:, left : left + 50], picture)
    assert np.isnan(row).sum() == 4 * 2 * 2


def test_a_light_box_leaves_out_the_ends_where_not_all_slices_are_shown():
    assert panels.evenly_spaced(3, 6) == [0, 1, 2]
    assert panels.evenly_spaced(21, 6) == [3, 6, 9, 11, 14, 17]
