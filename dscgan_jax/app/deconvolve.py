"""--mode=deconvolve: conventional maps of one file, or of a folder of exams."""

import pathlib

import ml_collections

from dscgan_jax.app import cohort, options
from dscgan_jax.app.output import print_findings
from dscgan_jax.data import exams
from dscgan_jax.errors import InputError
from dscgan_jax.methods import folder
from dscgan_jax.methods.conventional import settings_of


def run(
    config: ml_collections.ConfigDict,
    series: pathlib.Path | None,
    output: pathlib.Path,
    aif: str,
    mask: pathlib.Path | None,
    workers: int | None = None,
) -> None:
    """Conventional maps of one file, or of the folder in config.data.root."""
    if bool(series) == bool(config.data.root):
        raise InputError("--mode=deconvolve needs either --input=FILE or --config.data.root=DIR.")
    if series:
        settings = settings_of(config)
        overrules = exams.Overrules.from_config(config.data)
        paths, findings = folder.deconvolve_file(series, output, settings, aif=aif, mask=mask, overrules=overrules)
        print(*paths, sep="\n")
        print_findings(findings, options.ONE_FILE)
    else:
        cohort.run(config, work_of(config, aif), output, workers, options.FOLDER)


def work_of(config: ml_collections.ConfigDict, aif: str) -> folder.DeconvolveWork:
    """How the maps of a cohort are made."""
    return folder.DeconvolveWork(settings_of(config), aif)
