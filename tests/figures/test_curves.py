"""Plots of curves and numbers; read back from the axes, not from pixels."""

import numpy as np
import pytest

from dscgan_jax.figures import curves, panels


def test_curves_are_grouped_and_the_chosen_step_is_marked():
    rows = [{"step": step, "loss_g": 1 / step, "loss_d": 0.7, "accuracy_real": 0.6, "epoch": 1.0} for step in (1, 2, 3)]
    rows.append({"step": 3, "validation_brain_mae_tmax": 0.9, "validation_error": 0.08})
    figure = curves.training_figure(rows, chosen_step=3)
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
    assert curves.training_figure([]) is None
    assert curves.training_figure([{"step": 1, "epoch": 0.5}]) is None


def test_limits_of_agreement_are_mean_and_spread_of_the_differences():
    figure = curves.bland_altman_figure([10, 20, 30], [12, 19, 35], quantity="volume", unit="ml")
    levels = sorted(line.get_ydata()[0] for line in figure.axes[1].lines)
    errors = np.array([2, -1, 5])
    spread = 1.96 * errors.std(ddof=1)
    assert levels == pytest.approx([2 - spread, 0, 2, 2 + spread])
    assert figure.axes[1].collections[0].get_offsets()[:, 0].tolist() == [11, 19.5, 32.5]


def test_one_subject_has_no_limits_of_agreement():
    figure = curves.bland_altman_figure([10], [12], quantity="volume", unit="ml")
    assert [line.get_ydata()[0] for line in figure.axes[1].lines] == [0]


def test_the_aif_figure_shows_the_curve_and_its_voxels_where_they_lie():
    seconds = np.arange(20) * 2.0
    arterial, tissue = np.exp(-((seconds - 14) ** 2) / 8), 0.05 * np.exp(-((seconds - 18) ** 2) / 30)
    voxels = np.zeros((10, 12, 5), bool)
    voxels[2, 9, 1] = voxels[3, 9, 1] = voxels[7, 4, 3] = True
    figure = curves.aif_figure(seconds, arterial, tissue, "mM", np.ones(voxels.shape), voxels, non_steady_frames=2)
    curve, first, second = figure.axes
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), arterial)
    assert max(curve.lines[1].get_ydata()) == pytest.approx(
        arterial.max()
    )  # as high as the artery, to compare the shapes
    assert (first.get_title(), second.get_title()) == ("slice 2: 2 voxels", "slice 4: 1 voxel")  # as the viewer counts
    rows, cols = np.nonzero(panels.axial(voxels, 1))
    np.testing.assert_array_equal(first.collections[0].get_offsets(), np.stack([cols, rows], axis=1))
    assert len(curves.aif_figure(seconds, arterial, tissue, "mM", np.ones(voxels.shape), None).axes) == 1


def test_the_motion_figure_marks_the_realigned_frames():
    seconds, pose = np.arange(6) * 1.5, np.zeros((6, 3))
    pose[3:] = (0.1, -2.0, 0.5)
    shift, rotation = curves.motion_figure(seconds, pose, 0.5 * pose, pose[:, 1] != 0).axes
    assert shift.get_ylim()[1] > 2.0 and rotation.get_ylim()[1] > 1.0 and len(shift.lines) == 3
    assert "mm" in shift.get_ylabel() and "degrees" in rotation.get_ylabel() and shift.collections
