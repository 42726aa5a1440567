"""A given mask of the ischaemic core, such as from diffusion, on the grid of the series."""

import pathlib

import numpy as np

from dscgan_jax.data import nifti, resampling
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.geometry import StoredGrid, voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings

LEAST_COVERED = 0.99  # of the brain: what a mask does not cover it does not tell of


def read_core(path: pathlib.Path | str, exam: Exam, found: Findings) -> np.ndarray:
    """A mask of the core, (x, y, z) bool on the RAS axes of the exam.

    Diffusion has voxels of its own. A mask on another grid is brought onto that of the series by the affines, nearest
    voxel; within one session that is right as far as the head kept still.

    Args:
      path: NIfTI file, 1 (or any one value) inside and 0 elsewhere.
      exam: whose core it is.
      found: receives a note on resampling.

    Raises:
      InputError: the file is unreadable, is no mask, or does not cover the brain of the exam.
    """
    path = pathlib.Path(path)
    volume = nifti.read_volume(path, dims=3)
    own = StoredGrid.of(volume.data, volume.affine)
    _check_values(path, volume.data)
    if same_grid.is_same(own, exam.stored):
        return same_grid.turned(path, volume, exam.stored) > 0.5  # NaN compares false
    unknown = [finding for finding in (*volume.findings, *exam.findings) if finding.name == "orientation_unknown"]
    if unknown:
        raise InputError(
            f"{path}: expected a core on the grid of the series {exam.stored.shape}, the file has {own.shape}, and "
            "without an orientation in both headers it cannot be brought there; draw or resample it on the series."
        )
    covered = resampling.covered_share(exam.mask, exam.affine, own.shape, own.affine)
    if covered < LEAST_COVERED:
        raise InputError(
            f"{path}: expected a core on the grid of the series {exam.stored.shape}, or one that covers the brain; the "
            f"file has {own.shape} and covers {100 * covered:.0f} % of it; draw or resample it on the series."
        )
    core = volume.data > 0.5
    moved = resampling.mask_onto(core, own.affine, exam.mask.shape, exam.affine)
    before, after = core.sum() * voxel_ml(own.affine), moved.sum() * voxel_ml(exam.affine)
    found.note(
        "core_resampled",
        f"the core mask has other voxels than the series; it was brought onto them by the affines, nearest voxel, and "
        f"not registered: {before:.1f} mL became {after:.1f} mL",
        round(float(after), 2),
    )
    return moved


def _check_values(path: pathlib.Path, data: np.ndarray) -> None:
    """Refuses labels and images: one value besides 0 is a mask, and fractions of it where it was interpolated."""
    inside = data[np.nan_to_num(data, posinf=0.0, neginf=0.0) > 0.5]
    if inside.size and np.rint(inside.min()) != np.rint(inside.max()):
        raise InputError(
            f"{path}: expected a mask of the core, one value inside and 0 elsewhere; the file has values from "
            f"{inside.min():g} to {inside.max():g}; give the core's label alone."
        )
