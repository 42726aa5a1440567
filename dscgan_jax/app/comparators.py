"""Rows of a study that are no network of ours: conventional methods, and trees; scored as the networks are."""

import pathlib
import shutil

import ml_collections

from dscgan_jax.app import evaluate, options
from dscgan_jax.app.output import print_folder_findings
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import score
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods import trees
from dscgan_jax.methods.conventional import ConventionalSource, check_baselines, settings_of
from dscgan_jax.processes import usable_cores

WHICH = ("conventional", "trees")


def run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path | str,
    which: str,
    *,
    split: str = "test",
    voxels: int = trees.VOXELS,
    jobs: int | None = None,
) -> score.Scores:
    """Makes and scores the maps of one kind on a split, beside the nulls.

    Args:
      config: of exams, grid, signal and ranges, as of a network's run. `conventional` offers all maps by
        config.evaluate.baselines, with the AIF of config.conventional.aif; `trees` fits config.target to the training
        split, with config.seed.
      workdir: receives `evaluation/<split>`, `maps/<split>` and the page.
      which: `conventional` or `trees`.
      split: whom to score.
      voxels: to which the trees are fitted.
      jobs: threads of the trees; None: as many as this process has cores.

    Raises:
      InputError: no such kind, a setting that it cannot have, no scikit-learn for the trees, or exams that cannot be
        used.
    """
    if which not in WHICH:
        raise InputError(f"comparators: {which!r} is unknown; expected {' or '.join(WHICH)}.")
    workdir = pathlib.Path(workdir)
    folder = workdir / "maps" / split
    if which == "trees":
        trees.check_installed()
        cohort = evaluate.cohort_of(config, split)
        shutil.rmtree(folder, ignore_errors=True)
        return evaluate.of_sources(cohort, [trees_of(cohort, folder, voxels, jobs)], workdir, split)
    check_baselines(config)
    if not config.evaluate.baselines:
        raise InputError("config.evaluate.baselines is empty; name at least one method, for example ('parametric',).")
    cohort = evaluate.cohort_of(config, split)
    shutil.rmtree(folder, ignore_errors=True)
    aif = config.conventional.aif
    own_aif = {files.subject: files.aif for files in cohort.subjects}
    source = ConventionalSource(settings_of(config), tuple(config.evaluate.baselines), MAP_NAMES, folder, aif, own_aif)
    scores = evaluate.of_sources(cohort, [source], workdir, split, {"arterial_input": aif})
    for subject, reason in source.refused.items():
        print(f"no conventional maps of {subject}: {reason}")
    print_folder_findings(source.findings, options.EVALUATE, "conventional maps of ")
    return scores


def trees_of(
    cohort: evaluate.Cohort, folder: pathlib.Path, voxels: int = trees.VOXELS, jobs: int | None = None
) -> trees.TreesSource:
    """Trees that are fitted to the training split of a cohort, for the targets of its config.

    Args:
      cohort: from `evaluate.cohort_of`.
      folder: receives the maps.
      voxels: to which they are fitted.
      jobs: threads; None: as many as this process has cores.
    """
    config, data = cohort.config, cohort.data
    scaling = Scaling.from_ranges(data.ranges, config.data.signal, tuple(config.target), config.data.ranges)
    threads = config.data.read_threads
    sample = trees.sample_of(cohort.builder, scaling, voxels=voxels, seed=config.seed, read_threads=threads)
    print(f"trees: {len(sample.features)} voxels of {data.counts['n_train']} training subjects")
    jobs = jobs or usable_cores()
    return trees.TreesSource(sample, scaling, cohort.protocol.preparation, folder, seed=config.seed, jobs=jobs)
