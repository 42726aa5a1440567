"""The layout `bids`: one folder for each subject."""

import pathlib

from dscgan_jax.data.exams import SubjectFiles
from dscgan_jax.data.layouts.present import is_there, leads_nowhere, only_one
from dscgan_jax.data.sidecars import sidecars_of
from dscgan_jax.maps import MAP_NAMES


def subjects_in(root: pathlib.Path) -> list[SubjectFiles]:
    """`root/sub-*/perf/sub-*_dsc.nii.gz` and its neighbours; also folders without that file."""
    folders = sorted(path / "perf" for path in root.glob("sub-*") if path.is_dir() or leads_nowhere(path))
    return [_bids_subject(folder) for folder in folders]


def _bids_subject(folder: pathlib.Path) -> SubjectFiles:
    """The files of one `perf` folder."""
    subject = folder.parent.name

    def one(suffix: str) -> pathlib.Path | None:
        return only_one([folder / f"{subject}_{suffix}{ending}" for ending in (".nii.gz", ".nii")])

    def beside(name: str) -> pathlib.Path | None:
        path = folder / f"{subject}_{name}"
        return path if is_there(path) else None

    series = one("dsc") or folder / f"{subject}_dsc.nii.gz"
    return SubjectFiles(
        subject=subject,
        series=series,
        sidecars=sidecars_of(series),
        maps={name: path for name in MAP_NAMES if (path := one(name))},
        mask=one("mask"),
        lesion=one("lesion"),
        aif=beside("aif.tsv"),
        truth=beside("truth.json"),
    )
