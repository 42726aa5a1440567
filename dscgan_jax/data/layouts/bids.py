"""The layout `bids`: subjects, their sessions, and runs of them, as BIDS names files.

Words: an *entity* is `run-2` in `sub-01_ses-02_run-2_dsc.nii.gz`, the *suffix* is `dsc`. Each series is an exam of its
own, whose identifier is the file's name without the suffix; a *person* is the one of `sub-01`, whatever the exam.
"""

import pathlib
import re
from collections.abc import Iterable, Sequence

from dscgan_jax.data.layouts.present import is_there, leads_nowhere, only_one
from dscgan_jax.data.sidecars import sidecars_of
from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES

ENTITY = r"_[A-Za-z0-9]+-[A-Za-z0-9.+]+"
FILE = re.compile(rf"((?:{ENTITY})*)_([A-Za-z0-9]+)\.(nii\.gz|nii|json|tsv)")  # after the name of the subject's folder
DERIVED = ("desc", "space", "res", "den")  # entities that a map may have and its series has not
OF_BRAIN = ("desc-brain",)  # that a mask may have
SESSION = re.compile(r"_ses-[A-Za-z0-9.+]+")


def subjects_in(root: pathlib.Path) -> list[SubjectFiles]:
    """The exams of `root/sub-*/[ses-*/]perf`, or of the same below `derivatives/` or one of its folders.

    Also subjects without a series, which somebody must hear of.

    Raises:
      InputError: several of these places hold series, a file is there twice, or a map belongs to no series.
    """
    return [exam for person in _persons(_base(root)) for exam in _exams_of(person)]


def name_of(subject: str) -> str:
    """An identifier as this layout has it."""
    return subject if subject.startswith("sub-") else f"sub-{subject}"


def place_of(root: pathlib.Path, files: SubjectFiles) -> tuple[pathlib.Path, str]:
    """Where the files of an exam go in a new folder of this layout, and what their names begin with.

    They are found there with the same identifier, of the same person.
    """
    person, subject = name_of(files.person), name_of(files.subject)
    session = SESSION.match(subject.removeprefix(person))
    return root.joinpath(person, *([session[0][1:]] if session else []), "perf"), subject


def _base(root: pathlib.Path) -> pathlib.Path:
    """The folder of `sub-*` that holds the series; the root itself where none does."""
    if _has_series(root):
        return root
    derived = root / "derivatives"
    places = [derived, *sorted(path for path in derived.glob("*") if not path.name.startswith("sub-"))]
    found = [place for place in places if _has_series(place)]
    if len(found) > 1:
        raise InputError(
            f"{root}: {found[0].relative_to(root)} and {found[1].relative_to(root)} both hold series; give one of "
            "these folders as --config.data.root=."
        )
    return found[0] if found else root


def _has_series(base: pathlib.Path) -> bool:
    """Whether one of its subjects has a series."""
    return any(
        match and match[2] == "dsc" and match[3].startswith("nii")
        for person in _persons(base)
        for folder in _perf_folders(person)
        for match in (_parsed(path, person.name) for path in _files(folder))
    )


def _persons(base: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in base.glob("sub-*") if path.is_dir() or leads_nowhere(path))


def _perf_folders(person: pathlib.Path) -> list[pathlib.Path]:
    """`perf` of a subject and of its sessions; also of links that lead nowhere."""
    sessions = sorted(path for path in person.glob("ses-*") if path.is_dir() or leads_nowhere(path))
    folders = [folder / "perf" for folder in (person, *sessions)]
    return [folder for folder in folders if folder.is_dir() or leads_nowhere(folder) or leads_nowhere(folder.parent)]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """By name; of two that differ in nothing but their packing, the packed one first."""
    if not folder.is_dir():
        return []
    return sorted(folder.iterdir(), key=lambda path: (path.name.removesuffix(".gz"), -len(path.name)))


def _parsed(path: pathlib.Path, person: str) -> re.Match[str] | None:
    """Entities after the subject's name, suffix and ending of a file name; None for others."""
    return FILE.fullmatch(path.name.removeprefix(person)) if path.name.startswith(person) else None


def _entities(text: str) -> frozenset[str]:
    """`_ses-02_run-2` -> {ses-02, run-2}."""
    return frozenset(text.split("_")[1:])


def _exams_of(person: pathlib.Path) -> list[SubjectFiles]:
    """The exams of one subject; without any, what it should have."""
    folders = _perf_folders(person) or [person / "perf"]
    return [exam for folder in folders for exam in _exams_in(folder, person.name)]


def _exams_in(folder: pathlib.Path, person: str) -> list[SubjectFiles]:
    """The exams of one `perf` folder; the one it should have where there is none."""
    by_suffix: dict[str, dict[str, list[pathlib.Path]]] = {}
    for path in _files(folder):
        if (match := _parsed(path, person)) and match[3].startswith("nii") and is_there(path):
            by_suffix.setdefault(match[2], {}).setdefault(match[1], []).append(path)
    series = {text: only_one(paths) for text, paths in by_suffix.get("dsc", {}).items()}
    if not series:
        session = f"_{folder.parent.name}" if folder.parent.name.startswith("ses-") else ""
        series = {session: folder / f"{person}{session}_dsc.nii.gz"}
    known = [_entities(text) for text in series]
    _refuse_orphans(by_suffix, known, folder)
    return [
        _exam(path, person + text, person, _entities(text), by_suffix)
        for text, path in sorted(series.items())
        if path is not None
    ]


def _exam(
    series: pathlib.Path,
    subject: str,
    person: str,
    own: frozenset[str],
    by_suffix: dict[str, dict[str, list[pathlib.Path]]],
) -> SubjectFiles:
    """The files of a series, by their entities."""

    def one(suffix: str, extra: Iterable[str] = DERIVED) -> pathlib.Path | None:
        paths = [path for text, group in by_suffix.get(suffix, {}).items() for path in _of(own, text, group, extra)]
        return only_one(paths)

    def beside(name: str) -> pathlib.Path | None:
        path = series.with_name(f"{subject}_{name}")
        return path if is_there(path) else None

    return SubjectFiles.found(
        subject=subject,
        series=series,
        sidecars=sidecars_of(series),
        maps={name: path for name in MAP_NAMES if (path := one(name))},
        mask=one("mask", OF_BRAIN),
        lesion=one("lesion"),
        aif=beside("aif.tsv"),
        truth=beside("truth.json"),
        participant=person,
    )


def _of(own: frozenset[str], text: str, paths: Sequence[pathlib.Path], extra: Iterable[str]) -> Sequence[pathlib.Path]:
    """These files if they are those of a series with the entities `own`: the same ones, and `extra` ones besides."""
    return paths if own <= _entities(text) and _all_extra(_entities(text) - own, extra) else []


def _all_extra(entities: Iterable[str], extra: Iterable[str]) -> bool:
    return all(entity in extra or entity.partition("-")[0] in extra for entity in entities)


def _refuse_orphans(
    by_suffix: dict[str, dict[str, list[pathlib.Path]]], known: Sequence[frozenset[str]], folder: pathlib.Path
) -> None:
    """A map that belongs to no series: the name of one of them is wrong.

    Raises:
      InputError: names the map.
    """
    for name in MAP_NAMES:
        for text, paths in by_suffix.get(name, {}).items():
            if not any(_of(own, text, paths, DERIVED) for own in known):
                raise InputError(
                    f"{paths[0]}: expected a series {paths[0].name.partition('_')[0]}{text}_dsc.nii.gz beside this "
                    f"map, found none with these entities in {folder}; rename one of them."
                )
