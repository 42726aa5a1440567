"""Pictures: which way up, which window, and what is drawn where; read back from the axes, not from pixels."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dscgan_jax.figures import panels as figures


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
    picture = figures.axial(volume, 1)
    assert picture.shape == (6, 4) and picture[0, 0] == 1 and picture.sum() == 1


def test_the_bolus_frame_is_where_the_brain_is_darkest():
    brain, _ = head()
    curve = np.array([900, 500, 500, 300, 400, 480.0])  # the first frame is not yet in steady state
    series = np.where(brain, curve[:, None, None], 5.0)
    series[5, ~brain] = 0  # the darkest air does not count
    assert figures.bolus_frame(series, brain) == 3
    assert figures.bolus_frame(series) == 3
    assert figures.bolus_frame(np.zeros((4, 3, 3))) == 0


def test_panel_shows_source_reference_prediction_and_error_in_fixed_windows():
    brain, tmax = head()
    frame = np.where(brain, 300.0, 10.0)
    figure = figures.panel(frame, tmax + 1, tmax, "tmax", subject="sub-7", slice_index=3, brain=brain)
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


def test_contour_of_six_seconds_is_solid_in_maps_and_dashed_elsewhere():
    brain, tmax = head()
    figure = figures.panel(tmax, np.minimum(tmax, 5), tmax, "tmax", subject="s", slice_index=0, brain=brain)
    source, reference, prediction, error = (contours(axis) for axis in figure.axes[:4])
    assert len(source) == len(reference) == len(error) == 1 and prediction == []
    assert to_hex(reference[0].get_edgecolor()[0]) == "#ffffff"
    assert reference[0].get_linestyle()[0][1] is None and source[0].get_linestyle()[0][1] is not None


def test_other_maps_have_no_contour():
    _, tmax = head()
    figure = figures.panel(tmax, tmax * 9, tmax * 8, "cbf", subject="s", slice_index=0)
    assert not any(contours(axis) for axis in figure.axes[:4])
    assert figure.axes[1].images[0].get_clim() == (0, 80)
    assert bars(figure) == ["CBF [ml/100g/min]", "|error| [ml/100g/min]"]


def test_rows_must_show_the_same_predictions():
    _, tmax = head()
    rows = [figures.PanelRow("tmax", "a", tmax, tmax, {name: tmax}) for name in ("x", "y")]
    with pytest.raises(ValueError, match="same predictions"):
        figures.subject_figure(rows)


def test_sample_panel_writes_a_png_and_returns_its_picture(tmp_path):
    brain, tmax = head()
    series = np.stack([np.where(brain, level, 5.0) for level in (500, 300, 480)])[None]
    maps = np.stack([tmax * 4, tmax], axis=-1)[None]
    rgb = figures.sample_panel(
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
def test_maps_picture_shows_one_exam(tmp_path, n_slices):
    _, tmax = head()
    volume = np.repeat(tmax.T[::-1, ::-1, None], n_slices, axis=2)
    series = np.repeat(volume[..., None], 3, axis=3)
    figures.maps_picture(tmp_path / "maps.png", {"tmax": volume, "ttp": volume}, series, title="exam")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_grouped_and_the_chosen_step_is_marked():
    rows = [{"step": step, "loss_g": 1 / step, "loss_d": 0.7, "accuracy_real": 0.6, "epoch": 1.0} for step in (1, 2, 3)]
    rows.append({"step": 3, "validation_brain_mae_tmax": 0.9, "validation_error": 0.08})
    figure = figures.curves_figure(rows, chosen_step=3)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "generator loss",
        "discriminator loss",
        "discriminator accuracy",
        "validation",
    ]
    loss, *_, validation = figure.axes
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3] and loss.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    assert validation.lines[0].get_label() == "brain MAE of Tmax [s]"
    assert validation.lines[-1].get_xdata() == [3, 3] and len(validation.lines) == 2


def test_without_curves_there_is_no_figure():
    assert figures.curves_figure([]) is None
    assert figures.curves_figure([{"step": 1, "epoch": 0.5}]) is None


def test_limits_of_agreement_are_mean_and_spread_of_the_differences():
    figure = figures.bland_altman_figure([10, 20, 30], [12, 19, 35], quantity="volume", unit="ml")
    levels = sorted(line.get_ydata()[0] for line in figure.axes[1].lines)
    errors = np.array([2, -1, 5])
    spread = 1.96 * errors.std(ddof=1)
    assert levels == pytest.approx([2 - spread, 0, 2, 2 + spread])
    assert figure.axes[1].collections[0].get_offsets()[:, 0].tolist() == [11, 19.5, 32.5]


def test_one_subject_has_no_limits_of_agreement():
    figure = figures.bland_altman_figure([10], [12], quantity="volume", unit="ml")
    assert [line.get_ydata()[0] for line in figure.axes[1].lines] == [0]


def test_the_arterial_figure_shows_the_curve_and_its_voxels_where_they_lie():
    seconds = np.arange(20) * 2.0
    arterial, tissue = np.exp(-((seconds - 14) ** 2) / 8), 0.05 * np.exp(-((seconds - 18) ** 2) / 30)
    voxels = np.zeros((10, 12, 5), bool)
    voxels[2, 9, 1] = voxels[3, 9, 1] = voxels[7, 4, 3] = True
    figure = figures.arterial_figure(seconds, arterial, tissue, "mM", np.ones(voxels.shape), voxels, transient_frames=2)
    curve, first, second = figure.axes
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), arterial)
    assert max(curve.lines[1].get_ydata()) == pytest.approx(
        arterial.max()
    )  # as high as the artery, to compare the shapes
    assert (first.get_title(), second.get_title()) == ("slice 1: 2 voxels", "slice 3: 1 voxel")
    rows, cols = np.nonzero(figures.axial(voxels, 1))
    np.testing.assert_array_equal(first.collections[0].get_offsets(), np.stack([cols, rows], axis=1))
    assert len(figures.arterial_figure(seconds, arterial, tissue, "mM", np.ones(voxels.shape), None).axes) == 1


def test_the_motion_figure_marks_the_frames_that_were_brought_back():
    seconds, pose = np.arange(6) * 1.5, np.zeros((6, 3))
    pose[3:] = (0.1, -2.0, 0.5)
    shift, rotation = figures.motion_figure(seconds, pose, 0.5 * pose, pose[:, 1] != 0).axes
    assert shift.get_ylim()[1] > 2.0 and rotation.get_ylim()[1] > 1.0 and len(shift.lines) == 3
    assert "mm" in shift.get_ylabel() and "degrees" in rotation.get_ylabel() and shift.collections
