"""The one door: flags, process set-up, one call per mode.

dscgan-jax predict exam.nii.gz maps/                                                # by the network `physics`
dscgan-jax predict exam.nii.gz maps/ --workdir=runs/temp_tmax-demo                  # by one's own
dscgan-jax deconvolve exam.nii.gz maps/                                            # no network
python -m dscgan_jax.main --config=configs/temp_tmax.py:demo                        # train and evaluate
"""

import atexit
import contextlib
import gc
import io
import os
import pathlib
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from dscgan_jax import processes, settings, shipped
from dscgan_jax.app import command, options
from dscgan_jax.errors import InputError, exit_status, one_line
from dscgan_jax.files import expanded
from dscgan_jax.findings import check_names

if TYPE_CHECKING:
    from dscgan_jax.methods.asked import Asked

NETWORK_MODES = ("train", "evaluate", "predict", "benchmark")
READ_FIRST = ("predict", "deconvolve")  # an exam is read while they import what takes as long

_MODE = flags.DEFINE_enum("mode", "train", list(command.MODES), "What to do; the first word does the same.")
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, optionally with a variant (configs/temp_tmax.py:demo); default configs/temp_tmax.py. A field is "
    "overridden by --config.train.batch_size=8; configs/default.py lists and explains all fields.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run; default: runs/<config>[-<variant>]; of predict without --config: --model."
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Network: physics (it comes with the package; default without --config, with it the run of that config), a file of "
    "weights (from export), or the folder of a run, as --workdir.",
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "One exam: a 4-D NIfTI file or a folder of its DICOM files; or a folder of exams. "
    "CT perfusion: with --config.data.modality=ct.",
)
_SERIES = flags.DEFINE_integer(
    "series", None, "Number of the DICOM series to take from --input; default: the one with at least 10 frames."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the results; export: FILE.safetensors or FILE.stablehlo; benchmark: JSON file."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "safetensors",
    ["safetensors", "stablehlo"],
    "What the file holds: safetensors = the weights of a run, for this package (default); stablehlo = prediction as a "
    "program with weights, of a run or of --model, that JAX alone runs.",
)
_METHOD = flags.DEFINE_enum(
    "method", None, list(settings.CHOICES["conventional.method"]), "Deconvolution method; default parametric."
)
_AIF = flags.DEFINE_string(
    "aif",
    None,
    "Arterial input function: auto (default), a table with the columns time_seconds and concentration_mM, a NIfTI mask "
    "of arterial voxels, or files (each exam's own aif.tsv).",
)
_SCALE = flags.DEFINE_string(
    "scale",
    None,
    "Scale of CBF and CBV: reference_wm (healthy white matter at 22 mL/100 g/min; default), none, or a factor.",
)
_MASK = flags.DEFINE_string(
    "mask",
    None,
    "NIfTI mask of the tissue of the brain. deconvolve: instead of the one that is found in the series; predict: maps "
    "are 0 outside it as well.",
)
_CORE = flags.DEFINE_string(
    "core", None, "NIfTI mask of the ischaemic core (DWI or ADC) for the read-out; default: by CBF, which is research."
)
_SPACE = flags.DEFINE_string(
    "space", None, "NIfTI image of the same session, such as T1w.nii.gz, on whose grid the maps are written, too."
)
_DESC = flags.DEFINE_string(
    "desc",
    "",
    "Word in the names of maps, <subject>_desc-WORD_tmax.nii.gz, to keep maps of several methods in one folder.",
)
_BESIDE = flags.DEFINE_enum(
    "beside",
    None,
    list(settings.CHOICES["conventional.method"]),
    "Conventional maps by this method, too, on the page of the network's; as <subject>_desc-METHOD_tmax.nii.gz etc.",
)
_DICOM = flags.DEFINE_bool("dicom", False, "Write the maps as DICOM parametric maps, too (extra `dicom`).")
_MOTION = flags.DEFINE_enum(
    "motion",
    None,
    list(settings.CHOICES["conventional.motion"]),
    "Head motion: rigid (frames are realigned first) or none. Default: rigid (deconvolve), as in training (predict).",
)
_LEAKAGE = flags.DEFINE_enum(
    "leakage",
    None,
    list(settings.CHOICES["conventional.leakage"]),
    "Contrast agent that leaks from the vessels of tumours: none (default), bsw (Boxerman, Schmainda and Weisskoff) or "
    "bidirectional (agent returns, too). Not for exams without leakage.",
)
_NORM = flags.DEFINE_enum(
    "norm",
    None,
    list(settings.CHOICES["evaluate.norm_at_test"]),
    "Statistics of batch norm: each slice's own, or those of the training; default: the config's.",
)
_MAPS = flags.DEFINE_string(
    "maps",
    None,
    "Folder with <subject>_<map>.nii.gz to score instead of a network; with --workdir on the grid and ranges of that "
    "run.",
)
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Split whose subjects are scored; default test."
)
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best (on validation; default), latest, or a step.")
_TR = flags.DEFINE_float("tr", 0.0, "Repetition time in seconds; overrides the files.", lower_bound=0.0)
_TE = flags.DEFINE_float("te", 0.0, "Echo time in seconds; overrides the files.", lower_bound=0.0)
_ACCEPT = flags.DEFINE_list(
    "accept",
    [],
    "Findings that would reject an exam and are accepted, by name, separated by commas; they are recorded.",
)
_PRESET = flags.DEFINE_enum(
    "preset",
    "acute",
    list(settings.CHOICES["phantom.preset"]),
    "Patients: one of the paper's cohorts, tumour (a leaking glioma), varied (each exam with a protocol and a "
    "disease of its own) or difficult (acute exams that nobody can post-process); default acute.",
)
_SUBJECTS = flags.DEFINE_integer("subjects", 40, "Number of subjects; default 40.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 0, "Rows and columns; 0 = the preset's own number (default).", lower_bound=0)
_SLICES = flags.DEFINE_integer("slices", 0, "Slices; 0 = the preset's own number (default).", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed; default 0.", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    None,
    ["auto"],
    "Several processes, as Slurm, Open MPI or a TPU pod started them (launch/slurm.py, launch/tpu.py).",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, where processes started by hand meet; the same for all of them."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
_WAIT_SECONDS = flags.DEFINE_float(
    "wait_seconds",
    300.0,
    "How long to wait for other processes, and for an all-reduce across all devices that is tested before training.",
    lower_bound=1.0,
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Exams of a folder that are looked at or made at a time, each in a process of its own; default: all cores, at "
    "most 4, and one on a GPU or TPU.",
    lower_bound=1,
)
_PARTS = flags.DEFINE_list(
    "parts", [], "Parts to measure: step, pipeline, inference, deconvolution, linear (default: these) and best_batch."
)
_REPEATS = flags.DEFINE_integer("repeats", 20, "Timed steps; default 20.", lower_bound=3)
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def main(argv: Sequence[str]) -> None:
    """Runs the chosen mode; bad input ends in one line and exit status 1."""
    if not _DEBUG.value:
        # What fails in a writer's thread fails again where it is waited for, and is reported there in one line.
        threading.excepthook = lambda _: None
        sys.unraisablehook = lambda _: None
        warnings.simplefilter("ignore")  # of libraries, for those who write them
    try:
        with _ends_when_asked():
            run(_MODE.value)
    except (KeyboardInterrupt, Exception) as error:
        if _DEBUG.value:
            traceback.print_exc()
        leave(error)


@contextlib.contextmanager
def _ends_when_asked() -> Iterator[None]:
    """Within it, who ends the process politely interrupts it, and it ends in time.

    One of several processes ends at once instead: it may wait for another one, within the runtime, for ever.
    """
    if _DISTRIBUTED.value or _COORDINATOR.value:
        yield
        return
    with processes.ended_in_time(), processes.interrupted_by_signals():
        yield


def leave(error: BaseException) -> None:
    """Ends with one line and status 1, or that of the signal which ends the process."""
    distributed = sys.modules.get("dscgan_jax.training.distributed")
    if distributed and (isinstance(error, distributed.Stuck) or distributed.has_joined()):  # others would be waited for
        if distributed.lost(error):
            error = InputError(
                f"the processes no longer reach each other ({' '.join(str(error).split())[:120]}); the output of "
                "the others says why. Give all commands again: the run resumes from its last checkpoint."
            )
        distributed.leave(one_line(error))
    if isinstance(error, KeyboardInterrupt):
        # Everything is closed. A library's thread that was being started in that moment is known to nobody, and the
        # interpreter would wait for it for ever.
        sys.stdout.flush()
        print(one_line(error), file=sys.stderr, flush=True)
        os._exit(exit_status(error))
    sys.exit(one_line(error))


def run(mode: str) -> None:
    """One call per mode. Imports wait until here and are those of the mode: help and bad input answer at once."""
    given = read_command(mode)
    config = read_config(given)
    _check_paths(mode, config)
    # Our own threads have a core each; those of OpenBLAS would wait, and take as much time again.
    if mode in READ_FIRST:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported
    if mode in (*NETWORK_MODES, "deconvolve"):
        from dscgan_jax.training import memory

        memory.keep_freed_memory()  # before JAX takes any
        if mode in ("train", "benchmark"):
            memory.take_huge_pages()
    if mode == "train":
        _join_processes()
    settings.check_fields(config, given.all_fields - {"conventional.aif"})  # --aif takes files too
    if mode == "check":
        from dscgan_jax.app import check

        check.run(config, _optional(_OUTPUT), _WORKERS.value)
    elif mode == "phantom":
        _phantom(config)
    elif mode in READ_FIRST and not given.input_is_folder and _INPUT.value:
        with _ahead(_path(_INPUT)):
            _with_jax(mode, config, given)
    else:
        if mode not in READ_FIRST:  # which set up when the exam is being read
            from dscgan_jax.app import start

            start.set_up(config)
        _with_jax(mode, config, given)


@contextlib.contextmanager
def _ahead(series: pathlib.Path) -> Iterator[None]:
    """Within it, a process that draws is there, and the exam is being read, while the rest is imported here."""
    from dscgan_jax.figures import apart

    before = gc.get_threshold()
    gc.set_threshold(1_000_000)  # for the seconds that an exam takes
    try:
        with apart.process():
            if series.is_file() and series.name.endswith((".nii", ".nii.gz")):
                from dscgan_jax.data import nifti

                nifti.read_ahead(series, dims=4)
            yield
    finally:
        gc.set_threshold(*before)


def _with_jax(mode: str, config: ml_collections.ConfigDict, given: options.Given) -> None:
    """The modes that compile something."""
    if mode == "train":
        from dscgan_jax.app import train

        train.run(config, workdir(), _WAIT_SECONDS.value)
    elif mode == "prepare":
        from dscgan_jax.app import prepare

        prepare.run(config)
    elif mode == "evaluate":
        from dscgan_jax.app import evaluate

        if _MAPS.value:
            run_folder = workdir() if _WORKDIR.value else None
            evaluate.of_maps(config, _path(_MAPS), run_folder, _SPLIT.value, given.all_fields)
        else:
            evaluate.of_run(config, workdir(), _SPLIT.value, _STEP.value, given.all_fields)
    elif mode == "predict":
        from dscgan_jax.app import predict

        fields, mask, output = given.all_fields, _optional(_MASK), _required(_OUTPUT)
        if given.reader == options.PREDICT_FOLDER:
            predict.run_folder(config, model(), output, _STEP.value, _WORKERS.value, fields, asked().desc)
        else:
            series, number = _required(_INPUT), _SERIES.value
            predict.run(config, model(), series, output, _STEP.value, mask, fields, asked(), number)
    elif mode == "export":
        from dscgan_jax.app import export

        if given.as_program:
            export.run_program(config, model(), _required(_OUTPUT), _STEP.value, given.all_fields)
        else:
            export.run(workdir(), _required(_OUTPUT), _STEP.value)
    elif mode == "deconvolve":
        from dscgan_jax.app import deconvolve

        aif = arterial_input() or config.conventional.aif
        series = None if given.input_is_folder else _optional(_INPUT)
        output, mask, workers = _required(_OUTPUT), _optional(_MASK), _WORKERS.value
        deconvolve.run(config, series, output, aif, mask, asked(), workers, _SERIES.value)
    elif mode == "benchmark":
        from dscgan_jax.app import benchmark

        benchmark.run(config, _PARTS.value, _REPEATS.value, _optional(_OUTPUT), command_line())


def _phantom(config: ml_collections.ConfigDict) -> None:
    from dscgan_jax.app import phantom

    phantom.run(
        _required(_OUTPUT),
        preset=_PRESET.value,
        subjects=_SUBJECTS.value,
        size=_SIZE.value,
        slices=_SLICES.value,
        seed=_SEED.value,
        split_fractions=tuple(config.data.split_fractions),
    )


def _join_processes() -> None:
    from dscgan_jax.training import distributed

    distributed.initialize(
        automatic=bool(_DISTRIBUTED.value),
        coordinator=_COORDINATOR.value,
        processes=_PROCESSES.value,
        process=_PROCESS.value,
        wait_seconds=_WAIT_SECONDS.value,
    )  # before anything could touch a device


def _check_paths(mode: str, config: ml_collections.ConfigDict) -> None:
    """Refuses what is not there before anything slow is imported; who reads a file checks it again.

    Raises:
      InputError: names the first path that is absent.
    """
    if mode in ("predict", "deconvolve", "phantom", "export"):
        output = _required(_OUTPUT)
        if mode != "export" and output.exists() and not output.is_dir():  # told before minutes of work
            raise InputError(f"--output={output} is a file; give a folder.")
    as_program = mode == "export" and _FORMAT.value == "stablehlo"
    if mode == "predict" and not config.data.root:
        _required(_INPUT)
    if mode == "predict" or as_program:
        _check_model(model())
    if (mode == "export" and not as_program) or (mode == "evaluate" and not _MAPS.value):
        _check_run(workdir(), "workdir", needs_checkpoints=mode == "export")
    for flag in (_INPUT, _MASK, _CORE, _SPACE):
        if flag.value and not os.path.lexists(_path(flag)):
            raise InputError(f"{_path(flag)}: no such file.")
    if (aif := arterial_input()) not in (None, "auto", "files") and not os.path.lexists(str(aif)):
        raise InputError(f"--aif={aif}: there is no such file; give auto, files, a table or a NIfTI mask.")
    if _MAPS.value and not _path(_MAPS).is_dir():
        raise InputError(f"--maps={_MAPS.value}: there is no such folder; it should hold <subject>_<map>.nii.gz files.")
    if config.data.root and not pathlib.Path(config.data.root).is_dir():
        raise InputError(f"config.data.root={config.data.root}: there is no such folder.")


def _check_run(folder: pathlib.Path, flag: str, *, needs_checkpoints: bool) -> None:
    if not folder.is_dir():
        raise InputError(f"--{flag}={folder}: there is no such folder; give the folder of a trained run.")
    if needs_checkpoints and not (folder / "checkpoints").is_dir():
        raise InputError(f"{folder} holds no checkpoints; give the --{flag} of a trained run.")


def _check_model(network: pathlib.Path | str) -> None:
    if isinstance(network, str):
        shipped.weights_file(network)
    elif not _MODEL.value or network.is_dir():
        _check_run(network, "model" if _MODEL.value else "workdir", needs_checkpoints=True)
    elif not os.path.lexists(network):
        raise InputError(
            f"--model={network}: there is no such file or folder; give {', '.join(shipped.NAMES)}, a file of weights "
            "or the folder of a trained run."
        )


def read_command(mode: str) -> options.Given:
    """What is given on the command line, all of it read by the mode.

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
    is_folder, as_program = _input_is_folder(mode), _FORMAT.value == "stablehlo"
    given = options.Given(mode, frozenset(names), frozenset(leaves), run_is_there, is_folder, as_program)
    options.check(given, _with_flags(config, given))
    return given


def read_config(given: options.Given | None = None) -> ml_collections.ConfigDict:
    """The config of the command line, with the flags that stand for a field and the exams' whole path in it."""
    config = _with_flags(_CONFIG.value, given or read_command(_MODE.value))
    if config.data.root:  # however it was spelt, a run remembers one name
        config.data.root = str(expanded(config.data.root, "--config.data.root").resolve())
    config.data.accept = check_names(",".join(config.data.accept))
    return config


def _with_flags(config: ml_collections.ConfigDict, given: options.Given) -> ml_collections.ConfigDict:
    """A copy of the config with --tr, --te, --accept, --method, --scale, --leakage and --motion in it."""
    config = ml_collections.ConfigDict(config.to_dict())
    for flag in sorted(given.flags):
        path = options.field_of(flag, given.mode)
        if path and flag != "aif":  # which may be a file of this exam: nothing that a config keeps
            section, name = path.split(".")
            config[section][name] = tuple(_ACCEPT.value) if flag == "accept" else flags.FLAGS[flag].value
    if given.input_is_folder:
        if config.data.root:
            raise InputError("--input and --config.data.root say the same; give one of them.")
        config.data.root = str(_path(_INPUT))
    return config


def _input_is_folder(mode: str) -> bool:
    """Whether --input names a folder of exams."""
    if mode not in ("predict", "deconvolve") or not _INPUT.value or not _path(_INPUT).is_dir():
        return False
    from dscgan_jax.data import inputs  # files need none of what it imports

    return inputs.kind_of(_path(_INPUT)) == "exams"


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


def _path(flag: flags.FlagHolder) -> pathlib.Path:
    """The path in a flag that is given."""
    return expanded(flag.value, f"--{flag.name}")


def workdir() -> pathlib.Path:
    """Where the run lives."""
    return _path(_WORKDIR) if _WORKDIR.value else default_workdir()


def model() -> pathlib.Path | str:
    """The network to predict with: the name of a shipped one, or a path.

    A run that --workdir or a given --config names comes before the shipped network.
    """
    if _MODEL.value and _WORKDIR.value:
        raise InputError("--model and --workdir say the same; give one of them.")
    if _MODEL.value:
        return _MODEL.value if _MODEL.value in shipped.NAMES else _path(_MODEL)
    return workdir() if _WORKDIR.value or flags.FLAGS["config"].present else shipped.PHYSICS


def default_workdir() -> pathlib.Path:
    """runs/<config>[-<variant>], from the command line's --config."""
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return pathlib.Path("runs") / (pathlib.Path(path).stem + (f"-{variant}" if variant else ""))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; whatever is wrong with it is one line too."""
    if (text := command.help_of(argv, {name: flags.FLAGS[name] for name in options.FLAGS})) is not None:
        try:
            print(text, flush=True)
        except BrokenPipeError:  # `--help | head` reads no further, and Python flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    try:
        argv = command.with_flags_for_words(argv, _takes_value)
        for i, argument in enumerate(argv[:-1]):
            if argument in ("--config", "-config"):
                argv = [*argv[:i], f"--config={argv[i + 1]}", *argv[i + 2 :]]
        is_given = any(argument.startswith(("--config=", "-config=")) for argument in argv)
        if not is_given:
            argv = [argv[0], "--config=configs/temp_tmax.py", *argv[1:]]
        # The file comes first, whatever the order: ml_collections wants it before any override of its fields.
        argv = [argv[0], *sorted(argv[1:], key=lambda one: not one.startswith(("--config=", "-config=")))]
        sys.argv = [argv[0], *map(command.resolve_config, argv[1:])]  # ml_collections looks for overrides there
        settings.check_former_names(re.findall(r"--?config\.([\w.]+)", " ".join(sys.argv[1:])))
        words = flags.FLAGS(sys.argv)
        if not is_given:
            flags.FLAGS["config"].present = 0
        return words
    except (InputError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        sys.exit(one_line(InputError(_of_parsing(error))))


def _takes_value(name: str) -> bool:
    """Whether the value of a flag may be the next argument: of all but switches. What is unknown absl names."""
    switch = name if name in flags.FLAGS else name.removeprefix("no")
    return not (switch in flags.FLAGS and flags.FLAGS[switch].flag_type() == "bool")


def _of_parsing(error: Exception) -> str:
    """What a user reads of an error that absl or ml_collections raised."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if typo := re.search(r'Did you mean "(\w+)" instead of "(\w+)"', message):
        return f"the config has no field {typo[2]}; did you mean {typo[1]}? configs/default.py lists all fields."
    if name := re.fullmatch(r"""["']*(\w+)["']*""", message):  # a KeyError: not like any field
        return f"the config has no field {name[1]}; configs/default.py lists all fields."
    if number := re.search(r"(could not convert string to float|invalid literal for int\(\).*?): '([^']*)'", message):
        where = re.search(r"--[\w.]+", message)
        return f"{where[0] + ' is' if where else 'got'} {number[2]!r}; expected a number (with a decimal point)."
    if "Traceback" in message:  # ml_collections quotes the traceback of a config file that raised
        return message.strip().splitlines()[-1].partition(": ")[2]
    return message


def _required(flag: flags.FlagHolder) -> pathlib.Path:
    """The path in a flag that the mode cannot do without."""
    if not flag.value:
        raise InputError(f"--mode={_MODE.value} needs --{flag.name}=PATH; see --help.")
    return _path(flag)


def _optional(flag: flags.FlagHolder) -> pathlib.Path | None:
    """The path in a flag, if it is given."""
    return _path(flag) if flag.value else None


def asked() -> "Asked":
    """What is asked for beside the maps of one exam."""
    from dscgan_jax.methods.asked import Asked

    return Asked(_optional(_CORE), _optional(_SPACE), _DESC.value, _DICOM.value, _BESIDE.value or "")


def entry() -> None:
    """Runs from the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):  # names of folders may be no UTF-8, and terminals may know less
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Imports and compilation make many objects that stay: a second of looking for garbage among them, at the end too.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    logging.set_verbosity(logging.FATAL)  # libraries log the tracebacks of errors that we tell in one line
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()
