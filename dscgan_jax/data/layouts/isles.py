"""The layouts of the ISLES challenges, as downloaded."""

import pathlib
import re

from dscgan_jax.data.exams import SubjectFiles
from dscgan_jax.data.layouts.present import is_there, only_one
from dscgan_jax.maps import MAP_NAMES

ISLES_TOKENS = {
    "MR_4DPWI": "series",
    "OT": "lesion",
    "MR_rCBF": "cbf",
    "MR_rCBV": "cbv",
    "MR_MTT": "mtt",
    "MR_Tmax": "tmax",
    "MR_TTP": "ttp",
}
ISLES_FILE = re.compile(r"^(?:(?:VSD|SMIR)\.Brain\.XX\.O\.)?(" + "|".join(ISLES_TOKENS) + r")(?:\.\d+)?\.nii(?:\.gz)?$")
ISLES_SUBJECT = re.compile(r"^(?:training|test)_\d+$")


def subjects_of_2017(root: pathlib.Path) -> list[SubjectFiles]:
    """`training_<n>/<VSD|SMIR>.Brain.XX.O.<token>.<id>/<the same>.nii`, also flattened; `__MACOSX` is ignored."""
    folders = [
        path
        for pattern in ("*", "*/*")
        for path in root.glob(pattern)
        if ISLES_SUBJECT.match(path.name) and path.is_dir() and "__MACOSX" not in path.parts
    ]
    subjects = []
    for folder in folders:
        found: dict[str, list[pathlib.Path]] = {}
        for path in sorted(folder.rglob("*.nii*")):
            match = ISLES_FILE.match(path.name)
            if match and "__MACOSX" not in path.parts and is_there(path):
                found.setdefault(ISLES_TOKENS[match[1]], []).append(path)
        files = {role: path for role, paths in found.items() if (path := only_one(paths))}
        subjects.append(
            SubjectFiles(
                subject=folder.name,
                series=files.get("series", folder / "VSD.Brain.XX.O.MR_4DPWI.nii"),
                maps={name: files[name] for name in MAP_NAMES if name in files},
                lesion=files.get("lesion"),
            )
        )
    return subjects
