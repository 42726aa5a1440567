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
    workdir: pathlib.Path,
    series: pathlib.Path,
    output: pathlib.Path,
    which: str,
    given: Collection[str] = (),
) -> None:
    """How, the checkpoint says, but for the norm at test and realignment where they are `given`."""
    exam = exams.load_exam(exams.lone_series(series, exams.Overrules.from_config(config.data)))
    norm = config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None
    motion = config.data.motion if "data.motion" in given else None
    paths, findings = predict_file(Predictor.from_run(workdir, which, norm=norm, motion=motion), exam, output)
    print(*paths, sep="\n")
    print_findings(findings, options.PREDICT)
