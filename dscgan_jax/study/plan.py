"""What a study consists of: cohorts, methods, and the jobs that follow from them.

Words: a *method* is a way to make maps, one row of the study's tables; a *job* is what one process does. A job leaves
its records in one folder of the study, by which others know it: `acute/temp-tmax`.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from dscgan_jax.configs import ablations, chronic  # pyright: ignore[reportMissingImports] - configs/, under this name
from dscgan_jax.data import layouts
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES

ACUTE, CHRONIC, DIFFICULT = "acute", "chronic", "difficult"
PARTS = ("paper", "recommended", "comparators", "volume", "ablations", "difficult")
ALL_MAPS = "all"  # in place of a map's name: one network for all five

# Kinds of jobs.
PREPARE, TRAIN, TUNE, SCRATCH, UNCHANGED = "prepare", "train", "fine-tune", "scratch", "unchanged"
CONVENTIONAL, TRUE_AIF, TREES, SCORE_DIFFICULT = "conventional", "conventional-true-aif", "trees", "score difficult"
TRAINS = (TRAIN, TUNE, SCRATCH)

# The paper's cohorts: training, validation and test patients.
COUNTS = {ACUTE: (142, 20, 41), CHRONIC: (chronic.TRAINING, chronic.VALIDATION, chronic.TEST)}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
      counts: training, validation and test exams of each phantom cohort.
      difficult: exams that nobody can post-process.
      fields: of every config, over what its file says.
      steps, tuned_steps: of a training, and of fine-tuning; 0 = as many epochs as the config says.
      whole_exam: slices of an exam, where a network reads all of them at once; 0 = as its config says.
    """

    counts: Mapping[str, tuple[int, int, int]]
    difficult: int
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 0
    tuned_steps: int = 0
    whole_exam: int = 0


# Narrow networks on small exams learn little at the paper's learning rate in so few steps: all columns get the demo's.
_SMALL = {
    "data.size": 64,
    "data.slices": 0,
    "phantom.size": 64,
    "phantom.slices": 8,
    "model.width": 8,
    "model.depth": 4,
    "model.discriminator_width": 16,
    "train.batch_size": 2,
    "train.learning_rate": 1e-3,
    "train.discriminator_learning_rate": 2e-4,
    "train.decay": "cosine",
    "train.log_every_steps": 20,
    "train.checkpoint_every_epochs": 0.25,
    "train.sample_every_epochs": 100.0,
}
SCALES = {
    "paper": Scale(COUNTS, 16),
    "small": Scale(COUNTS, 16, _SMALL, steps=1600, tuned_steps=500, whole_exam=8),
    "tiny": Scale(
        {ACUTE: (16, 4, 6), CHRONIC: (8, 3, 4)},
        4,
        {**_SMALL, "phantom.slices": 4, "model.width": 4, "train.checkpoint_every_epochs": 2.0},
        steps=120,
        tuned_steps=40,
        whole_exam=4,
    ),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to make maps.

    Attributes:
      name: of its folders.
      title: in tables and pictures.
      part: of the study, one of `PARTS`.
      config: file and variant, `{map}` for the name of the map.
      maps: one network for each, or `ALL_MAPS`.
      tuned: of these maps also: trained further on the chronic exams.
      controls: of these maps also: on chronic exams as it is, and trained on them alone.
      whole_exam: whether its batches hold whole exams.
      fields: of its config, over everything else.
      against: whom it is compared with; empty: the recommended temp-pix2pix.
      asks: what an ablation is for.
    """

    name: str
    title: str
    part: str
    config: str
    maps: tuple[str, ...] = MAP_NAMES
    tuned: tuple[str, ...] = MAP_NAMES
    controls: tuple[str, ...] = ()
    whole_exam: bool = False
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    against: str = ""
    asks: str = ""


def _of_tmax(name: str, title: str, part: str, config: str, **more: Any) -> Method:
    """A method that is tried on acute Tmax alone."""
    return Method(name, title, part, config, ("tmax",), (), **more)


def _changed(change: ablations.Change) -> str:
    """What an ablation sets, in words."""
    return ", ".join(f"{field.partition('.')[2]} {value}" for field, value in change.fields.items())


_SINGLE_SLICES = {"model.neighbours": 0, "model.unet_dims": 2}
TREES_METHOD = "trees"  # its folder
METHODS = (
    Method("temp", "temp-pix2pix, the paper's settings", "paper", "temp_{map}"),
    Method("pix2pix", "pix2pix, the paper's settings", "paper", "pix2pix_{map}"),
    Method(
        "temp-recommended", "temp-pix2pix, recommended", "recommended", "recommended_temp:{map}", controls=("tmax",)
    ),
    Method("pix2pix-recommended", "pix2pix, recommended", "recommended", "recommended_pix2pix:{map}"),
    Method("voxel", "voxelwise CNN", "comparators", "comparators:voxel", (ALL_MAPS,), (ALL_MAPS,)),
    Method("patch", "patchwise CNN", "comparators", "comparators:patch", (ALL_MAPS,), (ALL_MAPS,)),
    Method("stunet", "spatio-temporal U-Net", "comparators", "comparators:stunet", (ALL_MAPS,), (ALL_MAPS,)),
    # Whole exams make larger and fewer batches: what single slices reach with these stands beside them.
    *(
        _of_tmax(name, title, "volume", f"volume:{config}", whole_exam=True, fields=fields, against=against)
        for name, title, config, fields, against in (
            ("temp2d", "temp-pix2pix, batches as in 2.5-D", "temp25d", _SINGLE_SLICES, ""),
            ("temp25d", "temp-pix2pix, 2.5-D", "temp25d", {}, "temp2d"),
            ("temp3d", "temp-pix2pix, 3-D U-Net", "temp3d", {}, "temp2d"),
            ("pix2pix2d", "pix2pix, batches as in 2.5-D", "pix2pix25d", _SINGLE_SLICES, ""),
            ("pix2pix25d", "pix2pix, 2.5-D", "pix2pix25d", {}, "pix2pix2d"),
        )
    ),
    *(
        _of_tmax(
            f"ablation-{name}",
            f"recommended, but {_changed(change)}",
            "ablations",
            f"ablations:{name}",
            fields=change.fields,
            asks=change.why,
        )
        for name, change in ablations.CHANGES.items()
    ),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
      name: its folder in the study.
      kind: one of those above.
      cohort: whose exams it reads.
      method: what it trains or scores.
      map_name: of `MAP_NAMES`, or `ALL_MAPS`.
      after: jobs that must have been done.
      of: job whose network it scores or begins with.
    """

    name: str
    kind: str
    cohort: str
    method: str = ""
    map_name: str = ALL_MAPS
    after: tuple[str, ...] = ()
    of: str = ""


@dataclasses.dataclass(frozen=True)
class Study:
    """A study as its command asks for it.

    Attributes:
      folder: of everything that it leaves.
      scale: a name of `SCALES`.
      parts: of `PARTS`.
      roots: folder of the user's exams by cohort: acute ones, and chronic ones too where there are any; empty: phantom
        exams of both.
      exams: fields of `config.data` on how the user's exams are read: layout, tr_seconds, te_seconds, accept.
      seed: of phantom exams and networks.
      cache_dir: where phantom exams, prepared data and compiled programs are kept.
    """

    folder: pathlib.Path
    scale: str = "small"
    parts: tuple[str, ...] = PARTS
    roots: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    cache_dir: str = "~/.cache/dscgan_jax"

    @property
    def size(self) -> Scale:
        """Its scale."""
        return SCALES[self.scale]

    @property
    def cohorts(self) -> tuple[str, ...]:
        """Cohorts that networks are trained on."""
        return tuple(self.roots) if self.roots else (ACUTE, CHRONIC)

    def to_json(self) -> dict[str, Any]:
        """What another call of the same study must agree with; more parts may follow."""
        exams = {name: list(value) if isinstance(value, tuple) else value for name, value in self.exams.items()}
        return {"scale": self.scale, "roots": dict(self.roots), "exams": exams, "seed": self.seed}

    def methods(self) -> list[Method]:
        """Those of its parts; `tiny` has the paper's two, of Tmax alone."""
        chosen = [method for method in METHODS if method.part in self.parts]
        if self.scale != "tiny":
            return chosen
        return [
            dataclasses.replace(method, maps=("tmax",), tuned=("tmax",), controls=())
            for method in chosen
            if method.part == "paper"
        ]

    def maps_of(self, cohort: str) -> tuple[str, ...]:
        """Maps that can be learned: of the user's exams those that most of them have."""
        if cohort not in self.roots:
            return MAP_NAMES
        return _maps_in(self.roots[cohort], self.exams.get("layout", "bids"))

    def jobs(self) -> list[Job]:
        """All jobs, those that others wait for before them."""
        trained = list(self._network_jobs())
        jobs, prepared = [], {}
        for job in (*trained, *self._other_jobs(trained)):
            key = self._exams_of(job)
            if key not in prepared:
                name = f"prepare/{job.cohort}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
                # Phantom exams are drawn once, by the first job that needs them.
                first = next((one.name for one in prepared.values() if one.cohort == job.cohort), None)
                after = (first,) if first else ()
                prepared[key] = dataclasses.replace(job, name=name, kind=PREPARE, after=after, of="")
                jobs.append(prepared[key])
            jobs.append(dataclasses.replace(job, after=(prepared[key].name, *job.after)))
        return sorted(jobs, key=lambda job: job.kind != PREPARE)  # stable: the order in which they were found

    def _network_jobs(self) -> Iterator[Job]:
        """Trainings, on acute exams and then further on chronic ones."""
        acute_maps, has_chronic = (*self.maps_of(ACUTE), ALL_MAPS), CHRONIC in self.cohorts
        chronic_maps = (*self.maps_of(CHRONIC), ALL_MAPS) if has_chronic else ()
        for method in self.methods():
            for name in [name for name in method.maps if name in acute_maps]:
                acute = Job(f"{ACUTE}/{method.name}-{name}", TRAIN, ACUTE, method.name, name)
                yield acute
                after = {"after": (acute.name,), "of": acute.name}
                if name in method.tuned and name in chronic_maps:
                    yield Job(f"{CHRONIC}/{method.name}-{name}", TUNE, CHRONIC, method.name, name, **after)
                if name in method.controls and name in chronic_maps:
                    alone = f"{CHRONIC}/{method.name}-{name}-alone"
                    yield Job(alone, SCRATCH, CHRONIC, method.name, name)
                    unchanged = f"{CHRONIC}/{method.name}-{name}-unchanged"
                    yield Job(unchanged, UNCHANGED, CHRONIC, method.name, name, **after)

    def _other_jobs(self, trained: Sequence[Job]) -> Iterator[Job]:
        """What no network of ours makes, and the exams that nobody can post-process."""
        for cohort in self.cohorts:
            yield Job(f"{cohort}/{CONVENTIONAL}", CONVENTIONAL, cohort)
            if cohort not in self.roots:  # whose true AIF nobody knows
                yield Job(f"{cohort}/{TRUE_AIF}", TRUE_AIF, cohort)
            if "comparators" in self.parts and self.scale != "tiny":
                yield Job(f"{cohort}/{TREES}", TREES, cohort, TREES_METHOD)
        if DIFFICULT in self.parts and not self.roots:
            for job in trained:
                shows_tmax = job.map_name in ("tmax", ALL_MAPS)
                if job.kind == TRAIN and shows_tmax and self.method(job.method).part not in ("ablations", "volume"):
                    name = f"{DIFFICULT}/{job.method}-{job.map_name}"
                    yield Job(name, SCORE_DIFFICULT, DIFFICULT, job.method, job.map_name, (job.name,), job.name)

    def method(self, name: str) -> Method:
        """A method by its name."""
        return next(method for method in METHODS if method.name == name)

    def _is_first(self, job: Job) -> bool:
        """Whether no other method before it scores the same cohort."""
        with_tmax = [one for one in self.methods() if {"tmax", ALL_MAPS} & set(one.maps)]
        return bool(with_tmax) and with_tmax[0].name == job.method

    def workdir(self, job: Job | str) -> pathlib.Path:
        """The folder of a job."""
        return self.folder / (job if isinstance(job, str) else job.name)

    def _exams_of(self, job: Job) -> str:
        """What must have been prepared for a job; equal texts need it once."""
        config = self.config(job)
        prepared = dataclasses.asdict(PreparationSettings.from_config(config))
        if job.cohort == DIFFICULT:  # is drawn, and prepared by nobody
            prepared = {}
        exams = [job.cohort, prepared, config.data.root, config.phantom.to_dict(), list(config.data.split_fractions)]
        return json.dumps(exams, sort_keys=True)

    def config(self, job: Job) -> ml_collections.ConfigDict:
        """The config of a job."""
        method = self.method(job.method) if job.method and job.method != TREES_METHOD else None
        # What needs no network is scored on the grid and in the ranges of the recommended one.
        path = method.config if method else "recommended_temp:{map}"
        config = config_of(path.format(map=job.map_name if method and job.map_name != ALL_MAPS else ALL_MAPS))
        config.seed = self.seed
        config.phantom.seed = self.seed
        config.data.cache_dir = self.cache_dir
        # Conventional maps of exams that may be of no use at all stand beside the first network that is scored on them.
        beside = job.kind == SCORE_DIFFICULT and self._is_first(job)
        config.evaluate.baselines = () if method and not beside else ("parametric", "osvd")
        config.conventional.aif = "files" if job.kind == TRUE_AIF else "auto"
        _set(config, self._fields(method))
        if job.kind == TUNE:
            chronic.fine_tune(config, job.of, None)
            config.train.steps = self.size.tuned_steps
            config.train.start_from = str(self.workdir(job.of))
        if len(config.target) > 1 or job.kind == PREPARE:
            config.target = self.maps_of(job.cohort)
        self._of_cohort(config, job)
        return config

    def _fields(self, method: Method | None) -> dict[str, Any]:
        """Fields over what a config's file says: those of the scale, then the method's own."""
        fields = dict(self.size.fields)
        if self.size.steps:
            fields["train.steps"] = self.size.steps
        if method is None:
            return fields
        if method.part == "comparators":  # other architectures, with sizes and rates of their own
            own = ("model.", "train.learning_rate", "train.discriminator_learning_rate", "train.decay")
            fields = {name: value for name, value in fields.items() if not name.startswith(own)}
        if method.whole_exam and self.size.whole_exam:
            fields |= {"data.slices": self.size.whole_exam, "train.batch_size": self.size.whole_exam}
            # As many slices are seen as by the others.
            fields["train.steps"] = self.size.steps * self.size.fields["train.batch_size"] // self.size.whole_exam
        return fields | dict(method.fields)

    def _of_cohort(self, config: ml_collections.ConfigDict, job: Job) -> None:
        """Whose exams; the paper's numbers of acute ones are those of every config."""
        counts = self.size.counts[CHRONIC if job.cohort == CHRONIC else ACUTE]
        config.phantom.preset = job.cohort
        if counts != COUNTS[ACUTE]:
            config.phantom.subjects = sum(counts)
            config.data.split_fractions = tuple(count / sum(counts) for count in counts)
        if job.cohort in self.roots:
            config.data.root = self.roots[job.cohort]
            _set(config, {f"data.{name}": value for name, value in self.exams.items()})
        if job.cohort == DIFFICULT:
            config.phantom.subjects = self.size.difficult
            config.data.root = str(self.difficult_folder)

    @property
    def difficult_folder(self) -> pathlib.Path:
        """Where the difficult exams are drawn."""
        return self.folder / "exams" / DIFFICULT


def _set(config: ml_collections.ConfigDict, fields: Mapping[str, Any]) -> None:
    for field, value in fields.items():
        section, _, name = field.partition(".")
        config[section][name] = value


@functools.cache
def _maps_in(root: str, layout: str) -> tuple[str, ...]:
    """Maps that more than half of a folder's subjects have.

    Raises:
      InputError: there is none.
    """
    subjects = layouts.find_subjects(pathlib.Path(root), layout)
    counts = Counter(name for files in subjects for name in files.maps)
    found = tuple(name for name in MAP_NAMES if 2 * counts[name] > len(subjects))
    if not found:
        raise InputError(f"{root}: most of its {len(subjects)} exams have no map to learn or to compare with.")
    return found


def config_of(path: str) -> ml_collections.ConfigDict:
    """The config of `temp_tmax` or `comparators:voxel`, a file of configs/ and a variant of it."""
    name, _, variant = path.partition(":")
    return importlib.import_module(f"dscgan_jax.configs.{name}").get_config(variant or None)


def ordered(jobs: Iterable[Job], names: Iterable[str]) -> list[Job]:
    """The jobs that are named, and those that they wait for.

    Raises:
      InputError: a name is no job's.
    """
    known = {job.name: job for job in jobs}
    wanted: dict[str, None] = {}

    def want(name: str) -> None:
        if name not in known:
            raise InputError(f"--job={name}: there is no such job; --list names the {len(known)} there are.")
        for other in known[name].after:
            want(other)
        wanted[name] = None

    for name in names:
        want(name)
    return [known[name] for name in wanted]
