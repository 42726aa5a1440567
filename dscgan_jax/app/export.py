"""--mode=export: a trained network as one file that others can use, with its model card."""

import pathlib
from typing import Any

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import records
from dscgan_jax.files import write_whole
from dscgan_jax.pages import card
from dscgan_jax.shipped import SUFFIX
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
        raise InputError(f"--output={output}: expected a file called NAME{SUFFIX}.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output={output}: there is no folder {output.parent}.")
    text = output.with_suffix(".md")
    if text.exists() and not text.read_text(encoding="utf-8", errors="replace").startswith(f"# {output.stem}: "):
        raise InputError(f"--output={output}: its model card would replace {text}, which is none; choose another name.")


def _summaries(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """{what was scored: its summary} of a run."""
    return {path.parent.name: records.read_summary(path) for path in sorted(workdir.glob("evaluation/*/summary.json"))}


def _is_of(summary: dict[str, Any], exported: weights.Weights) -> bool:
    """Whether the scores are those of these weights, not of another checkpoint of the run."""
    return (summary["checkpoint"] or {}).get("sha256") == exported.sha256
