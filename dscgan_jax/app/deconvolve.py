"""--mode=deconvolve: conventional maps of one file, or of a folder of exams."""

import pathlib

import ml_collections

from dscgan_jax.app import options, places
from dscgan_jax.app.output import print_findings, print_folder_findings, progress_bar
from dscgan_jax.data import exams, inputs
from dscgan_jax.errors import InputError
from dscgan_jax.methods import folder
from dscgan_jax.methods.conventional import settings_of


def run(
    config: ml_collections.ConfigDict,
    series: pathlib.Path | None,
    output: pathlib.Path,
    aif: str,
    mask: pathlib.Path | None,
    number: int | None = None,
) -> None:
    """Conventional maps of one exam, a file or DICOM series `number`, or of a folder of exams."""
    if bool(series) == bool(config.data.root):
        raise InputError("--mode=deconvolve needs either --input=PATH or --config.data.root=DIR.")
    if series:
        overrules = exams.Overrules.from_config(config.data)
        settings = settings_of(config)
        with inputs.lone_exam(series, overrules, mask, number) as files:
            paths, findings = folder.deconvolve_file(files, output, settings, aif=aif)
        print(*paths, sep="\n")
        print_findings(findings, options.ONE_FILE)
    elif mask:
        raise InputError("--mask is one exam's; for a folder put <subject>_mask.nii.gz beside each series.")
    else:
        _run_folder(config, output, aif)


def _run_folder(config: ml_collections.ConfigDict, output: pathlib.Path, aif: str) -> None:
    settings = settings_of(config)
    subjects = places.find_subjects(places.with_root(config))
    folder.check_folder(subjects, output, aif)
    with progress_bar(len(subjects), "deconvolving") as bar:
        refused, findings = folder.deconvolve_folder(settings, subjects, output, aif, bar.update)
    print_folder_findings(findings, options.FOLDER)
    for subject, reason in refused.items():
        print(f"left out: {subject}: {reason}")
    modality = " --config.data.modality=ct" if subjects[0].overrules.modality == exams.CT else ""
    print(
        f"{len(subjects) - len(refused)} of {len(subjects)} exams: {output}\n"
        f"to train on these maps: dscgan-jax train --config.data.root={output}{modality}"
    )
