"""Which mode reads which flag and which field of the config.

What a user gives and nobody reads is an error, never dropped.

Only what is given on the command line counts: a config file describes a whole run and serves every mode.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.settings import LAYOUTS_OF_CT, WITHOUT_LEVELS, WITHOUT_NORMS

# Who reads: a mode, or a way of using it, as it is written on the command line after --mode=.
TRAIN, PREPARE, CHECK, PHANTOM, BENCHMARK = "train", "prepare", "check", "phantom", "benchmark"
EVALUATE, MAPS, MAPS_OF_RUN = "evaluate", "evaluate --maps", "evaluate --maps --workdir"
ONE_FILE, FOLDER = "deconvolve --input", "deconvolve --config.data.root"
PREDICT, PREDICT_FOLDER = "predict --input", "predict --config.data.root"
EXPORT, EXPORT_PROGRAM = "export", "export --format=stablehlo"
READERS = (
    TRAIN,
    PREPARE,
    CHECK,
    EVALUATE,
    MAPS,
    MAPS_OF_RUN,
    PREDICT,
    PREDICT_FOLDER,
    EXPORT,
    EXPORT_PROGRAM,
    ONE_FILE,
    FOLDER,
    PHANTOM,
    BENCHMARK,
)

_DECONVOLVE, _PREDICT = (ONE_FILE, FOLDER), (PREDICT, PREDICT_FOLDER)
_EXPORT = (EXPORT, EXPORT_PROGRAM)
_OF_A_RUN = (EVALUATE, MAPS_OF_RUN, *_PREDICT, *_EXPORT)  # they take everything else from the run's own config
_EXAMS = (TRAIN, PREPARE, CHECK, EVALUATE, MAPS, MAPS_OF_RUN, FOLDER, PREDICT_FOLDER)  # they read a folder of exams
_SERIES = (*_EXAMS, PREDICT, ONE_FILE)
_GRID = (TRAIN, PREPARE, MAPS, BENCHMARK)  # they bring exams onto the network grid that the config describes
_NETWORK = (TRAIN, BENCHMARK)

_TOGETHER = ("distributed", "coordinator", "processes", "process")
FLAGS = {
    "mode": READERS,
    "config": READERS,
    "debug": READERS,
    "workdir": (TRAIN, EVALUATE, MAPS, MAPS_OF_RUN, *_PREDICT, *_EXPORT),
    "model": (*_PREDICT, EXPORT_PROGRAM),
    "input": (*_PREDICT, *_DECONVOLVE),
    "output": (CHECK, *_PREDICT, *_EXPORT, *_DECONVOLVE, PHANTOM, BENCHMARK),
    "format": _EXPORT,
    "method": _DECONVOLVE,
    "aif": _DECONVOLVE,
    "scale": _DECONVOLVE,
    "mask": (ONE_FILE, PREDICT),
    "core": (ONE_FILE, PREDICT),
    "space": (ONE_FILE, PREDICT),
    "dicom": (ONE_FILE, PREDICT),
    "beside": (PREDICT,),
    "series": (ONE_FILE, PREDICT),
    "desc": (*_PREDICT, *_DECONVOLVE),
    "motion": (*_DECONVOLVE, *_PREDICT),
    "leakage": _DECONVOLVE,
    "norm": (*_PREDICT, EXPORT_PROGRAM),
    "maps": (MAPS, MAPS_OF_RUN),
    "split": (EVALUATE, MAPS, MAPS_OF_RUN),
    "step": (EVALUATE, *_PREDICT, *_EXPORT),
    "tr": _SERIES,
    "te": _SERIES,
    "accept": _SERIES,
    **dict.fromkeys(("preset", "subjects", "size", "slices", "seed"), (PHANTOM,)),
    **dict.fromkeys((*_TOGETHER, "wait_seconds"), (TRAIN,)),
    "workers": (CHECK, FOLDER, PREDICT_FOLDER),
    "parts": (BENCHMARK,),
    "repeats": (BENCHMARK,),
}

# Fields, and for each section all fields that are not named.
FIELDS = {
    "seed": _GRID,
    "target": (TRAIN, PREPARE, BENCHMARK),
    "data.": _GRID,
    "data.root": (*_EXAMS, ONE_FILE),
    "data.layout": _EXAMS,
    "data.cache_dir": tuple(reader for reader in READERS if reader not in (CHECK, *_EXPORT, PHANTOM)),
    **dict.fromkeys(("data.modality", "data.tr_seconds", "data.te_seconds", "data.accept"), _SERIES),
    "data.split_fractions": (*_GRID, PHANTOM),
    "data.slices": (TRAIN, PREPARE, MAPS),
    "data.motion": (*_GRID, *_PREDICT),
    **dict.fromkeys(("data.signal", "data.ranges"), (TRAIN, MAPS, BENCHMARK)),
    **dict.fromkeys(("data.on_device", "data.memory_mib"), (TRAIN,)),
    "data.read_threads": _NETWORK,
    "phantom.": (TRAIN, PREPARE),
    **dict.fromkeys(("phantom.drawn_beside", "phantom.drawn_slices"), (TRAIN,)),
    "model.": _NETWORK,
    "model.arterial_input": _GRID,  # which decides what a network is shown, too
    "loss.": _NETWORK,
    "train.": _NETWORK,
    **dict.fromkeys(("train.start_from", "train.start_ranges", "train.start_discriminator"), (TRAIN,)),
    **dict.fromkeys(
        (
            f"train.{name}"
            for name in (
                "epochs",
                "steps",
                "log_every_steps",
                "checkpoint_every_epochs",
                "sample_every_epochs",
                "keep_checkpoints",
            )
        ),
        (TRAIN,),
    ),
    "evaluate.norm_at_test": (*_NETWORK, *_PREDICT, EXPORT_PROGRAM),
    "evaluate.baselines": (TRAIN, EVALUATE),
    "conventional.": (TRAIN, EVALUATE, *_DECONVOLVE),
    "conventional.method": _DECONVOLVE,
}

# What to give instead, by reader.
_PHANTOM_FLAGS = ("preset", "subjects", "size", "slices", "seed")
_PHANTOM_FIELDS = {name: f"--config.phantom.{name}=" for name in _PHANTOM_FLAGS}
_BASELINES = {
    "method": "--config.evaluate.baselines=",
    "config.conventional.method": "--config.evaluate.baselines=",
    "aif": "--config.conventional.aif=",
    "scale": "--config.conventional.scale=",
    "leakage": "--config.conventional.leakage=",
}
_BESIDE_EACH = {"mask": "<subject>_mask.nii.gz beside each series"}
_OF_CONVENTIONAL = {"config.data.motion": "--motion=", "config.evaluate.baselines": "--method="}
_OF_PREDICT = {"config.conventional.motion": "--motion="}
_INSTEAD = {
    PHANTOM: {**{f"config.phantom.{name}": f"--{name}=" for name in _PHANTOM_FLAGS}, "config.seed": "--seed="},
    ONE_FILE: _OF_CONVENTIONAL,
    FOLDER: {**_OF_CONVENTIONAL, **_BESIDE_EACH},
    EVALUATE: {**_BASELINES, "motion": "--config.conventional.motion= (of the conventional methods)"},
    TRAIN: {**_BASELINES, **_PHANTOM_FIELDS, "motion": "--config.data.motion="},
    PREPARE: {**_PHANTOM_FIELDS, "motion": "--config.data.motion="},
    PREDICT: _OF_PREDICT,
    PREDICT_FOLDER: {**_OF_PREDICT, **_BESIDE_EACH},
}

# Flags that stand for a field; --motion for one in each mode.
SHORT_FOR = {
    "tr": "data.tr_seconds",
    "te": "data.te_seconds",
    "accept": "data.accept",
    "method": "conventional.method",
    "scale": "conventional.scale",
    "leakage": "conventional.leakage",
    "norm": "evaluate.norm_at_test",
    "aif": "conventional.aif",
}
MOTION_FIELD = {"deconvolve": "conventional.motion", "predict": "data.motion"}

# Fields that nobody reads where other fields have such values: field or section, when, and why.
_UNREAD: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "data.frame_seconds",
        lambda config: config.data.time_mode == "stretch",
        "config.data.time_mode is stretch; set that to seconds",
    ),
    (
        "data.lead_seconds",
        lambda config: config.data.time_mode == "stretch" and config.data.lead_seconds != 0,
        "config.data.time_mode is stretch; set that to seconds",
    ),
    ("data.layout", lambda config: not config.data.root, "no config.data.root is given; give that folder"),
    (
        "data.modality",
        lambda config: bool(config.data.root) and config.data.layout in LAYOUTS_OF_CT,
        f"config.data.layout is one of {', '.join(LAYOUTS_OF_CT)}, which are CT; leave it out",
    ),
    (
        "data.memory_mib",
        lambda config: config.data.on_device == "always",
        "config.data.on_device is always; set that to auto or never",
    ),
    ("phantom.", lambda config: bool(config.data.root), "the exams come from config.data.root; leave one of them out"),
    (
        "model.unet_width",
        lambda config: config.model.generator != "temporal",
        "config.model.generator is unet or another whose only width is config.model.width; give that",
    ),
    (
        "model.upsample",
        lambda config: config.model.generator in WITHOUT_NORMS,
        f"config.model.generator is one of {', '.join(WITHOUT_NORMS)}, which have one way; leave it out",
    ),
    (
        "model.depth",
        lambda config: config.model.generator in WITHOUT_LEVELS,
        f"config.model.generator is {' or '.join(WITHOUT_LEVELS)}, which has no levels; leave it out",
    ),
    (
        "loss.l1_weight",
        lambda config: config.loss.objective == "l1",
        "config.loss.objective is l1, the only term; leave it out",
    ),
    *(
        (
            name,
            lambda config: config.loss.objective == "l1",
            "config.loss.objective is l1, which has no discriminator; leave it out",
        )
        for name in (
            "model.discriminator",
            "model.discriminator_width",
            "model.discriminator_layers",
            "train.discriminator_learning_rate",
        )
    ),
    *(
        (
            name,
            lambda config: config.model.generator in WITHOUT_NORMS and config.loss.objective == "l1",
            f"config.model.generator is one of {', '.join(WITHOUT_NORMS)}, which have no norms; leave it out",
        )
        for name in ("model.norm", "model.bias_before_norm")
    ),
    (
        "loss.outside_weight",
        lambda config: config.loss.objective != "l1",
        "config.loss.objective has a discriminator, which sees whole pictures; set that to l1",
    ),
    (
        "model.discriminator_layers",
        lambda config: config.model.discriminator == "whole",
        "config.model.discriminator is whole; set that to patch",
    ),
    (
        "evaluate.norm_at_test",
        lambda config: config.model.norm == "instance" or config.model.generator in WITHOUT_NORMS,
        "the generator has no batch norm (config.model.norm is instance, or config.model.generator one of "
        f"{', '.join(WITHOUT_NORMS)}); leave it out",
    ),
    (
        "train.learning_rate_batch",
        lambda config: config.train.learning_rate_scaling == "none",
        "config.train.learning_rate_scaling is none; set that to linear or sqrt",
    ),
    (
        "train.epochs",
        lambda config: config.train.steps > 0,
        "config.train.steps is above 0 and decides; set that to 0 (--config.train.steps=0)",
    ),
)

# Of config.conventional: which methods read a field; the others serve all of them.
_OF_METHODS = {
    "conventional.truncation_threshold": ("csvd", "ssvd"),
    "conventional.oscillation_index": ("osvd",),
    **dict.fromkeys(
        ("conventional.transit_shape", "conventional.dispersion", "conventional.neighbourhood_mm"), ("parametric",)
    ),
}


@dataclasses.dataclass(frozen=True)
class Given:
    """What is given on the command line.

    Attributes:
      mode: of the program.
      flags: names of the flags.
      fields: paths of config fields that are overridden, sections written out.
      run_is_there: whether the work directory holds the checkpoints of a run.
      input_is_folder: whether --input names a folder of exams, as config.data.root does.
      as_program: whether --format asks for a program.
    """

    mode: str
    flags: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    run_is_there: bool = False
    input_is_folder: bool = False
    as_program: bool = False

    @property
    def reader(self) -> str:
        """One of `READERS`."""
        if self.mode == "evaluate" and "maps" in self.flags:
            return MAPS_OF_RUN if "workdir" in self.flags and self.run_is_there else MAPS
        if self.mode == "export":
            return EXPORT_PROGRAM if self.as_program else EXPORT
        if self.mode in ("deconvolve", "predict"):
            is_folder = self.input_is_folder or ("input" not in self.flags and "data.root" in self.fields)
            return {"deconvolve": _DECONVOLVE, "predict": _PREDICT}[self.mode][is_folder]
        return self.mode

    @property
    def all_fields(self) -> frozenset[str]:
        """Fields that the command line decides, be it by a flag that stands for one."""
        return self.fields | {field for flag in self.flags if (field := field_of(flag, self.mode))}


def check(given: Given, config: Any) -> None:
    """Refuses what the mode does not read.

    Args:
      given: on the command line.
      config: with all of it in place.

    Raises:
      InputError: names the first flag or field, who reads it and what to do.
    """
    together = [f"--{flag}" for flag in _TOGETHER if flag in given.flags]
    if together and given.mode != "train":
        raise InputError(f"--mode={given.mode} runs in one process; leave out {', '.join(together)}.")
    for flag in sorted(given.flags & FLAGS.keys()):
        if given.reader not in FLAGS[flag]:
            raise InputError(_unread(f"--{flag}", flag, FLAGS[flag], given))
    for field in sorted(given.fields):
        if given.reader not in readers_of(field):
            raise InputError(_unread(f"--config.{field}", f"config.{field}", readers_of(field), given))
    _check_given_once(given)
    _check_combinations(given.fields, config)
    if given.mode == "deconvolve":
        check_methods(given.fields, (config.conventional.method,), "config.conventional.method")
    elif given.mode == "train":
        check_methods(given.fields, tuple(config.evaluate.baselines), "config.evaluate.baselines")


def readers_of(field: str) -> tuple[str, ...]:
    """Who reads a config field."""
    return FIELDS[field] if field in FIELDS else FIELDS[field.partition(".")[0] + "."]


def is_read(flag: str, reader: str) -> bool:
    """Whether a flag as a finding names it, e.g. `--tr=SECONDS`, is of use to that reader."""
    name = flag.lstrip("-").partition("=")[0]
    readers = readers_of(name.removeprefix("config.")) if name.startswith("config.") else FLAGS.get(name, READERS)
    return reader in readers


def offered(finding: Finding, reader: str) -> Finding:
    """A finding with the flag that is of use to that reader, or none."""
    flag = finding.flag
    if flag.startswith("--motion=") and reader in readers_of("data.motion") and reader not in FLAGS["motion"]:
        flag = flag.replace("--motion", "--config.data.motion")
    return dataclasses.replace(finding, flag=flag if is_read(flag, reader) else "")


def offered_to(reader: str) -> Callable[[Finding], Finding]:
    """`offered` for that reader, which another process can take over."""
    return functools.partial(offered, reader=reader)


def field_of(flag: str, mode: str) -> str | None:
    """The config field that a flag stands for."""
    return MOTION_FIELD.get(mode) if flag == "motion" else SHORT_FOR.get(flag)


def modes_of(flag: str) -> str:
    """Modes that read a flag, for its help text."""
    return ", ".join(dict.fromkeys(reader.partition(" ")[0] for reader in FLAGS[flag]))


def check_methods(fields: Iterable[str], methods: tuple[str, ...], where: str) -> None:
    """Refuses fields of config.conventional that none of the methods reads.

    Args:
      fields: those that are given.
      methods: of deconvolution.
      where: the field that names them.

    Raises:
      InputError: names the field and the methods that read it.
    """
    for field in sorted(fields):
        readers = _OF_METHODS.get(field)
        if not field.startswith("conventional.") or set(readers or methods) & set(methods):
            continue
        wanted = " or ".join(readers) if readers else "a method"
        raise InputError(
            f"--config.{field} is given, which nothing reads: {where} is {', '.join(methods) or 'empty'}; set it to "
            f"{wanted}, or leave --config.{field} out."
        )


def _unread(name: str, key: str, readers: tuple[str, ...], given: Given) -> str:
    instead = _INSTEAD.get(given.reader, {}).get(key)
    of_run = given.reader in _OF_A_RUN and name.startswith("--config.") and not instead
    why = ": the run's own is used" if of_run else ""
    listed = ", ".join(f"--mode={reader}" for reader in summed_up(readers))
    todo = f"give {instead}" if instead else "leave it out"
    return f"{name} is given, which --mode={given.reader} does not read{why}; {todo} ({name} is read by {listed})."


def summed_up(readers: tuple[str, ...]) -> list[str]:
    """The readers; a mode that reads in each of its ways is named once."""
    ways = {reader: {one for one in READERS if one.split()[0] == reader.split()[0]} for reader in readers}
    return list(dict.fromkeys(reader.split()[0] if ways[reader] <= set(readers) else reader for reader in readers))


def _check_given_once(given: Given) -> None:
    if given.input_is_folder and "data.root" in given.fields:
        raise InputError("--input and --config.data.root say the same; give one of them.")
    for flag in sorted(given.flags):
        if (field := field_of(flag, given.mode)) in given.fields:
            raise InputError(f"--{flag} and --config.{field} say the same; give one of them.")


def _check_combinations(fields: Iterable[str], config: Any) -> None:
    for field in sorted(fields):
        for path, unread, why in _UNREAD:
            if (field == path or (path.endswith(".") and field.startswith(path))) and unread(config):
                raise InputError(f"--config.{field} is given, which nothing reads: {why}.")
