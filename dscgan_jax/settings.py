"""Checks a config once, before anything long starts, and derives the counts that follow from it."""

import hashlib
import json
import math
import os
import pathlib
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections

from dscgan_jax.configs import default  # pyright: ignore[reportMissingImports] - configs/, shipped under this name
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, map_indices

# What a resumed run may change: how long, how chatty, where from. Everything else would make it another run.
RESUMABLE_FIELDS = (
    "train.epochs",
    "train.steps",
    "train.log_every_steps",
    "train.checkpoint_every_epochs",
    "train.sample_every_epochs",
    "train.keep_checkpoints",
    "data.root",
    "data.cache_dir",
    "data.memory_mib",
    "data.on_device",
    "data.read_threads",
    "data.accept",
    "evaluate.norm_at_test",
    "evaluate.baselines",
    "model.lean",
)
RESUMABLE_SECTIONS = ("conventional.",)  # conventional methods touch no weight

# What older versions stored: the setting of runs that began before a field existed, where that is not its default now;
# former names of fields; former values of fields.
BEFORE_ITS_FIELD = {"data.outside_brain": "keep"}
FORMER_FIELDS = {
    "data.transients": "data.non_steady_state",
    "conventional.cut": "conventional.truncation_threshold",
    "conventional.oscillation": "conventional.oscillation_index",
}
FORMER_VALUES = {"evaluate.norm_at_test": {"batch": "per_slice"}}

WITHOUT_LEVELS = ("voxel", "patch")  # generators of full resolution throughout
COMPARATORS = (*WITHOUT_LEVELS, "stunet")  # generators after networks that others published
WITHOUT_NORMS = ("light", *COMPARATORS)  # generators that have neither norms nor a choice of upsampling
SIGNALS = ("raw", "relative", "delta_r2star")  # what the network's input may be
LAYOUTS_OF_CT = ("isles2018", "isles2024")  # of config.data.layout: their exams are CT, whatever the modality
CHOICES = {
    "data.layout": ("bids", "isles2017", *LAYOUTS_OF_CT),
    "data.modality": ("mr", "ct"),
    "data.time_mode": ("stretch", "seconds"),
    "data.non_steady_state": ("keep", "hold"),
    "data.motion": ("none", "rigid"),
    "data.outside_brain": ("keep", "zero"),
    "data.signal": SIGNALS,
    "data.ranges": ("percentile", "published"),
    "data.on_device": ("auto", "always", "never"),
    "phantom.preset": ("acute", "chronic", "tumour", "varied", "difficult"),
    "model.generator": ("temporal", "unet", *WITHOUT_NORMS),
    "model.norm": ("batch", "instance"),
    "model.unet_dims": (2, 3),
    "model.upsample": ("transposed", "resize"),
    "model.init": ("pix2pix", "published"),
    "model.discriminator": ("patch", "whole"),
    "model.compute": ("float32", "bfloat16"),
    "loss.objective": ("logits", "published", "l1"),
    "train.start_ranges": ("start_from", "own"),
    "train.decay": ("constant", "cosine"),
    "train.learning_rate_scaling": ("none", "linear", "sqrt"),
    "evaluate.norm_at_test": ("per_slice", "running"),
    "conventional.method": ("parametric", "osvd", "csvd", "ssvd"),
    "conventional.aif": ("auto", "files"),
    "conventional.motion": ("none", "rigid"),
    "conventional.tmax_offset": ("none", "healthy"),
    "conventional.leakage": ("none", "bsw", "bidirectional"),
}
LEAST_PHANTOM_SIZE = 32  # rows and columns of anything that is learned from
CORNER = 4  # rows and columns of each corner of a slice, where curves of the whole exam may lie
CORNERS = (slice(None, CORNER), slice(-CORNER, None))  # of rows, and of columns
LEAST_WITH_CORNERS = 8 * CORNER  # rows and columns of such slices: a round brain that fills them leaves corners
_AT_LEAST = {
    "seed": 0,
    "phantom.seed": 0,
    "data.size": 8,
    "data.slices": 0,
    "data.frames": 2,
    "data.memory_mib": 0,
    "data.read_threads": 1,
    "data.tr_seconds": 0,
    "data.te_seconds": 0,
    "data.lead_seconds": 0,
    "phantom.subjects": 3,
    "phantom.size": 0,
    "phantom.slices": 0,
    "phantom.drawn_beside": 0,
    "phantom.drawn_slices": 1,
    "model.width": 1,
    "model.unet_width": 1,
    "model.depth": 1,
    "model.discriminator_width": 1,
    "model.discriminator_layers": 1,
    "train.accumulate": 1,
    "loss.l1_weight": 0,
    "loss.outside_weight": 0,
    "train.crop": 0,
    "model.looks": 0,
    "model.neighbours": 0,
    "train.batch_size": 1,
    "train.learning_rate_batch": 1,
    "train.steps": 0,
    "train.log_every_steps": 1,
    "train.keep_checkpoints": 1,
    "train.clip_norm": 0,
}
_ABOVE_ZERO = (
    "data.frame_seconds",
    "train.epochs",
    "train.learning_rate",
    "train.discriminator_learning_rate",
    "train.checkpoint_every_epochs",
    "train.sample_every_epochs",
)
_BELOW_ONE = ("train.beta1", "train.beta2")


def _field(config: ml_collections.ConfigDict, path: str) -> Any:
    value = config
    for name in path.split("."):
        value = value[name]
    return value


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses a config that could not work.

    Raises:
      InputError: names the field, its value and what it may be.
    """
    _check_target(config.target)
    check_fields(config, (*CHOICES, *_AT_LEAST, *_ABOVE_ZERO, *_BELOW_ONE))
    _check_time(config)
    _check_training_slices(config)
    _check_beginning(config)
    _check_whole_exams(config)
    if config.model.lean and config.model.generator != "temporal":
        raise InputError(
            "config.model.lean is True, which is for the temporal stack; set it to False, or "
            "config.model.generator to temporal."
        )
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"config.train.accumulate is {config.train.accumulate}; it must divide config.train.batch_size "
            f"({config.train.batch_size})."
        )
    fractions = tuple(config.data.split_fractions)
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] <= 0:
        raise InputError(
            f"config.data.split_fractions is {fractions}; give train, validation, test, adding up to 1, "
            "with train above 0."
        )
    _check_batch_fits(config)


def _check_target(targets: Sequence[str]) -> None:
    if not targets:
        raise InputError("config.target is empty; name at least one map, for example ('tmax',).")
    if len(set(targets)) != len(targets):
        raise InputError(f"config.target names a map twice: {tuple(targets)}.")
    map_indices(tuple(targets))


def _check_time(config: ml_collections.ConfigDict) -> None:
    """Refuses frames and a lead that the generator, the time mode or the targets cannot have."""
    if config.model.generator == "temporal" and not 64 <= config.data.frames <= 127:
        raise InputError(
            f"config.data.frames is {config.data.frames}; the temporal stack halves time six times and "
            "takes 64 to 127 frames."
        )
    if config.model.generator == "stunet" and config.data.frames < 2 ** (config.model.depth + 1):
        raise InputError(
            f"config.data.frames is {config.data.frames}; the stU-Net halves time once more than config.model.depth "
            f"({config.model.depth}) says and needs at least {2 ** (config.model.depth + 1)} frames: lower that depth."
        )
    if config.data.lead_seconds and config.data.time_mode != "seconds":
        raise InputError(
            f"config.data.lead_seconds is {config.data.lead_seconds:g}, which needs "
            "config.data.time_mode=seconds; set it to 0, or the time mode to seconds."
        )


def _check_training_slices(config: ml_collections.ConfigDict) -> None:
    """Refuses phantoms, crops, augmentation and a light generator that make no training slice or no network."""
    if 0 < config.phantom.size < LEAST_PHANTOM_SIZE:
        raise InputError(
            f"config.phantom.size is {config.phantom.size}; it must be at least {LEAST_PHANTOM_SIZE}, or 0 (the "
            "preset's own number)."
        )
    if config.model.generator == "light" and (config.model.width < 4 or config.model.width % 4):
        raise InputError(f"config.model.width is {config.model.width}; for the light generator it is a multiple of 4.")
    if config.model.looks and config.model.generator != "light":
        raise InputError(
            f"config.model.looks is {config.model.looks}, which is for the light generator; set it to 0, or "
            "config.model.generator to light."
        )
    if config.model.peak_time and config.model.generator != "light":
        raise InputError(
            "config.model.peak_time is True, which is for the light generator; set it to False, or "
            "config.model.generator to light."
        )
    _check_map_weights(config)
    if config.model.arterial_input:
        _check_arterial_input(config)
    if config.train.augment and config.data.time_mode != "seconds":
        raise InputError("config.train.augment needs real time; set config.data.time_mode to seconds.")
    if config.train.augment_more and not config.train.augment:
        raise InputError("config.train.augment_more is True, which needs config.train.augment; set both.")
    if config.train.crop and not config.train.augment:
        raise InputError(f"config.train.crop is {config.train.crop}, which needs config.train.augment; set both.")
    if config.train.crop and not 8 <= config.train.crop <= config.data.size:
        raise InputError(
            f"config.train.crop is {config.train.crop}; it must be 0 or between 8 and config.data.size "
            f"({config.data.size})."
        )


def _check_arterial_input(config: ml_collections.ConfigDict) -> None:
    """Refuses an AIF in the corners of slices that nobody looks at, or in which something else lies."""
    if config.model.generator != "light" or not config.model.looks:
        raise InputError(
            "config.model.arterial_input is True, which is for the light generator with looks; set it to False, or "
            "config.model.generator to light and config.model.looks above 0."
        )
    if config.data.outside_brain != "zero":
        raise InputError(
            "config.model.arterial_input is True, which shows curves in the corners of slices; set it to False, or "
            "config.data.outside_brain to zero."
        )
    for field, size in (("data.size", config.data.size), ("train.crop", config.train.crop or config.data.size)):
        if size < LEAST_WITH_CORNERS:
            raise InputError(
                f"config.model.arterial_input is True, which shows curves in the corners of slices; set config.{field} "
                f"({size}) to {LEAST_WITH_CORNERS} or more."
            )


def _check_beginning(config: ml_collections.ConfigDict) -> None:
    """Refuses what is to be taken from a network to begin with where there is none, or nobody to take it."""
    train = config.train
    if not train.start_from and train.start_ranges != "start_from":
        raise InputError(
            f"config.train.start_ranges is {train.start_ranges}, which needs a network to begin with; set "
            "config.train.start_from, or this to start_from (without a network, ranges are the run's own)."
        )
    if train.start_discriminator and not train.start_from:
        raise InputError(
            "config.train.start_discriminator is True, which needs a run to begin with; set config.train.start_from, "
            "or this to False."
        )
    if train.start_discriminator and config.loss.objective == "l1":
        raise InputError(
            "config.train.start_discriminator is True, but config.loss.objective is l1, which has no discriminator; "
            "set it to False."
        )


def _check_map_weights(config: ml_collections.ConfigDict) -> None:
    weights = tuple(config.loss.map_weights)
    if weights and config.loss.objective != "l1":
        raise InputError(f"config.loss.map_weights is {weights}, which is for config.loss.objective=l1; set it to ().")
    if weights and (len(weights) != len(config.target) or min(weights) < 0 or not sum(weights)):
        raise InputError(
            f"config.loss.map_weights is {weights}; it must hold a number of at least 0 for each of "
            f"{', '.join(config.target)}, or nothing."
        )


def _check_whole_exams(config: ml_collections.ConfigDict) -> None:
    """Refuses a network that sees neighbours where batches cannot hold whole exams, slices in order."""
    neighbours, slices = config.model.neighbours, config.data.slices
    if not neighbours:
        if config.model.unet_dims == 3:
            raise InputError(
                "config.model.unet_dims is 3, and config.model.neighbours 0: give the slices that its kernels see on "
                "each side, for example --config.model.neighbours=1, or set unet_dims to 2."
            )
        return
    so = f"config.model.neighbours is {neighbours}"
    if config.model.generator == "light":
        raise InputError(f"{so}, which is for the generators temporal and unet; set it to 0, or the generator to one.")
    if not slices:
        raise InputError(f"{so}, for which all exams have equally many slices; set config.data.slices above 0.")
    if config.train.batch_size % (slices * config.train.accumulate):
        raise InputError(
            f"{so}, so that a batch holds whole exams: config.train.batch_size ({config.train.batch_size}) must be a "
            f"multiple of config.data.slices ({slices}) times config.train.accumulate ({config.train.accumulate})."
        )
    if config.phantom.drawn_beside and not config.data.root:
        raise InputError(f"{so}, and exams that are drawn beside a run come as single slices; set drawn_beside to 0.")


def exam_slices(config: ml_collections.ConfigDict) -> int:
    """How many slices in a row of every batch are one exam: all where the network sees neighbours, otherwise 1."""
    return config.data.slices if config.model.neighbours else 1


def has_batch_norm(model: ml_collections.ConfigDict) -> bool:
    """Whether a generator has batch norm, which can use each slice's statistics or those of training."""
    return model.norm == "batch" and model.generator not in WITHOUT_NORMS


def check_former_names(paths: Iterable[str]) -> None:
    """Refuses names that fields had in older versions.

    Args:
      paths: of fields on the command line, `data.transients`.

    Raises:
      InputError: names the field and what it is called now.
    """
    for path in paths:
        if path in FORMER_FIELDS:
            raise InputError(f"config.{path} is now called config.{FORMER_FIELDS[path]}; give that.")


def check_fields(config: ml_collections.ConfigDict, paths: Iterable[str]) -> None:
    """Refuses values that single fields cannot have.

    Raises:
      InputError: names the field, its value and what it may be.
    """
    for path in paths:
        value = _field(config, path)
        if path in FORMER_VALUES and value in FORMER_VALUES[path]:
            raise InputError(
                f"config.{path} is {value!r}, which is now called {FORMER_VALUES[path][value]}; give that."
            )
        if path in CHOICES and value not in CHOICES[path]:
            raise InputError(f"config.{path} is {value!r}; it must be one of {', '.join(map(str, CHOICES[path]))}.")
        if path in _AT_LEAST and not value >= _AT_LEAST[path]:
            raise InputError(f"config.{path} is {value}; it must be at least {_AT_LEAST[path]}.")
        if path in _ABOVE_ZERO and not value > 0:
            raise InputError(f"config.{path} is {value}; it must be above 0.")
        if path in _BELOW_ONE and not 0 <= value < 1:
            raise InputError(f"config.{path} is {value}; it must be in [0, 1).")


def _check_batch_fits(config: ml_collections.ConfigDict) -> None:
    """Refuses a batch that this machine's memory could not even hold once, before minutes of reading."""
    batch_bytes = config.train.batch_size * config.data.size**2 * (2 * config.data.frames + 4 * len(MAP_NAMES))
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if batch_bytes > memory_bytes:
        raise InputError(
            f"out of memory: config.train.batch_size={config.train.batch_size} needs {batch_bytes / 2**30:,.0f} "
            f"GiB for one batch, this machine has {memory_bytes / 2**30:,.0f} GiB; lower it."
        )


def total_steps(config: ml_collections.ConfigDict, n_slices: int) -> int:
    """Steps of a whole run on `n_slices` training slices."""
    if config.train.steps:
        return config.train.steps
    return math.ceil(config.train.epochs * n_slices / config.train.batch_size)


def learning_rate_factor(train: ml_collections.ConfigDict) -> float:
    """What both learning rates are multiplied by, for batches of another size than they are meant for."""
    ratio = train.batch_size / train.learning_rate_batch
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[train.learning_rate_scaling]


def steps_of_epochs(config: ml_collections.ConfigDict, epochs: float, n_slices: int) -> int:
    """A period given in epochs, in steps, at least one."""
    return max(1, round(epochs * n_slices / config.train.batch_size))


def to_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Plain nested values; tuples become lists."""
    return json.loads(config.to_json_best_effort())


def sha256(config: ml_collections.ConfigDict) -> str:
    """Digest of a config: equal settings have equal digests."""
    return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()


def from_json(record: dict[str, Any], like: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A stored record as a config with the fields and types of `like` (lists become the tuples they were).

    Fields that the record lacks are as in `like`, or as in `BEFORE_ITS_FIELD`. Former names and values are read as
    what they are called now.

    Raises:
      InputError: the record has a field that this version does not know.
    """
    config = ml_collections.ConfigDict(like.to_dict())
    config.update_from_flattened_dict(BEFORE_ITS_FIELD)
    for stored_path, stored in _leaves(record).items():
        path = FORMER_FIELDS.get(stored_path, stored_path)
        section, _, name = path.rpartition(".")
        into = config.get(section, {}) if section else config
        if name not in into:
            raise InputError(
                f"the stored config has the field config.{stored_path}, which this version does not know; "
                "use the version that wrote it."
            )
        value: Any = tuple(stored) if isinstance(stored, list) else stored
        into[name] = FORMER_VALUES.get(path, {}).get(value, value)
    return config


def _leaves(record: dict[str, Any], path: str = "") -> dict[str, Any]:
    """{path of the field: value} of nested values."""
    flat = {}
    for name, value in record.items():
        flat.update(_leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value})
    return flat


def check_same_run(stored: dict[str, Any], config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Refuses to continue in a work directory that another config began.

    Raises:
      InputError: names the first field that differs.
    """
    # `from_json` knows what a run had that began before a field existed.
    before, now = _leaves(to_json(from_json(stored, default.get_config()))), _leaves(to_json(config))
    for path in sorted(before.keys() | now.keys()):
        if (
            path not in RESUMABLE_FIELDS
            and not path.startswith(RESUMABLE_SECTIONS)
            and before.get(path) != now.get(path)
        ):
            raise InputError(
                f"{workdir} holds a run with config.{path}={before.get(path)!r}, this one has "
                f"{now.get(path)!r}; resume with the same config "
                f"({shlex.quote(f'--config.{path}={before.get(path)}')}) or give another --workdir."
            )
