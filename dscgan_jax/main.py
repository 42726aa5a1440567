"""The one door: absl flags, process set-up, one call per mode.

python -m dscgan_jax.main --config=configs/temp_tmax.py:demo                        # train and evaluate, minutes on a
CPU python -m dscgan_jax.main --mode=predict --workdir=runs/temp_tmax-demo --input=exam.nii.gz --output=maps/
python -m dscgan_jax.main --mode=deconvolve --input=exam.nii.gz --output=maps/       # no network
"""

import os
import pathlib
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from dscgan_jax.app import options
from dscgan_jax.errors import DISK_FULL, InputError
from dscgan_jax.files import expanded
from dscgan_jax.findings import check_names
from dscgan_jax.training.memory import keep_freed_memory

MODES = {
    "train": "draw phantom exams where no root is given, prepare, train, evaluate (default)",
    "prepare": "only the data set",
    "check": "what in --config.data.root is usable, what not, and why",
    "evaluate": "score the test split from a checkpoint, or anybody's maps with --maps",
    "predict": "one 4-D file (--input) to maps (--output)",
    "deconvolve": "conventional maps without a network, of one file (--input) or of a folder (--config.data.root)",
    "phantom": "draw digital exams into --output",
    "benchmark": "how fast this config is on this machine, as a table; --output=FILE.json keeps the record",
}

NETWORK_MODES = ("train", "evaluate", "predict", "benchmark")


def _readers(flag: str, text: str) -> str:
    """A help text that begins with the modes that read the flag."""
    return f"[{options.modes_of(flag)}] {text}"


_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    list(MODES),
    "; ".join(f"{mode}: {what}" for mode, what in MODES.items())
    + ". A flag is read by the modes in its brackets; given to another one, it is an error.",
)
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "[all modes] Config file (default configs/temp_tmax.py), optionally with a variant: "
    "configs/temp_tmax.py:demo. Fields are overridden as --config.train.batch_size=8; configs/default.py lists and "
    "explains all "
    "of them. evaluate and predict take the network's settings from the run.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, _readers("workdir", "Where a run lives; default: runs/<config>[-<variant>].")
)
_INPUT = flags.DEFINE_string("input", None, _readers("input", "A 4-D NIfTI file."))
_OUTPUT = flags.DEFINE_string("output", None, _readers("output", "Folder to write into; benchmark: JSON file."))
_METHOD = flags.DEFINE_enum(
    "method", None, ["parametric", "osvd", "csvd", "ssvd"], _readers("method", "How (default parametric).")
)
_AIF = flags.DEFINE_string(
    "aif",
    None,
    _readers(
        "aif",
        "The arterial input: auto (default), a table with time_seconds and "
        "concentration_mM, a NIfTI mask of arterial voxels, or files (each exam's own aif.tsv).",
    ),
)
_SCALE = flags.DEFINE_string(
    "scale",
    None,
    _readers(
        "scale", "none, reference_wm (healthy white matter at 22 ml/100g/min, default) or a factor on CBF and CBV."
    ),
)
_MASK = flags.DEFINE_string(
    "mask", None, _readers("mask", "NIfTI mask of the tissue of one exam (--input), instead of an automatic one.")
)
_MOTION = flags.DEFINE_enum(
    "motion",
    None,
    ["none", "rigid"],
    _readers(
        "motion",
        "rigid: the series is realigned first. "
        "Default: deconvolve: config.conventional.motion; predict: as the network was trained.",
    ),
)
_MAPS = flags.DEFINE_string(
    "maps",
    None,
    _readers(
        "maps",
        "A folder with <subject>_<map>.nii.gz to score instead of a network; "
        "with --workdir of a run on that run's grid and ranges.",
    ),
)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], _readers("split", "Which subjects."))
_STEP = flags.DEFINE_string(
    "step", "best", _readers("step", "best (on validation), latest, or a step; not with --maps.")
)
_TR = flags.DEFINE_float(
    "tr",
    0.0,
    _readers("tr", "Frame length in seconds, for files that do not tell it, or tell it wrongly; 0 = from the files."),
    lower_bound=0.0,
)
_TE = flags.DEFINE_float("te", 0.0, _readers("te", "Echo time in seconds, likewise."), lower_bound=0.0)
_ACCEPT = flags.DEFINE_list(
    "accept",
    [],
    _readers(
        "accept",
        "Names of findings, with commas between them, that refuse an exam "
        "and that are taken all the same; they become warnings and are recorded.",
    ),
)
_PRESET = flags.DEFINE_enum(
    "preset", "acute", ["acute", "chronic"], _readers("preset", "Which of the paper's cohorts.")
)
_SUBJECTS = flags.DEFINE_integer("subjects", 40, _readers("subjects", "Number of subjects."), lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 128, _readers("size", "Rows and columns."), lower_bound=32)
_SLICES = flags.DEFINE_integer("slices", 0, _readers("slices", "Slices; 0 = the preset's own number."), lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, _readers("seed", "Random seed."), lower_bound=0)
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    None,
    ["auto"],
    _readers(
        "distributed",
        "On several processes, as Slurm, Open MPI or a TPU pod started them (launch/slurm.py, launch/tpu.py).",
    ),
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    _readers(
        "coordinator", "host:port of process 0, where several processes started by hand meet; the same for all of them."
    ),
)
_PROCESSES = flags.DEFINE_integer(
    "processes", None, _readers("processes", "How many processes there are."), lower_bound=1
)
_PROCESS = flags.DEFINE_integer("process", None, _readers("process", "Which of them this is, from 0."), lower_bound=0)
_WAIT_SECONDS = flags.DEFINE_float(
    "wait_seconds",
    300.0,
    _readers(
        "wait_seconds",
        "How long to wait for other processes, and for all devices to add up one number before training.",
    ),
    lower_bound=1.0,
)
_PARTS = flags.DEFINE_list(
    "parts",
    [],
    _readers("parts", "Of step, pipeline, inference, deconvolution, linear (default: these) and best_batch."),
)
_REPEATS = flags.DEFINE_integer("repeats", 20, _readers("repeats", "Timed steps."), lower_bound=3)
_DEBUG = flags.DEFINE_bool("debug", False, "[all modes] Show the traceback of an error.")


def main(argv: Sequence[str]) -> None:
    """Runs the chosen mode; bad input ends in one line and exit status 1."""
    if not _DEBUG.value:
        # What fails in a writer's thread fails again where it is waited for; only there is it told, in one line.
        threading.excepthook = lambda _: None
        sys.unraisablehook = lambda _: None
        warnings.simplefilter("ignore")  # of libraries, for those who write them
    try:
        if len(argv) > 1:
            raise InputError(f"unexpected argument {argv[1]!r}; every option begins with --, see --help.")
        run(_MODE.value)
    except (KeyboardInterrupt, Exception) as error:
        if _DEBUG.value:
            traceback.print_exc()
        leave(error)


def leave(error: BaseException) -> None:
    """Ends with one line and status 1."""
    distributed = sys.modules.get("dscgan_jax.distributed")
    if distributed and (isinstance(error, distributed.Stuck) or distributed.has_joined()):  # others would be waited for
        if distributed.lost(error):
            error = InputError(
                f"the processes no longer reach each other ({' '.join(str(error).split())[:120]}); the output of "
                "the others says why. Give all commands again: the run resumes from its last checkpoint."
            )
        distributed.leave(one_line(error))
    sys.exit(one_line(error))


def run(mode: str) -> None:
    """One call per mode. Imports wait until here, so that --help and bad flags answer at once."""
    given = read_command(mode)
    config = read_config(given)
    if mode in NETWORK_MODES:
        keep_freed_memory()  # before JAX takes any
    from dscgan_jax.training import distributed

    distributed.initialize(
        automatic=bool(_DISTRIBUTED.value),
        coordinator=_COORDINATOR.value,
        processes=_PROCESSES.value,
        process=_PROCESS.value,
        wait_seconds=_WAIT_SECONDS.value,
    )  # before anything could touch a device
    from dscgan_jax import settings
    from dscgan_jax.app import workflow

    settings.check_fields(config, given.all_fields - {"conventional.aif"})  # --aif takes files too
    workflow.set_up(config)
    if mode == "train":
        workflow.train_and_evaluate(config, workdir(), _WAIT_SECONDS.value)
    elif mode == "prepare":
        workflow.prepare(config)
    elif mode == "check":
        workflow.check(config)
    elif mode == "evaluate" and _MAPS.value:
        workflow.evaluate_maps(
            config, _path(_MAPS), workdir() if _WORKDIR.value else None, _SPLIT.value, given.all_fields
        )
    elif mode == "evaluate":
        workflow.evaluate_run(config, workdir(), _SPLIT.value, _STEP.value, given.all_fields)
    elif mode == "predict":
        workflow.predict(config, workdir(), _required(_INPUT), _required(_OUTPUT), _STEP.value, given.all_fields)
    elif mode == "deconvolve":
        workflow.deconvolve(
            config,
            _path(_INPUT) if _INPUT.value else None,
            _required(_OUTPUT),
            arterial_input() or config.conventional.aif,
            _path(_MASK) if _MASK.value else None,
        )
    elif mode == "phantom":
        workflow.draw_phantom(
            _required(_OUTPUT),
            preset=_PRESET.value,
            subjects=_SUBJECTS.value,
            size=_SIZE.value,
            slices=_SLICES.value,
            seed=_SEED.value,
            split_fractions=tuple(config.data.split_fractions),
        )
    elif mode == "benchmark":
        workflow.measure_speed(
            config, _PARTS.value, _REPEATS.value, _path(_OUTPUT) if _OUTPUT.value else None, command_line()
        )


def read_command(mode: str) -> options.Given:
    """What stands on the command line, all of it read by the mode.

    Raises:
      InputError: something is not.
    """
    names = {name for name in options.FLAGS if flags.FLAGS[name].present}
    fields = {
        re.sub(r"\[.*", "", path) for path in config_flags.get_override_values(flags.FLAGS["config"])
    }  # target[0]
    config = _CONFIG.value
    leaves = {leaf for path in fields for leaf in _leaves(config, path)}
    run_is_there = bool(_WORKDIR.value) and (workdir() / "checkpoints").is_dir()
    given = options.Given(mode, frozenset(names), frozenset(leaves), run_is_there)
    options.check(given, _with_flags(config, given))
    return given


def read_config(given: options.Given | None = None) -> ml_collections.ConfigDict:
    """The config of the command line, with the flags that stand for a field and the exams' whole path in it."""
    config = _with_flags(_CONFIG.value, given or read_command(_MODE.value))
    if config.data.root:  # however it was spelt, a run remembers one name
        config.data.root = str(expanded(config.data.root, "--config.data.root").resolve())
    config.data.accept = check_names(",".join(config.data.accept).split(","))
    return config


def _with_flags(config: ml_collections.ConfigDict, given: options.Given) -> ml_collections.ConfigDict:
    """A copy of the config with --tr, --te, --accept, --method, --scale and --motion in it."""
    config = ml_collections.ConfigDict(config.to_dict())
    for flag in sorted(given.flags):
        path = options.field_of(flag, given.mode)
        if path and flag != "aif":  # which may be a file of this exam: nothing that a config keeps
            section, name = path.split(".")
            config[section][name] = tuple(flags.FLAGS[flag].value) if flag == "accept" else flags.FLAGS[flag].value
    return config


def _leaves(config: ml_collections.ConfigDict, path: str) -> list[str]:
    """The field of that path, or all fields of that section."""
    value = config
    for name in path.split("."):
        value = value[name]
    return [f"{path}.{name}" for name in value] if isinstance(value, ml_collections.ConfigDict) else [path]


def arterial_input() -> str | None:
    """--aif, a path in it whole."""
    return _AIF.value if _AIF.value in (None, "", "auto", "files") else str(_path(_AIF))


def command_line() -> str:
    """The command as it may be given again anywhere; `parse_flags` has put in where the shipped configs lie here."""
    arguments = [re.sub(r"^(--?config=).*/(?=[^/]+\.py)", r"\1configs/", argument) for argument in sys.argv[1:]]
    return " ".join(["python -m dscgan_jax.main", *arguments])


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says so; the checkpoint writer knows no errno, only words."""
    words = ("No space left", "File too large", "Disk quota exceeded")
    while error is not None:
        if (isinstance(error, OSError) and error.errno in DISK_FULL) or any(word in str(error) for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """An error as the one line that a user reads."""
    if isinstance(error, KeyboardInterrupt):
        return "\ninterrupted; a run resumes from its last checkpoint when its command is given again."
    text = " ".join(str(error).split())
    if not isinstance(error, InputError) and disk_is_full(error):
        return (
            "error: the disk is full; free some space or give another folder. A run resumes from its last whole "
            "checkpoint when its command is given again."
        )
    if isinstance(error, (InputError, FloatingPointError, OSError)):
        return f"error: {text}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return (
            "error: out of memory; lower config.train.batch_size, config.model.width or config.data.size, or take the "
            "batch "
            "in parts (config.train.accumulate)."
        )
    return f"error: {type(error).__name__}: {text} (this is a defect of dscgan_jax; --debug shows where)"


def resolve_config(argument: str) -> str:
    """`--config=configs/temp_tmax.py[:variant]` with the file found from any folder.

    The configs ship with the package.
    """
    name, equals, value = argument.partition("=")
    if name not in ("--config", "-config") or not equals:
        return argument
    path, colon, variant = value.partition(":")
    if not pathlib.Path(path).is_file():
        from dscgan_jax import configs

        shipped = pathlib.Path(configs.__file__).parent / pathlib.Path(path).name
        if not shipped.is_file():
            known = ", ".join(sorted(file.name for file in shipped.parent.glob("*_*.py")))
            raise InputError(f"--config={path}: there is no such file; shipped configs are {known}.")
        path = str(shipped)
    return f"{name}={path}{colon}{variant}"


def _path(flag: flags.FlagHolder) -> pathlib.Path:
    """The path in a flag that is given."""
    return expanded(flag.value, f"--{flag.name}")


def workdir() -> pathlib.Path:
    """Where the run lives."""
    return _path(_WORKDIR) if _WORKDIR.value else default_workdir()


def default_workdir() -> pathlib.Path:
    """runs/<config>[-<variant>], from the command line's --config."""
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return pathlib.Path("runs") / (pathlib.Path(path).stem + (f"-{variant}" if variant else ""))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; whatever is wrong with it is one line too."""
    try:
        for i, argument in enumerate(argv[:-1]):
            if argument in ("--config", "-config"):
                argv = [*argv[:i], f"--config={argv[i + 1]}", *argv[i + 2 :]]
        if not any(argument.startswith(("--config=", "-config=")) for argument in argv):
            argv = [argv[0], "--config=configs/temp_tmax.py", *argv[1:]]
        sys.argv = [argv[0], *map(resolve_config, argv[1:])]  # ml_collections looks for overrides there
        return flags.FLAGS(sys.argv)
    except (InputError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if typo := re.search(r'Did you mean "(\w+)" instead of "(\w+)"', message):
            message = f"the config has no field {typo[2]}; did you mean {typo[1]}? configs/default.py lists all fields."
        elif name := re.fullmatch(r"""["']*(\w+)["']*""", message):  # a KeyError: not like any field
            message = f"the config has no field {name[1]}; configs/default.py lists all fields."
        if "Traceback" in message:  # ml_collections quotes the traceback of a config file that raised
            message = message.strip().splitlines()[-1].partition(": ")[2]
        sys.exit(one_line(InputError(message)))


def _required(flag: flags.FlagHolder) -> pathlib.Path:
    """The path in a flag that the mode cannot do without."""
    if not flag.value:
        raise InputError(f"--mode={_MODE.value} needs --{flag.name}=PATH; see --help.")
    return _path(flag)


def entry() -> None:
    """Runs from the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.FATAL)  # libraries log the tracebacks of errors that we tell in one line
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()
