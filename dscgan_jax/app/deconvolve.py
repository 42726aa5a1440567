"""--mode=deconvolve: conventional maps of one file, or of a folder of exams."""

import dataclasses
import pathlib

import ml_collections

from dscgan_jax.app import options, places
from dscgan_jax.app.output import print_findings, print_folder_findings, print_read_outs, progress_bar
from dscgan_jax.data import exams
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
) -> None:
    """Conventional maps of one file, or of the folder in config.data.root."""
    if bool(series) == bool(config.data.root):
        raise InputError("--mode=deconvolve needs either --input=FILE or --config.data.root=DIR.")
    if series:
        overrules = exams.Overrules.from_config(config.data)
        settings = settings_of(config)
        read: list[ReadOut] = []
        asked = dataclasses.replace(asked, on_read_out=read.append)
        paths, findings = folder.deconvolve_file(
            series, output, settings, aif=aif, mask=mask, overrules=overrules, asked=asked
        )
        print(*paths, sep="\n")
        print_read_outs(read)
        print_findings(findings, options.ONE_FILE)
    elif mask:
        raise InputError("--mask is one exam's; for a folder put <subject>_mask.nii.gz beside each series.")
    else:
        _run_folder(config, output, aif, asked.desc)


def _run_folder(config: ml_collections.ConfigDict, output: pathlib.Path, aif: str, desc: str) -> None:
    settings, config = settings_of(config), places.with_root(config)
    subjects, root = places.find_subjects(config), places.exams_root(config)
    folder.check_folder(subjects, output, aif)
    with progress_bar(len(subjects), "deconvolving") as bar:
        refused, findings = folder.deconvolve_folder(settings, subjects, output, aif, bar.update, desc=desc, root=root)
    print_folder_findings(findings, options.FOLDER)
    for subject, reason in refused.items():
        print(f"left out: {subject}: {reason}")
    print(
        f"{len(subjects) - len(refused)} of {len(subjects)} exams: {output}\n"
        f"to train on these maps: dscgan-jax train --config.data.root={output}"
    )
