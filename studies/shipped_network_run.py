"""The study of the shipped network as records in a folder: what is to be done, done in parts, and gathered."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import jax
from shipped_network_exams import SEED, study_exam
from shipped_network_real import study_real
from shipped_network_records import COHORTS, Record, finite, read, shown
from shipped_network_robustness import PRESETS, study_changes
from tqdm import tqdm

from dscgan_jax import provenance, settings
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole
from dscgan_jax.methods.network import Predictor
from dscgan_jax.pages import card
from dscgan_jax.phantom.exam import PHANTOM_VERSION
from dscgan_jax.shipped import NAMES, weights_file
from dscgan_jax.speed import machine

Job = Callable[[], Record]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is studied.

    Attributes:
      cohorts: names.
      subjects, changed: exams of each cohort, and of each preset that are changed.
      size, slices: of acute and chronic exams; None = the preset's own slices.
      varied_size: rows and columns of varied exams; 0 = each draws its own.
      real: series; empty = none.
    """

    cohorts: tuple[str, ...]
    subjects: int
    changed: int
    size: int
    slices: int | None
    varied_size: int
    real: str

    def jobs(self, predictor: Predictor) -> dict[str, Job]:
        """{name of its file: what makes its record}; cohorts take turns, so that a part of a study is a small study."""
        grids = {cohort: self.varied_size if cohort == "varied" else self.size for cohort in self.cohorts}
        found: dict[str, Job] = {}
        for number in range(max(self.subjects, self.changed)):
            for cohort in self.cohorts if number < self.subjects else ():
                found[f"exam-{cohort}-{number:04d}"] = lambda cohort=cohort, number=number: study_exam(
                    cohort, number, grids[cohort], self.slices, predictor
                )
            for preset in PRESETS if number < self.changed else ():
                found[f"changes-{preset}-{number:04d}"] = lambda preset=preset, number=number: study_changes(
                    preset, number, self.size, self.slices, predictor
                )
        if self.real:
            found["real"] = lambda: study_real(pathlib.Path(self.real), predictor)
        return found


def network_of(model: str, predictor: Predictor) -> Record:
    """What the page says of the network: all from its weights."""
    weights, record = predictor.weights, predictor.record
    path = weights_file(model) if model in NAMES else pathlib.Path(model)
    held = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(weights.variables))
    file_bytes = path.stat().st_size if path.is_file() else None
    return {
        "name": weights.name,
        "version": weights.version,
        "step": weights.step,
        "sha256": weights.sha256,
        "in_words": weights.in_words,
        "file_bytes": file_bytes,
        "card": card.text(weights, {}, file_bytes or held),
        "config": settings.to_json(record.config),
        "software": dict(record.software),
        "counts": record.data.counts,
        "limits": dict(
            zip(record.scaling.targets, [list(map(float, one)) for one in record.scaling.limits], strict=True)
        ),
    }


def hold(folder: pathlib.Path, run: Record) -> Record:
    """The description of the study in a folder; another study in it is refused.

    Raises:
      InputError: the folder holds exams of another network, on other grids or of another phantom.
    """
    path = folder / "run.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(run) + "\n")
        return run
    held = json.loads(path.read_text(encoding="utf-8"))
    if held["study"] != run["study"]:
        raise InputError(
            f"--output={folder}: holds a study of {held['study']}, this one is {run['study']}; choose another folder."
        )
    return held


def make(folder: pathlib.Path, jobs: dict[str, Job], shard: str) -> None:
    """The records that are missing, of one part of them; each says which commit made it.

    Raises:
      InputError: the part is none of K/N.
    """
    part, _, parts = (shard or "1/1").partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--shard={shard}: expected K/N with K from 1 to N.")
    commit = provenance.git_commit()
    for name in tqdm(list(jobs)[int(part) - 1 :: int(parts)], desc="exams"):
        path = folder / f"{name}.json"
        if not path.is_file():
            write_whole(path, json.dumps(finite(jobs[name]() | {"git": commit})) + "\n")


def gathered(folder: pathlib.Path, run: Record, names: list[str]) -> Record:
    """All numbers; slices are kept of those exams alone that the page shows."""

    def records(kind: str) -> list[Record]:
        chosen = [folder / f"{name}.json" for name in names if name.partition("-")[0] == kind]
        return [json.loads(path.read_text(encoding="utf-8")) for path in chosen if path.is_file()]

    exams = records("exam")
    drawn = {(cohort, one["subject"]) for cohort in COHORTS for one in shown(read(exams, cohort)).values()}
    for one in exams:
        if (one["cohort"], one["subject"]) not in drawn:
            one.pop("slice", None)
    real = folder / "real.json"  # which may have been made where the series was
    return {
        "run": run,
        "exams": exams,
        "changes": records("changes"),
        "real": json.loads(real.read_text(encoding="utf-8")) if real.is_file() else None,
    }


def study(folder: pathlib.Path, plan: Plan, model: str, shard: str = "") -> Record:
    """Makes what is missing, or a part of it, and gathers what is there.

    Raises:
      InputError: as of `hold`, `make` and `Predictor.load`.
    """
    predictor = Predictor.load(model)
    network = network_of(model, predictor)
    identity: Record = {
        "network": network["sha256"][:12],
        "phantom": PHANTOM_VERSION,
        "seed": SEED,
        "size": plan.size,
        "slices": plan.slices,
        "varied_size": plan.varied_size,
    }
    found = {"study": identity, "network": network, "hardware": machine.hardware(), "versions": machine.versions()}
    run, jobs = hold(folder, found), plan.jobs(predictor)
    make(folder, jobs, shard)
    return gathered(folder, run, list(jobs))
