"""The command line before it is parsed: words instead of flags, shipped configs, help by mode."""

import pathlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from dscgan_jax.app import options
from dscgan_jax.errors import InputError

MODES = {
    "train": "prepare, train and evaluate; on phantom exams where config.data.root is empty (default)",
    "prepare": "bring a folder of exams onto the network grid, and nothing else",
    "check": "list which exams of a folder are usable, which are not, and why; in PAGE/ as a page, too",
    "evaluate": "score the maps of a trained network, or with --maps anybody's, against reference maps",
    "predict": "maps, by a network, of a 4-D file, one exam's DICOM files or a folder of exams",
    "export": "a trained network as one file that others can use: weights and a model card, or a program",
    "deconvolve": "conventional maps, without a network, of a 4-D file, one exam's DICOM files or a folder of exams",
    "phantom": "simulate exams with known truth",
    "benchmark": "measure how fast a config is on this machine",
}
# What the words after a mode stand for, as flags, and how help calls them.
WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (),
    "prepare": (("config.data.root", "[FOLDER]"),),
    "check": (("config.data.root", "FOLDER"), ("output", "[PAGE/]")),
    "evaluate": (("workdir", "[RUN]"),),
    "predict": (("input", "EXAM.nii.gz"), ("output", "MAPS/")),
    "export": (("workdir", "RUN"), ("output", "FILE.safetensors")),
    "deconvolve": (("input", "EXAM.nii.gz"), ("output", "MAPS/")),
    "phantom": (("output", "FOLDER"),),
    "benchmark": (("output", "[RECORD.json]"),),
}
WIDTH = 100  # of help texts
HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


def with_flags_for_words(argv: Sequence[str], takes_value: Callable[[str], bool]) -> list[str]:
    """The command line with `predict exam.nii.gz maps/` as `--mode=predict --input=exam.nii.gz --output=maps/`.

    Args:
      argv: program and arguments.
      takes_value: whether a flag, by name, may have its value as the next argument.

    Raises:
      InputError: the first word is no mode, there are too many words, or one says what a flag says.
    """
    given, words = [], []
    arguments = iter(argv[1:])
    for argument in arguments:
        if not argument.startswith("-"):
            words.append(argument)
            continue
        given.append(argument)
        if "=" not in argument and takes_value(argument.lstrip("-")):
            given += [value for value in [next(arguments, None)] if value is not None]
    if not words:
        return [argv[0], *given]
    mode, *rest = words
    if mode not in MODES:
        raise InputError(f"unexpected argument {mode!r}; the first word is one of {', '.join(MODES)}, see --help.")
    slots = [flag for flag, _ in WORDS[mode]]
    if len(rest) > len(slots):
        raise InputError(f"unexpected argument {rest[len(slots)]!r}; expected {usage(mode)}.")
    for flag in ("mode", *slots[: len(rest)]):
        if any(argument.lstrip("-").partition("=")[0] == flag for argument in given):
            raise InputError(f"--{flag} and a word without -- say the same; give one of them ({usage(mode)}).")
    translated = [f"--{flag}={word}" for flag, word in zip(("mode", *slots), words, strict=False)]
    return [argv[0], *translated, *given]


def usage(mode: str) -> str:
    """The shortest command of a mode."""
    return " ".join(["dscgan-jax", mode, *(shown for _, shown in WORDS[mode])])


def help_of(argv: Sequence[str], known: Mapping[str, flags.Flag]) -> str | None:
    """The help text that the arguments ask for; None if they do not.

    Args:
      argv: program and arguments.
      known: flags by name.
    """
    if not any(argument in HELP for argument in argv):
        return None
    words = [argument.removeprefix("--mode=") for argument in argv[1:]]
    modes = [word for word in words if word in MODES]
    return _help_of_mode(modes[0], known) if modes else _help_of_all(known)


def _help_of_all(known: Mapping[str, flags.Flag]) -> str:
    modes = [_two_columns(usage(mode), what) for mode, what in MODES.items()]
    listed = [_two_columns(_signature(name, known[name]), _text(name, known[name])) for name in options.FLAGS]
    return "\n".join(
        [
            "Perfusion maps from DSC-MRI. Research use only.",
            "",
            *modes,
            "",
            "dscgan-jax MODE --help lists the flags of one mode; python -m dscgan_jax.main --mode=MODE works as well.",
            "A flag or config field that the mode does not read is an error.",
            "",
            *listed,
        ]
    )


def _help_of_mode(mode: str, known: Mapping[str, flags.Flag]) -> str:
    names = [name for name in options.FLAGS if name != "mode" and mode in options.modes_of(name).split(", ")]
    listed = [_two_columns(_signature(name, known[name]), _meaning(known[name])) for name in names]
    return "\n".join([f"{usage(mode)}: {MODES[mode]}.", "", *listed])


def _signature(name: str, flag: flags.Flag) -> str:
    values = getattr(flag.parser, "enum_values", None)
    kind = {"int": "N", "float": "NUMBER", "bool": ""}.get(flag.flag_type(), "...")
    value = "|".join(values) if values else kind
    return f"--{name}={value}" if value else f"--{name}"


def _text(name: str, flag: flags.Flag) -> str:
    modes = options.modes_of(name)
    return _meaning(flag) if len(modes.split(", ")) == len(MODES) else f"[{modes}] {_meaning(flag)}"


def _meaning(flag: flags.Flag) -> str:
    """The help text without the list of values that absl puts before it."""
    return re.sub(r"^<[^>]*>: ", "", flag.help)


def _two_columns(left: str, right: str, indent: int = 10) -> str:
    """A term, and below it what it means."""
    body = textwrap.fill(" ".join(right.split()), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
    return f"  {left}\n{body}"


def resolve_config(argument: str) -> str:
    """`--config=configs/temp_tmax.py[:variant]` with the file found from any folder: the configs ship with the package.

    Raises:
      InputError: there is no such file here, nor among the shipped ones.
    """
    name, equals, value = argument.partition("=")
    if name not in ("--config", "-config") or not equals:
        return argument
    path, colon, variant = value.partition(":")
    if not pathlib.Path(path).is_file():
        from dscgan_jax import configs

        shipped = pathlib.Path(str(configs.__file__)).parent / pathlib.Path(path).name
        if not shipped.is_file() or str(pathlib.Path(path).parent) not in (".", "configs"):
            makers = (file for file in shipped.parent.glob("*.py") if "def get_config(" in file.read_text("utf-8"))
            known = ", ".join(sorted(file.name for file in makers))
            raise InputError(f"--config={path}: there is no such file; shipped configs are {known}.")
        path = str(shipped)
    return f"{name}={path}{colon}{variant}"
