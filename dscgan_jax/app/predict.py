"""--mode=predict: one exam, a 4-D file or a DICOM folder, to maps."""

import concurrent.futures
import pathlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import ml_collections

from dscgan_jax.app import options
from dscgan_jax.app.output import print_findings
from dscgan_jax.data import exams, inputs
from dscgan_jax.errors import InputError

if TYPE_CHECKING:
    from dscgan_jax.methods.network import Predictor


def run(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    series: pathlib.Path,
    output: pathlib.Path,
    which: str,
    mask: pathlib.Path | None = None,
    given: Collection[str] = (),
    number: int | None = None,
) -> None:
    """How, the network says, but for the norm at test and realignment where they are `given`.

    `number` is that of a DICOM series.
    """
    if inputs.kind_of(series) == "exams":
        raise InputError(f"--input={series}: expected a NIfTI file or a folder of DICOM files; give one exam of it.")
    norm = config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None
    motion = config.data.motion if "data.motion" in given else None
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        network = beside.submit(_network, model, which, norm, motion)
        with inputs.lone_exam(series, exams.Overrules.from_config(config.data), mask, number) as files:
            exam = exams.load_exam(files)
        predictor = network.result()
    from dscgan_jax.methods.network import predict_file

    paths, findings = predict_file(predictor, exam, output)
    print(*paths, sep="\n")
    print(f"network: {predictor.weights.in_words}")
    print_findings(findings, options.PREDICT)


def _network(model: pathlib.Path | str, which: str, norm: str | None, motion: str | None) -> "Predictor":
    """The network, ready to be applied; with its imports it takes as long as an exam does to be read."""
    from dscgan_jax.methods.network import Predictor

    predictor = Predictor.load(model, which, norm=norm, motion=motion)
    predictor.compile()
    return predictor
