"""The page of one exam's conventional maps: results, and what a reader should doubt."""

import dataclasses
import re

import numpy as np
import pytest

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.evaluation.readout import read_out
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages.conventional import page_of, pictures_of
from dscgan_jax.pages.exam import write
from dscgan_jax.perfusion import conventional
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.conventional import ConventionalMaps, Settings
from dscgan_jax.perfusion.measurement import Measured
from dscgan_jax.perfusion.motion import Realignment
from dscgan_jax.perfusion.parametric import Fitted
from dscgan_jax.perfusion.signal import BolusTiming

SHAPE, FRAMES = (8, 8, 2), 30
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
PARAMETRIC = Settings()


def found(
    *, quality=0.9, baseline_end=10, over_noise=60.0, tmax=2.0, doubts=(), realignment=None, factor=1.0, shift=0.0
):
    """Maps of one value each in half of a small volume."""
    tissue = np.zeros(SHAPE, bool)
    tissue[2:6] = True
    curve = np.exp(-((np.arange(FRAMES) - 14.0) ** 2) / 8).astype(np.float32)
    voxels = np.zeros(SHAPE, bool)
    voxels[3, 4, 1] = True
    arterial = ArterialInput(curve, voxels, quality, "auto", (), 20.0, 28.0, 1.0, 8.0, 1)
    n_voxels = int(tissue.sum())
    measured = Measured(
        tissue,
        "found",
        np.tile(0.1 * curve, (n_voxels, 1)),
        curve,
        np.ones(n_voxels),
        np.ones(n_voxels),
        np.zeros(n_voxels, bool),
        np.zeros(n_voxels, bool),
        arterial,
        BolusTiming(2, 2, baseline_end, 15),
        realignment,
        np.array([2.0, 2.0, 5.0]),
        2.0,
        over_noise,
        False,
        (),
    )
    values = {"cbf": 40.0, "cbv": 3.0, "mtt": 4.5, "tmax": tmax, "ttp": 30.0}
    maps = {name: np.where(tissue, np.float32(values[name]), np.float32(0)) for name in MAP_NAMES}
    times = np.full(n_voxels, np.float32(tmax))
    fitted = Fitted(np.full(n_voxels, np.float32(40)), times, times * 0 + 4.5, times * 0 + 0.2, times, times, 2.0)
    return ConventionalMaps(maps, measured, factor, factor, factor != 1.0, shift, fitted, tuple(doubts))


def page(result, tmp_path, settings=PARAMETRIC, findings=()):
    series = np.full((*SHAPE, FRAMES), 500.0, np.float32)
    judged = conventional.judge(result.measured, result.maps["tmax"][result.measured.tissue], settings)
    relative = ("cbf", "cbv") if not result.absolute else ()
    maps = ExamMaps(
        "sub-1",
        result.maps,
        {name: "relative" if name in relative else MAPS[name].unit for name in result.maps},
        StoredGrid(SHAPE, AFFINE),
        findings=(*result.findings, *judged, *findings),
        mask=result.measured.tissue,
    )
    paths = write(
        tmp_path,
        page_of(
            maps,
            result,
            series,
            settings,
            read_out(maps),
            pictures_of(maps.subject, maps.affine, result.measured, series),
        ),
    )
    assert [path.name for path in paths] == ["sub-1_maps.png", "sub-1.html"]
    text = re.sub(r'<script type="text/plain".*?</script>', "", paths[-1].read_text())
    return re.sub(r"base64,[^\"]*", "", text)  # what is packed may spell anything


def test_a_good_exam_has_volumes_and_medians_and_no_warnings(tmp_path):
    text = page(found(tmax=7.0), tmp_path)
    assert "<h2>Warnings</h2>" not in text and "<h2>Notes</h2>" not in text
    assert "Tmax &gt; 4 / 6 / 8 / 10 s: 1.3 / 1.3 / 0.0 / 0.0 mL" in text  # 64 voxels of 20 mm3
    assert "CBF 40 mL/100 g/min" in text and "found in 1 voxel;" in text and "quality 0.90 of 1" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quality": 0.3}, "quality 0.30 of 1"),
        ({"baseline_end": 5}, "only 3 steady frames"),
        ({"over_noise": 12.0}, "12 times the noise"),
        ({"tmax": -1.0}, "100 % of the tissue has a Tmax below 0"),
        ({"doubts": [Finding("second_bolus", "warning", "the bolus is odd")]}, "<h2>Warnings</h2>"),
        ({"doubts": [Finding("second_bolus", "warning", "the bolus is odd")]}, "The bolus is odd."),
    ],
)
def test_each_doubt_is_on_the_page(tmp_path, changes, words):
    text = page(found(**changes), tmp_path)
    assert words in text


def test_flow_without_echo_time_and_reference_has_no_unit(tmp_path):
    result = found()
    relative = dataclasses.replace(result, measured=dataclasses.replace(result.measured, relative=True))
    text = page(relative, tmp_path)
    assert "CBF 40 (relative)" in text and "MTT 4.5 s" in text and "mL/100 g" not in text


def test_raw_svd_is_labelled_and_shifted_svd_says_by_how_much(tmp_path):
    svd = Settings(method="osvd")
    assert "peaks late by some seconds" in page(found(), tmp_path, svd)
    shifted = page(found(shift=-2.5), tmp_path, dataclasses.replace(svd, tmax_offset="healthy"))
    assert "peaks late" not in shifted and "shifted by -2.50 s" in shifted


def test_scale_repairs_and_motion_are_on_the_page(tmp_path):
    pose = np.zeros((FRAMES, 3))
    pose[20:] = 1.0
    moved = Realignment(np.zeros(1), np.tile(np.eye(4), (FRAMES, 1, 1)), pose, pose, np.zeros(3), pose[:, 0] > 0, False)
    text = page(
        found(realignment=moved, factor=0.8),
        tmp_path,
        findings=(Finding("signal_negative", "note", "3 values are negative", 3),),
    )
    assert "<h2>Motion</h2>" in text and "3 values are negative." in text
    assert "multiplied by 0.8 so that healthy white matter" in text
