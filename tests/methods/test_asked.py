"""What is asked for beside the maps: given on the command line, checked before anything slow, written with the maps."""

import json
import os
import pathlib
import shutil
import subprocess

import command_line
import numpy as np
import pytest

from dscgan_jax.data import nifti
from dscgan_jax.phantom import cohort


@pytest.fixture(scope="module")
def perf(tmp_path_factory):
    """One phantom exam of 48 x 48 x 3."""
    root = tmp_path_factory.mktemp("asked") / "exams"
    cohort.write_cohort(root, preset="acute", subjects=1, seed=1, size=48, slices=3)
    return root / "sub-0001" / "perf"


def deconvolve(perf, output, *more):
    """By the quickest method, with the true AIF."""
    given = (f"--aif={perf / 'sub-0001_aif.tsv'}", f"--mask={perf / 'sub-0001_mask.nii.gz'}")
    quick = ("--method=csvd", "--scale=none", "--motion=none")
    return command_line.program("deconvolve", perf / "sub-0001_dsc.nii.gz", output, *given, *quick, *more)


def core_of(perf, folder, data=None, affine=None):
    """A mask of the true core's place, or of something else, on the series' grid or another one."""
    lesion = nifti.read_volume(perf / "sub-0001_lesion.nii.gz", dims=3)
    data = lesion.data == lesion.data.max() if data is None else data
    path = folder / "core mask ä.nii.gz"
    nifti.write_volume(path, data.astype(np.uint8), lesion.affine if affine is None else affine, dtype=np.uint8)
    return path


def record_of(folder):
    return json.loads((folder / "sub-0001_readout.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_given_core_is_read_out_beside_the_maps_and_told(perf, tmp_path):
    core = core_of(perf, tmp_path)
    done = deconvolve(perf, tmp_path / "maps", f"--core={core}")
    assert done.returncode == 0, done.stderr
    record = record_of(tmp_path / "maps")
    volume = nifti.read_volume(core, dims=3)
    expected = volume.data.sum() * abs(np.linalg.det(volume.affine)) / 1000
    assert record["core_source"] == "mask" and record["core_ml"] == pytest.approx(expected, abs=1e-3)
    assert f"core {expected:.1f} mL (given mask)" in done.stdout and "research use only" in done.stdout
    assert (tmp_path / "maps" / "sub-0001_readout.csv").read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.slow
def test_without_a_core_it_is_research(perf, tmp_path):
    assert deconvolve(perf, tmp_path / "maps").returncode == 0
    assert record_of(tmp_path / "maps")["core_source"] == "research: CBF"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: {"data": np.ones_like(data)}, "holds 100 % of the brain"),
        (lambda data: {"data": np.stack([data, data], axis=-1)}, "expected a 3-D map"),
        (lambda data: {"data": data[:20]}, "covers"),
    ],
    ids=["all ones", "4-D", "half of the grid"],
)
def test_a_core_that_is_none_ends_in_one_line_before_anything_is_written(perf, tmp_path, change, says):
    data = nifti.read_volume(perf / "sub-0001_mask.nii.gz", dims=3).data
    done = deconvolve(perf, tmp_path / "maps", f"--core={core_of(perf, tmp_path, **change(data))}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and says in done.stderr
    assert not (tmp_path / "maps").exists()


def test_a_core_that_is_not_there_and_one_for_a_whole_folder_are_refused(perf, tmp_path):
    assert "no such file" in deconvolve(perf, tmp_path / "maps", "--core=nowhere.nii.gz").stderr
    done = command_line.program("deconvolve", perf.parents[1], tmp_path / "maps", f"--core={core_of(perf, tmp_path)}")
    assert done.returncode == 1 and "--core" in done.stderr and not (tmp_path / "maps").exists()


def test_files_of_the_user_in_the_output_folder_stay(perf, tmp_path):
    output = tmp_path / "maps"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    (output / "sub-0002_readout.json").write_text("mine too")
    assert deconvolve(perf, output).returncode == 0
    assert (output / "notes.txt").read_text() == "mine"
    assert (output / "sub-0002_readout.json").read_text() == "mine too"


def test_a_folder_that_cannot_be_written_is_one_line(perf, tmp_path):
    output = tmp_path / "maps"
    output.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere but here
        output = pathlib.Path("/proc/maps")
    done = deconvolve(perf, output)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert not output.exists() or not list(output.iterdir())


def validated(folder) -> set[str]:
    """Names of errors that the BIDS validator finds."""
    command = shutil.which("bids-validator-deno")
    if command is None:
        pytest.skip("the BIDS validator is not installed (bids-validator-deno)")
    done = subprocess.run([command, str(folder), "--format", "json"], capture_output=True, text=True, check=False)
    return {one["code"] for one in json.loads(done.stdout)["issues"]["issues"] if one["severity"] == "error"}


@pytest.mark.slow
def test_a_folder_of_maps_is_a_bids_derivative(perf, tmp_path):
    output = tmp_path / "maps"
    done = command_line.program(
        "deconvolve", perf.parents[1], output, "--method=csvd", "--motion=none", "--aif=files", "--desc=csvd"
    )
    assert done.returncode == 0, done.stderr
    written = output / "sub-0001" / "perf"
    for name in ("tmax.nii.gz", "tmax.json", "mask.nii.gz", "readout.json"):
        assert (written / f"sub-0001_desc-csvd_{name}").is_file()
    assert not list(written.glob("sub-0001_tmax*"))
    assert validated(output) == set()
    (output / ".bidsignore").unlink()
    assert "NOT_INCLUDED" in validated(output)  # it does look


def test_a_desc_that_bids_does_not_have_is_refused(perf, tmp_path):
    done = deconvolve(perf, tmp_path / "maps", "--desc=my-maps")
    assert (
        done.returncode == 1 and "--desc=my-maps: expected letters" in done.stderr and not (tmp_path / "maps").exists()
    )


def test_maps_come_onto_another_images_grid_beside_their_own(perf, tmp_path):
    mask = nifti.read_volume(perf / "sub-0001_mask.nii.gz", dims=3)
    fine = mask.affine @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = (mask.affine @ [-0.25, -0.25, 0, 1])[:3]
    nifti.write_volume(tmp_path / "T1w.nii.gz", np.zeros((96, 96, 3), np.int16), fine, dtype=np.int16)
    done = deconvolve(perf, tmp_path / "maps", f"--space={tmp_path / 'T1w.nii.gz'}", "--desc=csvd")
    assert done.returncode == 0, done.stderr
    name = "sub-0001_space-T1w_desc-csvd_tmax.nii.gz"
    assert str(tmp_path / "maps" / name) in done.stdout
    own, moved = (
        nifti.read_volume(tmp_path / "maps" / one, dims=3).data for one in ("sub-0001_desc-csvd_tmax.nii.gz", name)
    )
    assert moved.shape == (96, 96, 3)
    assert np.median(moved[moved != 0]) == pytest.approx(np.median(own[own != 0]), rel=0.05)


def test_an_image_that_does_not_overlap_ends_in_one_line(perf, tmp_path):
    mask = nifti.read_volume(perf / "sub-0001_mask.nii.gz", dims=3)
    away = mask.affine.copy()
    away[1, 3] += 800
    nifti.write_volume(tmp_path / "T1w.nii.gz", mask.data, away)
    done = deconvolve(perf, tmp_path / "maps", f"--space={tmp_path / 'T1w.nii.gz'}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "overlaps the brain" in done.stderr
    assert not (tmp_path / "maps").exists()


@pytest.mark.slow
def test_maps_are_written_as_dicom_too(perf, tmp_path):
    pytest.importorskip("highdicom")
    done = deconvolve(perf, tmp_path / "maps", "--dicom")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "maps" / "sub-0001_tmax.dcm") in done.stdout
    assert len(list((tmp_path / "maps").glob("*.dcm"))) == 5


def test_files_of_the_user_are_not_overwritten_by_maps_of_the_same_name(perf, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "sub-0001_mask.nii.gz").write_bytes(b"drawn by hand")
    done = deconvolve(perf, tmp_path / "maps")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "did not write it" in done.stderr
    assert [path.read_bytes() for path in (tmp_path / "maps").iterdir()] == [b"drawn by hand"]
    assert deconvolve(perf, tmp_path / "maps", "--desc=csvd").returncode == 0  # beside it
    assert (tmp_path / "maps" / "sub-0001_mask.nii.gz").read_bytes() == b"drawn by hand"
    assert (tmp_path / "maps" / "sub-0001_desc-csvd.html").is_file()


@pytest.mark.slow
def test_what_an_earlier_run_left_and_this_one_does_not_make_is_removed(perf, tmp_path):
    mask = perf / "sub-0001_mask.nii.gz"
    shutil.copy(mask, tmp_path / "T1w.nii.gz")
    assert deconvolve(perf, tmp_path / "maps", f"--space={tmp_path / 'T1w.nii.gz'}").returncode == 0
    for name in ("sub-0001_tmax.dcm", "sub-0001_qc.html", "notes.txt", "sub-0001_mine.nii.gz"):
        (tmp_path / "maps" / name).write_text("x")
    assert list((tmp_path / "maps").glob("*space-T1w_tmax*"))
    assert deconvolve(perf, tmp_path / "maps").returncode == 0
    left = {path.name for path in (tmp_path / "maps").iterdir()}
    assert not [name for name in left if "space-" in name or name.endswith((".dcm", "qc.html"))]
    assert {"notes.txt", "sub-0001_mine.nii.gz", "sub-0001_tmax.nii.gz", "sub-0001.html"} <= left
