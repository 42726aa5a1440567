"""Maps on the grid of another image of the same person, such as a T1-weighted one: by the affines, not registered."""

import dataclasses
import pathlib

import numpy as np

from dscgan_jax.data import nifti, resampling
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings

MOST_OF_BRAIN = 0.99  # inside the other image; with less, somebody should know
HOW = "linear over voxels with values, by the affines of both files; not registered"


@dataclasses.dataclass(frozen=True)
class Reference:
    """The grid of another image.

    Attributes:
      label: of the `space-` entity in names of files: what follows the last `_` of the image's name.
      shape: (x, y, z) as stored.
      affine: (4, 4) voxel index as stored -> millimetres, RAS+.
    """

    label: str
    shape: tuple[int, int, int]
    affine: np.ndarray


def read_reference(path: pathlib.Path | str, exam: Exam, found: Findings) -> Reference:
    """The grid of a 3-D image, from its header alone.

    Args:
      path: NIfTI file.
      exam: whose maps are to come onto it.
      found: receives a warning where it does not hold the whole brain.

    Raises:
      InputError: the file is unreadable or not 3-D, one of both has no orientation, or they do not overlap.
    """
    path = pathlib.Path(path)
    outline = nifti.read_outline(path, dims=3)
    for where, findings in ((path, outline.findings), ("the series", exam.findings)):
        if any(finding.name == "orientation_unknown" for finding in findings):
            raise InputError(
                f"--space={path}: {where} has no orientation in its header (both form codes are 0), so that nobody "
                "knows where one lies in the other; convert it again."
            )
    x, y, z = outline.data.shape
    share = resampling.covered_share(exam.mask, exam.affine, (x, y, z), outline.affine)
    if not share:
        raise InputError(
            f"--space={path}: expected an image that overlaps the brain of the series, by the affines it lies "
            "elsewhere; register it first, or give an image of the same session."
        )
    if share < MOST_OF_BRAIN:
        found.warning(
            "space_partly",
            f"the image given as --space holds {100 * share:.0f} % of the brain: maps on its grid lack the rest",
            round(share, 3),
        )
    return Reference(_label(path), (x, y, z), outline.affine)


def write_in_space(folder: pathlib.Path, stem: str, maps: ExamMaps, reference: Reference) -> list[pathlib.Path]:
    """Writes `<stem>_<map>.nii.gz` and `<stem>_mask.nii.gz` on another grid, with sidecars; returns the maps' paths.

    Args:
      folder: exists.
      stem: with the `space-` entity.
      maps: on the exam's grid.
      reference: the other one.

    Raises:
      InputError: the folder cannot be written.
    """
    inside = maps.mask if maps.mask is not None else np.any([one != 0 for one in maps.volumes.values()], axis=0)
    onto = maps.affine, reference.shape, reference.affine
    weights = resampling.weights_onto(inside, *onto)
    paths = []
    for name, volume in maps.volumes.items():
        paths.append(folder / f"{stem}_{name}.nii.gz")
        sidecar = maps.sidecar(name) | {"Space": reference.label, "Resampling": HOW}
        moved = resampling.map_onto(volume, inside, *onto, weights)
        nifti.write_volume(paths[-1], moved, reference.affine, sidecar=sidecar)
    mask = (weights >= resampling.LEAST_WEIGHT).astype(np.uint8)  # where the maps have values
    nifti.write_volume(folder / f"{stem}_mask.nii.gz", mask, reference.affine, dtype=np.uint8)
    return paths


def _label(path: pathlib.Path) -> str:
    """Letters and digits of the last part of a name: `T1w` of `sub-01_T1w.nii.gz`."""
    last = nifti.stem_of(path).rpartition("_")[2]
    return "".join(one for one in last if one.isascii() and one.isalnum()) or "reference"
