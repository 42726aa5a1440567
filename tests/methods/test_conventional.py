"""Conventional maps in files: grids, names, what lies beside them, and baselines beside a network."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.data import aif, layouts, nifti
from dscgan_jax.data.exams import load_exam
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods import conventional
from dscgan_jax.methods.conventional_files import deconvolve_file
from dscgan_jax.perfusion import brain, kinetics
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.perfusion.parametric import FitSettings
from dscgan_jax.phantom import cohort

SVD = Settings(method="csvd", scale="none")  # quick


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """Three phantom exams of 48 x 48 x 3, too coarse for an automatic arterial input."""
    root = tmp_path_factory.mktemp("deconvolve") / "exams"
    cohort.write_cohort(root, preset="acute", subjects=3, seed=1, size=48, slices=3)
    return root


def series_of(root, subject="sub-0001"):
    return root / subject / "perf" / f"{subject}_dsc.nii.gz"


def curve_of(root, subject="sub-0001"):
    return root / subject / "perf" / f"{subject}_aif.tsv"


def mask_of(root, subject="sub-0001"):
    return root / subject / "perf" / f"{subject}_mask.nii.gz"


@pytest.fixture(scope="module")
def written(exams, tmp_path_factory):
    """One file's maps by the parametric fit with the true arterial curve."""
    folder = tmp_path_factory.mktemp("maps")
    paths, notes = deconvolve_file(series_of(exams), folder, Settings(), aif=str(curve_of(exams)), mask=mask_of(exams))
    return folder, paths, notes


def early_voxels(root):
    """The 30 voxels whose signal falls deepest while the bolus comes in."""
    series = nifti.read_volume(series_of(root), dims=4).data
    peak = int(series.mean(axis=(0, 1, 2)).argmin())
    inside = nifti.read_volume(mask_of(root), dims=3).data > 0
    fall = np.where(inside, 1 - series[..., peak - 3 : peak].min(axis=-1) / series[..., 4:8].mean(axis=-1).clip(1), 0)
    return fall >= np.sort(fall.ravel())[-30]


def volume(folder, name, subject="sub-0001"):
    return nifti.read_volume(folder / f"{subject}_{name}.nii.gz", dims=3)


def test_a_file_becomes_five_maps_on_its_own_grid_with_everything_beside_them(exams, written):
    folder, paths, _ = written
    series = nifti.read_volume(series_of(exams), dims=4)
    for name in MAP_NAMES:
        stored = volume(folder, name)
        assert stored.data.shape == series.data.shape[:3]
        np.testing.assert_allclose(stored.affine, series.affine, atol=1e-5)
    for name in ("_mask.nii.gz", "_aif.tsv", "_aif.png", "_maps.png", ".html"):
        assert (folder / f"sub-0001{name}").stat().st_size > 0
    assert all(path.is_file() for path in paths)


def test_the_maps_are_near_the_truth(exams, written):
    mask = volume(exams / "sub-0001/perf", "mask").data > 0
    for name, error in (("tmax", 0.6), ("ttp", 0.5), ("mtt", 1.5), ("cbf", 12.0)):
        apart = np.abs(volume(written[0], name).data - volume(exams / "sub-0001/perf", name).data)[mask]
        assert np.median(apart) < error, name


def test_the_sidecar_holds_units_settings_and_every_constant(written):
    record = json.loads((written[0] / "sub-0001_cbf.json").read_text())
    assert record["Units"] == MAPS["cbf"].unit and record["Settings"]["method"] == "parametric"
    assert set(record["Constants"]) == set(kinetics.CONSTANTS)
    assert record["ArterialInput"]["Source"] == "curve" and record["Software"]["dscgan_jax"]
    assert record["ScaleFactor"] > 0 and record["Settings"]["fit"]["mtt_seconds"] == 5.0


@pytest.mark.slow
def test_the_written_arterial_curve_can_be_given_again(exams, written, tmp_path):
    deconvolve_file(
        series_of(exams), tmp_path, Settings(), aif=str(written[0] / "sub-0001_aif.tsv"), mask=mask_of(exams)
    )
    np.testing.assert_allclose(volume(tmp_path, "tmax").data, volume(written[0], "tmax").data, atol=0.02)


@pytest.mark.slow
def test_an_exam_stored_in_other_axes_gives_the_same_maps(exams, written, tmp_path):
    turned = tmp_path / "sub-0001_dsc.nii.gz"
    series = nifti.read_volume(series_of(exams), dims=4)
    mask = nifti.read_volume(mask_of(exams), dims=3)
    flip = series.affine @ np.array([[0, -1, 0, series.data.shape[0] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nifti.write_volume(
        turned,
        series.data.transpose(1, 0, 2, 3)[:, ::-1],
        flip,
        dtype=np.int16,
        frame_seconds=2.22,
        sidecar=read_sidecar(nifti.sidecar_path(series_of(exams))),
    )
    nifti.write_volume(
        tmp_path / "mask.nii.gz", mask.data.transpose(1, 0, 2)[:, ::-1].astype(np.uint8), flip, dtype=np.uint8
    )
    deconvolve_file(turned, tmp_path / "maps", Settings(), aif=str(curve_of(exams)), mask=tmp_path / "mask.nii.gz")
    again, first = (volume(folder, "tmax") for folder in (tmp_path / "maps", written[0]))
    ras = [StoredGrid.of(one.data, one.affine).to_ras(one.data) for one in (again, first)]
    np.testing.assert_allclose(ras[0], ras[1], atol=1e-3)


def test_a_given_arterial_mask_wins_and_is_written(exams, tmp_path):
    brain = nifti.read_volume(mask_of(exams), dims=3)
    arteries = early_voxels(exams).astype(np.uint8)
    nifti.write_volume(tmp_path / "arteries.nii.gz", arteries, brain.affine, dtype=np.uint8)
    deconvolve_file(
        series_of(exams), tmp_path / "maps", SVD, aif=str(tmp_path / "arteries.nii.gz"), mask=mask_of(exams)
    )
    np.testing.assert_array_equal(volume(tmp_path / "maps", "aifmask").data, arteries)
    assert json.loads((tmp_path / "maps/sub-0001_tmax.json").read_text())["ArterialInput"]["Source"] == "mask"


@pytest.mark.slow
def test_arterial_voxels_of_an_earlier_run_do_not_stay_beside_a_given_curve(exams, tmp_path):
    affine = nifti.read_volume(mask_of(exams), dims=3).affine
    nifti.write_volume(tmp_path / "arteries.nii.gz", early_voxels(exams).astype(np.uint8), affine, dtype=np.uint8)
    for given, there in ((str(tmp_path / "arteries.nii.gz"), True), ("files", False)):
        deconvolve_file(series_of(exams), tmp_path / "maps", SVD, aif=given, mask=mask_of(exams))
        assert (tmp_path / "maps/sub-0001_aifmask.nii.gz").is_file() == there


def test_a_mask_of_the_air_is_refused_and_one_that_reaches_into_it_is_told(exams, tmp_path):
    brain = nifti.read_volume(mask_of(exams), dims=3)
    away = np.roll(brain.data > 0, 4, axis=0).astype(np.uint8)
    air = np.zeros_like(away)
    air[:4] = 1
    for name, mask in (("away", away), ("air", air)):
        nifti.write_volume(tmp_path / f"{name}.nii.gz", mask, brain.affine, dtype=np.uint8)
    _, notes = deconvolve_file(series_of(exams), tmp_path / "maps", SVD, aif="files", mask=tmp_path / "away.nii.gz")
    assert any("another exam" in note.text for note in notes)
    with pytest.raises(InputError, match="no signal"):
        deconvolve_file(series_of(exams), tmp_path / "maps", SVD, aif="files", mask=tmp_path / "air.nii.gz")


@pytest.mark.slow
def test_maps_of_a_correction_of_leakage_are_written_besides_and_do_not_outlive_it(exams, tmp_path):
    corrected = dataclasses.replace(SVD, leakage="bidirectional")
    paths, _ = deconvolve_file(series_of(exams), tmp_path, corrected, aif="files", mask=mask_of(exams))
    assert {path.name for path in paths} >= {"sub-0001_k1.nii.gz", "sub-0001_k2.nii.gz"}
    record = json.loads((tmp_path / "sub-0001_k2.json").read_text())
    assert record["Units"] == "1/s" and "T2*" in record["Description"]
    assert record["Settings"]["leakage"] == "bidirectional"
    assert "leakage_absent" in {finding["Name"] for finding in record["Findings"]}
    assert "K2" in (tmp_path / "sub-0001.html").read_text()
    paths, _ = deconvolve_file(series_of(exams), tmp_path, SVD, aif="files", mask=mask_of(exams))
    assert not list(tmp_path.glob("*_k[12].*")) and len(paths) == len(MAP_NAMES) + 3


def test_a_correction_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"leakage is 'weisskoff'; it must be one of none, bsw, bidirectional\."):
        Settings(leakage="weisskoff")


def test_the_brain_is_looked_for_once(exams, tmp_path, monkeypatch):
    seen, look = [], brain.brain_mask
    monkeypatch.setattr(brain, "brain_mask", lambda series, affine: seen.append(series.shape) or look(series, affine))
    deconvolve_file(series_of(exams), tmp_path, dataclasses.replace(SVD, motion="none"), aif="files")
    assert len(seen) == 1
    assert json.loads((tmp_path / "sub-0001_tmax.json").read_text())["MaskSource"] == "found"


@pytest.mark.slow
def test_the_page_tells_volumes_the_arterial_input_and_doubts(written, exams, tmp_path):
    page = (written[0] / "sub-0001.html").read_text()
    assert (
        "&gt; 6 s" in page
        and "given as a curve" in page
        and "tissue_relaxivity = 87" in page
        and "research use only" in page.lower()
    )
    deconvolve_file(series_of(exams), tmp_path, SVD, aif=str(curve_of(exams)), mask=mask_of(exams))
    assert "SVD methods peaks late" in (tmp_path / "sub-0001.html").read_text()


@pytest.mark.slow
def test_without_an_echo_time_units_are_relative_and_it_is_said(exams, tmp_path):
    lone = tmp_path / "sub-0001_dsc.nii.gz"
    shutil.copy(series_of(exams), lone)
    nifti.sidecar_path(lone).write_text(json.dumps({"RepetitionTime": 2.22}))
    affine = nifti.read_volume(mask_of(exams), dims=3).affine
    nifti.write_volume(tmp_path / "arteries.nii.gz", early_voxels(exams).astype(np.uint8), affine, dtype=np.uint8)
    _, notes = deconvolve_file(lone, tmp_path / "maps", SVD, aif=str(tmp_path / "arteries.nii.gz"), mask=mask_of(exams))
    assert any("echo time" in note.text for note in notes)
    assert json.loads((tmp_path / "maps/sub-0001_cbf.json").read_text())["Units"] == "relative"
    assert json.loads((tmp_path / "maps/sub-0001_tmax.json").read_text())["Units"] == "s"
    scaled = dataclasses.replace(SVD, scale="reference_wm")
    deconvolve_file(lone, tmp_path / "maps", scaled, aif=str(tmp_path / "arteries.nii.gz"), mask=mask_of(exams))
    record = json.loads((tmp_path / "maps/sub-0001_cbf.json").read_text())
    assert record["Units"] == MAPS["cbf"].unit and record["ReferenceWhiteMatterCbf"] == 22.0


# ------------------------------------------------------------------------------------------------- settings


def test_every_field_of_the_config_reaches_the_settings():
    config = default.get_config()
    config.conventional.update(
        method="osvd",
        scale="1.5",
        motion="rigid",
        tmax_offset="healthy",
        truncation_threshold=0.07,
        oscillation_index=0.05,
        neighbourhood_mm=3.0,
        transit_shape=1.0,
        dispersion=False,
        leakage="bsw",
    )
    assert conventional.settings_of(config) == Settings(
        "osvd", 1.5, "rigid", "healthy", 0.07, 0.05, 3.0, FitSettings(transit_shape=1.0, dispersion=False), "bsw"
    )
    assert conventional.settings_of(default.get_config()) == Settings()


@pytest.mark.slow
def test_several_methods_share_one_arterial_input(exams):
    files = layouts.find_subjects(exams, "bids")[0]
    exam = load_exam(files)
    given = aif.given_of(exam, "files", own_aif=files.aif)
    results = conventional.by_methods(exam, Settings(), ("csvd", "osvd"), given)
    alone = conventional.deconvolve(exam, "osvd", aif=files.aif)
    np.testing.assert_array_equal(results["osvd"].maps["cbf"], alone["cbf"])
    assert results["csvd"].found.measured is results["osvd"].found.measured
    assert results["csvd"].settings.method == "csvd"


def test_an_unknown_baseline_is_refused_before_anything_starts():
    config = default.get_config()
    config.evaluate.baselines = ("tsvd",)
    with pytest.raises(InputError, match="tsvd"):
        conventional.check_baselines(config)


@pytest.mark.parametrize("content", ["", "time\tvalue\n0\t1\n", "time_seconds\tconcentration_mM\n0\tabc\n", "\x00\x01"])
def test_a_table_that_is_no_arterial_curve_says_what_is_expected(tmp_path, content):
    path = tmp_path / "aif.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match="time_seconds and concentration_mM"):
        aif.read_curve(path)


@pytest.mark.parametrize("text", ["1_0", "nan", "inf", "1,5", "", "0x1p3", "1e9999"])
def test_a_row_of_an_arterial_table_that_is_no_number_is_named(tmp_path, text):
    path = tmp_path / "aif.tsv"
    path.write_text(f"time_seconds\tconcentration_mM\n0\t1\n1.5\t{text}\n3\t2\n")
    with pytest.raises(
        InputError, match=r"aif\.tsv: expected a tab-separated table .* row 2 has '.*' as concentration_mM"
    ):
        aif.read_curve(path)
    path.write_text("time_seconds\tconcentration_mM\n0\t1\n1.5\t-2.5e-1\n3.\t.5\n")
    np.testing.assert_allclose(aif.read_curve(path), [[0, 1.5, 3], [1, -0.25, 0.5]])


@pytest.mark.parametrize("name", ["mask", "arteries"])
def test_a_mask_of_another_grid_is_refused_and_one_in_another_order_of_axes_is_turned(exams, tmp_path, name):
    exam = load_exam(series_of(exams))
    brain = nifti.read_volume(mask_of(exams), dims=3)

    def given(data, affine):
        path = tmp_path / f"{name}.nii.gz"
        nifti.write_volume(path, data.astype(np.uint8), affine, dtype=np.uint8)
        if name == "mask":
            return exam.stored.to_stored(load_exam(series_of(exams), mask=path).mask)
        return exam.stored.to_stored(aif.given_of(exam, str(path)).arterial_mask)

    flipped = brain.affine @ np.array([[-1, 0, 0, brain.data.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(given(brain.data[::-1], flipped), brain.data > 0)
    larger = brain.affine @ np.diag([1.1, 1.1, 1, 1])  # every entry within 0.5 of the series'
    shifted = brain.affine @ np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for affine in (larger, shifted, brain.affine + np.array([[0, 0, 0, 30.0], *np.zeros((3, 4))])):
        with pytest.raises(InputError, match="mm away from the series though both have shape"):
            given(brain.data, affine)


def test_an_aif_without_a_unit_serves_exams_whose_own_concentrations_have_none(tmp_path):
    path = tmp_path / "aif.tsv"
    aif.write_curve(path, np.array([0.0, 1.5]), np.array([0.0, 0.134]), relative=True)
    np.testing.assert_allclose(aif.read_curve(path, relative=True), [[0, 1.5], [0, 0.134]])
    with pytest.raises(InputError, match=r"have no unit .* this exam has"):
        aif.read_curve(path)
    aif.write_curve(path, np.array([0.0, 1.5]), np.array([0.0, 4.5]))
    np.testing.assert_allclose(aif.read_curve(path, relative=True), aif.read_curve(path))
