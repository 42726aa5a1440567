"""--mode=predict: one 4-D file to maps."""

import pathlib
from collections.abc import Collection

import ml_collections

from dscgan_jax.app import options
from dscgan_jax.app.output import print_findings
from dscgan_jax.data import exams
from dscgan_jax.methods.network import Predictor, predict_file


def run(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    series: pathlib.Path,
    output: pathlib.Path,
    which: str,
    mask: pathlib.Path | None = None,
    given: Collection[str] = (),
) -> None:
    """How, the network says, but for the norm at test and realignment where they are `given`."""
    norm = config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None
    motion = config.data.motion if "data.motion" in given else None
    predictor = Predictor.load(model, which, norm=norm, motion=motion)
    predictor.compile_ahead()
    exam = exams.load_exam(exams.lone_series(series, exams.Overrules.from_config(config.data), mask))
    paths, findings = predict_file(predictor, exam, output)
    print(*paths, sep="\n")
    print(f"network: {predictor.weights.in_words}")
    print_findings(findings, options.PREDICT)
