"""The layouts of the ISLES challenges, as downloaded: 2017 is DSC-MRI, 2018 and 2024 are CT perfusion."""

import pathlib
import re
from collections.abc import Mapping

from dscgan_jax.data.layouts.present import is_there, only_one
from dscgan_jax.data.sidecars import own_sidecar
from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.maps import MAP_NAMES

TOKENS_2017 = {
    "MR_4DPWI": "series",
    "OT": "lesion",
    "MR_rCBF": "cbf",
    "MR_rCBV": "cbv",
    "MR_MTT": "mtt",
    "MR_Tmax": "tmax",
    "MR_TTP": "ttp",
}
# Some copies call them MR_, as the years before.
TOKENS_2018 = {"OT": "lesion"} | {
    f"{modality}_{token}": role
    for modality in ("CT", "MR")
    for token, role in {"4DPWI": "series", "CBF": "cbf", "CBV": "cbv", "MTT": "mtt", "Tmax": "tmax"}.items()
}
CASE_2017, CASE_2018 = re.compile(r"(training|test)_\d+"), re.compile(r"case_\d+")
FRAME_SECONDS_OF_2018 = 1.0  # where the header tells none
MAPS_OF_2024 = ("tmax", "mtt", "cbf", "cbv")


def subjects_of_2017(root: pathlib.Path) -> list[SubjectFiles]:
    """`training_<n>/<VSD|SMIR>.Brain.XX.O.<token>.<id>/<the same>.nii`, also flattened; `__MACOSX` is ignored."""
    return [
        _of_roles(folder, _roles(folder, TOKENS_2017), "VSD.Brain.XX.O.MR_4DPWI.nii")
        for folder in _cases(root, CASE_2017)
    ]


def subjects_of_2018(root: pathlib.Path) -> list[SubjectFiles]:
    """`case_<n>/SMIR.Brain.XX.O.<token>.<id>/<the same>.nii`, likewise."""
    return [
        _of_roles(folder, _roles(folder, TOKENS_2018), "SMIR.Brain.XX.O.CT_4DPWI.nii", FRAME_SECONDS_OF_2018)
        for folder in _cases(root, CASE_2018)
    ]


def subjects_of_2024(root: pathlib.Path) -> list[SubjectFiles]:
    """`train/raw_data/sub-stroke<n>/ses-01/sub-stroke<n>_ses-01_ctp.nii.gz` and `perfusion-maps/` beside it.

    Where raw data have no series, that of `derivatives/` with the maps on the grid of the non-contrast CT. The root may
    be the data set's, `train`, or one of these two folders.
    """
    found: dict[str, SubjectFiles] = {}
    for tree, space in (("raw_data", ""), ("derivatives", "_space-ncct")):
        for folder in _sessions(root, tree):
            files = _of_session(folder, space)
            known = found.get(files.subject)
            if known is None or (not is_there(known.series) and is_there(files.series)):
                found[files.subject] = files
    return list(found.values())


# ------------------------------------------------------------------------------------------------- 2017 and 2018


def _cases(root: pathlib.Path, name: re.Pattern[str]) -> list[pathlib.Path]:
    """Folders of that name in the root and one level below."""
    return [
        path
        for pattern in ("*", "*/*")
        for path in root.glob(pattern)
        if name.fullmatch(path.name) and path.is_dir() and "__MACOSX" not in path.parts
    ]


def _roles(folder: pathlib.Path, tokens: Mapping[str, str]) -> dict[str, pathlib.Path]:
    """The files of a case by what they are."""
    name = re.compile(r"(?:(?:VSD|SMIR)\.Brain\.XX\.O\.)?(" + "|".join(tokens) + r")(?:\.\d+)?\.nii(?:\.gz)?")
    found: dict[str, list[pathlib.Path]] = {}
    for path in sorted(folder.rglob("*.nii*")):
        match = name.fullmatch(path.name)
        if match and "__MACOSX" not in path.parts and is_there(path):
            found.setdefault(tokens[match[1]], []).append(path)
    return {role: path for role, paths in found.items() if (path := only_one(paths))}


def _of_roles(
    folder: pathlib.Path, files: Mapping[str, pathlib.Path], expected: str, usual_frame_seconds: float = 0.0
) -> SubjectFiles:
    return SubjectFiles(
        subject=folder.name,
        series=files.get("series", folder / expected),
        maps={name: files[name] for name in MAP_NAMES if name in files},
        lesion=files.get("lesion"),
        usual_frame_seconds=usual_frame_seconds,
    )


# ----------------------------------------------------------------------------------------------------------- 2024


def _sessions(root: pathlib.Path, tree: str) -> list[pathlib.Path]:
    """The folders of the first session of all patients in a tree."""
    places = [root / tree, root / "train" / tree, *([root] if root.name == tree else [])]
    return sorted(path for place in places for path in place.glob("sub-stroke*/ses-01") if path.is_dir())


def _of_session(folder: pathlib.Path, space: str) -> SubjectFiles:
    """The files of one session, in whose names the space comes after the subject."""
    person = folder.parent.name
    stem = f"{person}_{folder.name}"

    def one(place: pathlib.Path, suffix: str) -> pathlib.Path | None:
        return only_one([place / f"{stem}{space}_{suffix}{ending}" for ending in (".nii.gz", ".nii")])

    series = one(folder, "ctp") or folder / f"{stem}{space}_ctp.nii.gz"
    maps = {name: one(folder / "perfusion-maps", name) for name in MAPS_OF_2024}
    return SubjectFiles.found(
        subject=stem,
        series=series,
        sidecars=own_sidecar(series),
        maps={name: path for name, path in maps.items() if path},
        participant=person,
    )
