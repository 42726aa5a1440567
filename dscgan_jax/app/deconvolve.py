"""--mode=deconvolve: conventional maps of one file, or of a folder of exams."""

import dataclasses
import pathlib

import ml_collections

from dscgan_jax.app import cohort, options
from dscgan_jax.app.output import print_findings, print_read_outs
from dscgan_jax.data import exams, inputs
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.methods import folder
from dscgan_jax.methods.asked import NOTHING_ASKED, Asked
from dscgan_jax.methods.conventional import settings_of


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
        settings = settings_of(config)
        overrules = exams.Overrules.from_config(config.data)
        read: list[ReadOut] = []
        asked = dataclasses.replace(asked, on_read_out=read.append)
        with inputs.lone_exam(series, overrules, mask, number) as files:
            paths, findings = folder.deconvolve_file(files, output, settings, aif=aif, asked=asked)
        print(*paths, sep="\n")
        print_read_outs(read)
        print_findings(findings, options.ONE_FILE)
    else:
        cohort.run(config, work_of(config, aif, asked.desc), output, workers, options.FOLDER)


def work_of(config: ml_collections.ConfigDict, aif: str, desc: str = "") -> folder.DeconvolveWork:
    """How the maps of a cohort are made."""
    return folder.DeconvolveWork(settings_of(config), aif, desc)
