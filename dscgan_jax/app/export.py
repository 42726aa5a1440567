"""--mode=export: a trained network as one file that others can use: its weights with a model card, or as a program."""

import pathlib
from collections.abc import Collection
from typing import Any

import ml_collections

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import records
from dscgan_jax.files import write_whole
from dscgan_jax.pages import card
from dscgan_jax.shipped import PROGRAM_SUFFIX, SUFFIX
from dscgan_jax.training import weights


def run(workdir: pathlib.Path, output: pathlib.Path, which: str) -> None:
    """Writes FILE.safetensors and FILE.md; the network is called as the file is."""
    check_output(output)
    weights.write(weights.of_run(workdir, which, output.stem), output)
    exported = weights.read(output)  # as others will
    scores = {name: summary for name, summary in _summaries(workdir).items() if _is_of(summary, exported)}
    path = output.with_suffix(".md")
    write_whole(path, card.text(exported, scores, output.stat().st_size))
    print(f"{output}\n{path}\nnetwork: {exported.in_words}")
    if not scores:
        print(f"no scores: {workdir} holds no evaluation of this checkpoint; dscgan-jax evaluate {workdir} makes one.")


def check_output(output: pathlib.Path) -> None:
    """Refuses, before anything long starts, what cannot become a file of weights.

    Raises:
      InputError: it has another ending, its folder is not there, or its model card would replace something else.
    """
    if output.suffix != SUFFIX or output.is_dir():
        other = "; a program needs --format=stablehlo" if output.suffix == PROGRAM_SUFFIX else ""
        raise InputError(f"--output={output}: expected a file called NAME{SUFFIX}{other}.")
    _check_folder(output)
    text = output.with_suffix(".md")
    if text.exists() and not text.read_text(encoding="utf-8", errors="replace").startswith(f"# {output.stem}: "):
        raise InputError(f"--output={output}: its model card would replace {text}, which is none; choose another name.")


def run_program(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    output: pathlib.Path,
    which: str,
    given: Collection[str],
) -> None:
    """Writes FILE.stablehlo, of a run, a file of weights or a shipped network. Its norm, unless `given`, is its own.

    Raises:
      InputError: the output is none, is there already, or the network cannot become a program.
    """
    if output.suffix != PROGRAM_SUFFIX:
        raise InputError(
            f"--output={output}: expected a file called NAME{PROGRAM_SUFFIX}, as --format=stablehlo writes."
        )
    if output.exists():
        raise InputError(f"--output={output} is there already; remove it, or choose another name.")
    _check_folder(output)
    from dscgan_jax.methods.network import Predictor  # imports what prediction needs: after bad input was told
    from dscgan_jax.training import program

    is_run = isinstance(model, pathlib.Path) and model.is_dir()
    network = weights.of_run(model, which, output.stem) if is_run else weights.load(model, which)
    norm = config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None
    beside = program.write(network, Predictor(network, norm=norm).norm, output)
    print(f"{output}\nnetwork: {network.in_words}\nbeside its weights: {beside / 1000:.0f} kB. Research use only.")


def _check_folder(output: pathlib.Path) -> None:
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output={output}: there is no folder {output.parent}.")


def _summaries(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """{what was scored: its summary} of a run."""
    return {path.parent.name: records.read_summary(path) for path in sorted(workdir.glob("evaluation/*/summary.json"))}


def _is_of(summary: dict[str, Any], exported: weights.Weights) -> bool:
    """Whether the scores are those of these weights, not of another checkpoint of the run."""
    return (summary["checkpoint"] or {}).get("sha256") == exported.sha256
