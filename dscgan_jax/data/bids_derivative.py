"""What makes a folder of exams with our maps a BIDS derivative: its description, and names that BIDS does not know.

BIDS has no suffix for DSC series nor for perfusion maps (bids-specification issue 1549), so that they keep the short
names that everybody reads and `.bidsignore` lists them; everything else in the folder is what validators expect. Files
that somebody else has put there stay as they are.
"""

import json
import os
import pathlib
from typing import Any
from urllib.parse import quote

from dscgan_jax import __version__
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS, MORE_MAPS

GENERATOR = "dscgan_jax"
BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
# Of files in `perf`, beside the maps.
OTHER_SUFFIXES = ("dsc", "mask", "aif", "aifmask", "maps", "readout", "outcome", "thumbnail")
OF_COHORT = ("summary.csv", "cohort.html", "cohort.json", ".cohort.lock", "*.html")  # and the pages of exams
PARTICIPANTS = {
    "split": {
        "Description": "what the exam is for in a training",
        "Levels": {
            "train": "training",
            "validation": "choice of the checkpoint",
            "test": "evaluation",
            "exclude": "left out",
        },
    }
}


def check_desc(word: str) -> str:
    """The value of a `desc-` entity; empty = none.

    Raises:
      InputError: BIDS has letters and digits alone there.
    """
    if word and not (word.isascii() and word.isalnum()):
        raise InputError(f"--desc={word}: expected letters and digits alone, as BIDS has them; e.g. --desc=parametric.")
    return word


def stem_of(subject: str, desc: str, space: str = "") -> str:
    """How the names of an exam's files begin: `sub-01`, or `sub-01_space-T1w_desc-parametric`."""
    entities = (("space", space), ("desc", desc))
    return "_".join([subject, *(f"{key}-{value}" for key, value in entities if value)])


def describe(folder: pathlib.Path, how: str, source: pathlib.Path | None = None) -> None:
    """Writes `dataset_description.json`, `participants.json` and `.bidsignore`, and overwrites nobody else's.

    Args:
      folder: of exams, with `participants.tsv` and `sub-*`.
      how: the maps were made, a phrase.
      source: the folder of the exams; no path of this machine is written but the way to a folder beside this one.

    Raises:
      InputError: the folder cannot be written.
    """
    if _is_ours(folder / DESCRIPTION):
        write_whole(folder / DESCRIPTION, _text(_description(folder, how, source)))
    ignored = [*(f"*_{suffix}.*" for suffix in (*MAPS, *MORE_MAPS, *OTHER_SUFFIXES)), *OF_COHORT]
    for name, text in (("participants.json", _text(PARTICIPANTS)), (".bidsignore", "\n".join(ignored) + "\n")):
        if not os.path.lexists(folder / name):
            write_whole(folder / name, text)


def _description(folder: pathlib.Path, how: str, source: pathlib.Path | None) -> dict[str, Any]:
    record = {
        "Name": "Perfusion maps (research use only)",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__, "Description": how}],
    }
    about = {} if source is None else _about(folder, source)
    return record | ({"SourceDatasets": [about]} if about else {})


def _about(folder: pathlib.Path, source: pathlib.Path) -> dict[str, str]:
    """DOI and version where the exams' own description has them, and the way there from a folder beside them."""
    own = read_sidecar(source / DESCRIPTION)
    about = {"DOI": own.get("DatasetDOI"), "Version": own.get("DatasetVersion")}
    way = pathlib.PurePath(os.path.relpath(source.resolve(), folder.resolve())).as_posix()
    if way.count("..") <= 1 and way.count("/") <= 1:
        about["URL"] = quote(way)
    return {name: value for name, value in about.items() if isinstance(value, str) and value}


def _is_ours(path: pathlib.Path) -> bool:
    """Whether it is absent, or an earlier one of ours."""
    if not os.path.lexists(path):
        return True
    try:
        makers = read_sidecar(path).get("GeneratedBy", [])
    except InputError:  # not JSON: somebody else's
        return False
    names = [maker.get("Name") for maker in makers if isinstance(maker, dict)] if isinstance(makers, list) else []
    return names == [GENERATOR]


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"
