"""Networks that come with the package: their names and where their files are. Light to import."""

import pathlib

from dscgan_jax.errors import InputError

PHYSICS = "physics"  # trained on simulated exams alone
FOLDER = pathlib.Path(__file__).resolve().parent / "weights"
SUFFIX = ".safetensors"
PROGRAM_SUFFIX = ".stablehlo"
NAMES = (PHYSICS,)


def weights_file(name: str) -> pathlib.Path:
    """The file of a shipped network.

    Raises:
      InputError: there is no network of that name, or this copy of the package came without its file.
    """
    if name not in NAMES:
        raise InputError(f"there is no shipped network called {name!r}; expected one of {', '.join(NAMES)}.")
    path = FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        raise InputError(
            f"this version of dscgan_jax comes without weights of the network {name} ({path.parent.name}/{path.name} "
            "is missing); give another one with --model=FILE_OR_WORKDIR, or take dscgan-jax deconvolve."
        )
    return path
