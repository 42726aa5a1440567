"""--mode=predict: one exam, a 4-D file or a DICOM folder, or a folder of exams, to maps by a network."""

import dataclasses
import pathlib
from collections.abc import Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from dscgan_jax.app import options, start
from dscgan_jax.app.output import print_findings, print_read_outs
from dscgan_jax.data import exams, inputs, subject_files
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.findings import Finding
from dscgan_jax.methods.asked import NOTHING_ASKED, Asked
from dscgan_jax.threads import threads_beside

if TYPE_CHECKING:
    from dscgan_jax.methods.network import Predictor
    from dscgan_jax.methods.network_files import PredictWork

Found = tuple[Finding, ...]


def run(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    series: pathlib.Path,
    output: pathlib.Path,
    which: str,
    mask: pathlib.Path | None = None,
    given: Collection[str] = (),
    asked: Asked = NOTHING_ASKED,
    number: int | None = None,
) -> None:
    """How, the network says, but for the norm at test and realignment where they are `given`.

    `number` is that of a DICOM series.
    """
    norm, motion = _norm_and_motion(config, given)
    read: list[ReadOut] = []
    with threads_beside(1) as beside:
        network = beside.submit(_network, config, model, which, norm, motion)
        with inputs.lone_exam(series, subject_files.Overrules.from_config(config.data), mask, number) as files:
            motions: list[Future[Found]] = []
            exam = exams.load_exam(
                files, on_series=lambda series, affine: motions.append(beside.submit(_motion, network, series, affine))
            )
        predictor = network.result()
        from dscgan_jax.methods.network_files import predict_file

        asked = dataclasses.replace(asked, on_read_out=read.append, offered=options.offered_to(options.PREDICT))
        paths, findings = predict_file(predictor, exam, output, asked, motions[0].result)
    print(*paths, sep="\n")
    print_read_outs(read)
    print(f"network: {predictor.weights.in_words}")
    print_findings(findings, options.PREDICT)


def run_folder(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    output: pathlib.Path,
    which: str,
    workers: int | None,
    given: Collection[str] = (),
    desc: str = "",
) -> None:
    """The exams in config.data.root, in the same way."""
    from dscgan_jax.app import cohort

    start.set_up(config)
    cohort.run(config, work_of(config, model, which, given, desc), output, workers, options.PREDICT_FOLDER)


def work_of(
    config: ml_collections.ConfigDict,
    model: pathlib.Path | str,
    which: str,
    given: Collection[str] = (),
    desc: str = "",
) -> "PredictWork":
    """How the maps of a cohort are made."""
    from dscgan_jax.methods.network_files import PredictWork

    offered = options.offered_to(options.PREDICT_FOLDER)
    return PredictWork(model, which, *_norm_and_motion(config, given), desc, offered)


def _motion(network: "Future[Predictor]", series: np.ndarray, affine: np.ndarray) -> Found:
    """What is found of motion in a series that the network takes as it is, while the brain is looked for."""
    from dscgan_jax.perfusion import motion

    return motion.look_for_motion(series, affine) if network.result().looks_for_motion else ()


def _norm_and_motion(config: ml_collections.ConfigDict, given: Collection[str]) -> tuple[str | None, str | None]:
    """Where they are given; None is the network's own."""
    norm = config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None
    return norm, config.data.motion if "data.motion" in given else None


def _network(
    config: ml_collections.ConfigDict, model: pathlib.Path | str, which: str, norm: str | None, motion: str | None
) -> "Predictor":
    """The network, ready to be applied; with its imports it takes as long as an exam does to be read."""
    start.set_up(config)
    from dscgan_jax.methods.network import Predictor

    predictor = Predictor.load(model, which, norm=norm, motion=motion)
    predictor.compile()
    return predictor
