"""--mode=deconvolve: conventional maps of one file, or of a folder of exams."""

import dataclasses
import pathlib
from concurrent.futures import Future
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from dscgan_jax.app import options, start
from dscgan_jax.app.output import print_findings, print_read_outs
from dscgan_jax.data import exams, inputs, subject_files
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.methods.asked import NOTHING_ASKED, Asked, refuse_overwriting
from dscgan_jax.threads import threads_beside

if TYPE_CHECKING:
    from dscgan_jax.methods.conventional_files import DeconvolveWork


def run(
    config: ml_collections.ConfigDict,
    series: pathlib.Path | None,
    output: pathlib.Path,
    aif: str,
    mask: pathlib.Path | None,
    asked: Asked = NOTHING_ASKED,
    workers: int | None = None,
    number: int | None = None,
) -> None:
    """Conventional maps of one exam, a file or DICOM series `number`, or of a folder of exams."""
    if bool(series) == bool(config.data.root):
        raise InputError("--mode=deconvolve needs either --input=PATH or --config.data.root=DIR.")
    if series:
        overrules = subject_files.Overrules.from_config(config.data)
        read: list[ReadOut] = []
        asked = dataclasses.replace(asked, on_read_out=read.append, offered=options.offered_to(options.ONE_FILE))
        with inputs.lone_exam(series, overrules, mask, number) as files, threads_beside(3) as beside:
            found: Future[tuple[np.ndarray, np.ndarray]] = Future()
            exam = beside.submit(exams.load_exam, files, on_series=lambda *series: found.set_result(series))
            start.set_up(config)
            from dscgan_jax.methods import conventional  # with JAX, these take as long as reading does
            from dscgan_jax.methods.conventional_files import OWN_FILES, deconvolve_file
            from dscgan_jax.perfusion import motion, parametric

            settings = conventional.settings_of(config)
            refuse_overwriting(output, asked.stem(files.subject), OWN_FILES)  # before anything is computed
            exam.add_done_callback(lambda done: done.exception() and found.cancel())
            realigned = None
            if settings.motion == "rigid":  # while the brain is found
                realigned = beside.submit(lambda: motion.realign_if_possible(*found.result())).result
            if settings.method == "parametric":
                beside.submit(lambda: parametric.compile_fit(found.result()[0].shape[-1], settings.fit))
            paths, findings = deconvolve_file(
                files, output, settings, aif=aif, asked=asked, read=exam.result, realigned=realigned
            )
        print(*paths, sep="\n")
        print_read_outs(read)
        print_findings(findings, options.ONE_FILE)
    else:
        from dscgan_jax.app import cohort

        start.set_up(config)
        cohort.run(config, work_of(config, aif, asked.desc), output, workers, options.FOLDER)


def work_of(config: ml_collections.ConfigDict, aif: str, desc: str = "") -> "DeconvolveWork":
    """How the maps of a cohort are made."""
    from dscgan_jax.methods import conventional
    from dscgan_jax.methods.conventional_files import DeconvolveWork

    return DeconvolveWork(conventional.settings_of(config), aif, desc, options.offered_to(options.FOLDER))
