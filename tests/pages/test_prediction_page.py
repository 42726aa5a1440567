"""The page of one exam's predicted maps: whose network, volumes and medians, doubts, and how the maps came about.

On maps of one value each in half of a small volume.
"""

import dataclasses
import re

import numpy as np
import pytest
from exams import exam_of

from dscgan_jax.configs import temp_tmax
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.evaluation.readout import read_out
from dscgan_jax.figures import panels
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import prediction
from dscgan_jax.pages.exam import write
from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.training.record import CheckpointRecord
from dscgan_jax.training.weights import Weights

SHAPE, FRAMES = (8, 8, 2), 12
AFFINE = np.diag([2.0, 3.0, 5.0, 1.0])
VALUES = {"cbf": 40.0, "cbv": 3.0, "tmax": 7.0, "ttp": 30.0}
BRAIN = np.zeros(SHAPE, bool)
BRAIN[2:6] = True  # 64 voxels of 30 mm3


def weights(source="phantom exams"):
    """Of a network that is never applied."""
    scaling = Scaling("relative", Limits(0.0, 2.0), ("tmax",), (Limits(0.0, 12.0),), True)
    record = CheckpointRecord(temp_tmax.get_config("demo"), scaling, DataRecord(source), {})
    return Weights("small", "0.1.0", 7, "best", record, {}, "abcdef0123456789")


def maps(mask=BRAIN, values=VALUES, subject="sub-1", **more):
    """One value of each map inside the brain."""
    inside = BRAIN if mask is None else mask
    volumes = {name: np.where(inside, np.float32(value), np.float32(0)) for name, value in values.items()}
    units = {name: MAPS[name].unit for name in volumes}
    return ExamMaps(subject, volumes, units, StoredGrid(SHAPE, AFFINE), mask=mask, **more)


def page(tmp_path, exam_maps, whose=None):
    series = np.full((*SHAPE, FRAMES), 500.0, np.float32)
    exam = exam_of(series, BRAIN, AFFINE, frame_seconds=2.0, timing=BolusTiming(1, 1, 6, 8))
    paths = write(tmp_path, prediction.page_of(exam_maps, exam, whose or weights(), read_out(exam_maps)))
    assert [path.name for path in paths] == [f"{exam_maps.subject}_maps.png", f"{exam_maps.subject}.html"]
    text = re.sub(r'<script type="text/plain".*?</script>', "", paths[-1].read_text())
    return re.sub(r"base64,[^\"]*", "", text)  # what is packed may spell anything


def test_the_page_says_whose_maps_these_are_and_what_they_are_for(tmp_path):
    text = page(tmp_path, maps())
    assert "Maps by the network small 0.1.0 (step 7, abcdef012345), trained on simulated exams only." in text
    assert "sub-1" in text and "Research use only" in text and "Outside the tissue all maps are 0." in text


def test_volumes_by_tmax_and_medians_are_those_of_the_brain_alone(tmp_path):
    text = page(tmp_path, maps())
    assert "Tmax &gt; 4 / 6 / 8 / 10 s: 1.9 / 1.9 / 0.0 / 0.0 mL" in text  # 64 voxels of 30 mm3
    assert "<th>Tissue with maps</th><td>2 mL</td>" in text
    assert "CBF 40 mL/100 g/min" in text and "Tmax 7 s" in text and "MTT 0" not in text


def test_tissue_beyond_the_mask_does_not_count(tmp_path):
    half = BRAIN & (np.arange(SHAPE[1]) < 5)[:, None]
    beyond = maps(half)
    beyond.volumes["tmax"][BRAIN] = 7.0
    assert "<th>Tmax &gt; 6 s</th><td>1.2 mL</td>" in page(tmp_path, beyond)  # 40 voxels, not 64


@pytest.mark.parametrize("mask", [None, np.zeros(SHAPE, bool)])
def test_without_a_brain_there_are_no_volumes_and_no_medians(tmp_path, mask):
    text = page(tmp_path, maps(mask))
    assert "Medians" not in text and "Tmax &gt; 4 /" not in text and "Maps by the network" in text


def test_ttp_is_explained_where_there_is_one_and_volumes_where_there_is_tmax(tmp_path):
    assert "TTP counts from the first acquired frame" in page(tmp_path, maps())
    text = page(tmp_path, maps(values={"cbf": 40.0}))
    assert "TTP counts" not in text and "residue" not in text and "Tmax &gt; 4 /" not in text
    assert "Medians in the brain: CBF 40" in text


def test_warnings_stand_apart_from_notes_and_are_no_markup(tmp_path):
    found = (
        Finding("unlike_training", "warning", "frame length <5 s>"),
        Finding("mask_from_signal", "note", "the brain was found", None, "--mask=FILE"),
    )
    text = page(tmp_path, maps(findings=found))
    warnings, notes = text.split("<h2>Warnings</h2>")[1].split("<h2>Notes</h2>")
    assert "Frame length &lt;5 s&gt;." in warnings
    assert "The brain was found. (To overrule: --mask=FILE)" in notes
    assert "<h2>Warnings</h2>" not in page(tmp_path, maps())


def test_what_the_sidecars_hold_is_on_the_page(tmp_path):
    text = page(tmp_path, maps(provenance={"Model": {"name": "small", "step": 7}, "Odd": ["<b>"]}))
    assert "<dt>Model</dt><dd>name = small, step = 7</dd>" in text and "&lt;b&gt;" in text


def test_a_network_of_real_exams_is_not_called_one_of_simulated_ones(tmp_path):
    text = page(tmp_path, maps(), weights("a_clinic"))
    assert "trained on exams of a_clinic" in text and "simulated" not in text


def test_the_picture_is_of_these_maps_and_of_the_bolus_of_this_exam(tmp_path, monkeypatch):
    asked = {}
    draw = panels.maps_png
    monkeypatch.setattr(
        panels, "maps_png", lambda *given, **how: (asked.update(how, names=list(given[0])), draw(*given, **how))[1]
    )
    page(tmp_path, maps())
    assert asked["names"] == list(VALUES) and asked["arrival_seconds"] == 12.0  # frame 6 of 2 s
    assert asked["slices"] == panels.evenly_spaced(maps()["tmax"].shape[2])
    assert asked["title"] == "sub-1, small 0.1.0" and asked["aspect"] == pytest.approx(1.5)


def artery(echo_seconds):
    """An AIF of two voxels whose blood has 2 mM at frame 7, as a network is shown it."""
    known = np.zeros(FRAMES, np.float32)
    known[7] = 2.0
    per_mm = 1.0 / kinetics.concentration_of(np.float32([1.0]), kinetics.BLOOD_RELAXIVITY)[0]
    voxels = np.zeros(SHAPE, bool)
    voxels[3, 3:5, 1] = True
    return ArterialInput(known * per_mm * echo_seconds, voxels, 0.9, "auto", (), 12.0, 14.0, 1.0, 6.0, 2)


@pytest.mark.parametrize(("echo_seconds", "unit"), [(0.03, "mM"), (np.nan, "")])
def test_the_artery_that_the_network_was_shown_is_on_the_page(echo_seconds, unit):
    exam = exam_of(
        np.full((*SHAPE, FRAMES), 500.0, np.float32), BRAIN, AFFINE, frame_seconds=2.0, timing=BolusTiming(1, 1, 6, 8)
    )
    exam = dataclasses.replace(exam, echo_seconds=echo_seconds)
    shown = artery(1.0 if np.isnan(echo_seconds) else echo_seconds)
    curves = prediction.curves_of(exam, maps(artery=shown))
    assert curves.unit == unit and curves.fitted is None
    np.testing.assert_allclose(curves.arterial, np.where(np.arange(FRAMES) == 7, 2.0, 0.0), rtol=1e-5)
    np.testing.assert_array_equal(curves.arterial_voxels, shown.mask)
    assert prediction.curves_of(exam, maps()).arterial is None
