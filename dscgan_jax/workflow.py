"""The chains behind the modes: prepare -> train -> predict -> evaluate -> report. Prints what a user wants to know."""

import pathlib
import shutil
import time
from typing import Any

import jax
import ml_collections
import tqdm

from dscgan_jax import checkpoints, evaluate, report, settings, train
from dscgan_jax import predict as prediction
from dscgan_jax.data import builder as data_builder
from dscgan_jax.data import layouts, phantom_exams, preparation
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.scaling import Scaling

NORMS = {"network_batch": "batch", "network_running": "running"}  # source -> how its batch norm normalises
LONG_RUN_HOURS = 1.0


def set_up(config: ml_collections.ConfigDict) -> None:
    """Process set-up: compiled programs are kept, so that the second start is quick."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir(config) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cache_dir(config: ml_collections.ConfigDict) -> pathlib.Path:
    """Where runs share drawn exams, prepared data and compiled programs."""
    return pathlib.Path(config.data.cache_dir).expanduser()


def with_root(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config with a folder of exams: the user's, or phantom exams drawn into the cache."""
    config = ml_collections.ConfigDict(config.to_dict())
    if not config.data.root:
        bars: list[tqdm.tqdm] = []

        def progress(n: int) -> None:  # the bar appears with the first exam: usually they are drawn already
            if not bars:
                bars.append(tqdm.tqdm(total=config.phantom.subjects, unit="exam", desc="drawing", dynamic_ncols=True))
            bars[0].update(n)

        config.data.root = str(phantom_exams.phantom_folder(config, cache_dir(config), progress))
        for bar in bars:
            bar.close()
        config.data.layout = "bids"
    elif not pathlib.Path(config.data.root).expanduser().is_dir():
        raise InputError(f"config.data.root={config.data.root}: there is no such folder.")
    return config


def prepare(config: ml_collections.ConfigDict) -> tuple[Any, dict[str, Any]]:
    """The prepared data set and what a checkpoint says of it."""
    settings.check(config)
    source = "phantom exams" if not config.data.root else str(pathlib.Path(config.data.root).expanduser().absolute())
    config = with_root(config)
    print(f"exams: {config.data.root}")
    builder = data_builder.prepared(config)
    metadata = builder.info.metadata
    counts = {f"n_{split}": sum(where == split for where in metadata["splits"].values())
              for split in ("train", "validation", "test")}
    print(f"prepared: {builder.data_dir} ("
          + ", ".join(f"{counts[f'n_{split}']} {split} subjects, {builder.info.splits[split].num_examples} slices"
                      for split in ("train", "validation", "test")) + ")")
    for row in metadata["excluded"]:
        print(f"  left out: {row['subject']}: {row['reason']}")
    return builder, {"source": source, "fingerprint": metadata["source_fingerprint"], **counts,
                     "splits": metadata["splits"], "ranges": metadata["ranges"], "medians": metadata["medians"],
                     "excluded": metadata["excluded"]}


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """The whole path, from exams to a page."""
    settings.check(config)
    if (workdir / "config.json").is_file():
        train.open_workdir(workdir, config)  # another config is refused before anything long starts
    begun = time.perf_counter()
    builder, data_record = prepare(config)
    n_slices = builder.info.splits["train"].num_examples
    total = settings.total_steps(config, n_slices)
    print(f"training: {' '.join(MAPS[name].title for name in config.target)} with the {config.model.generator} "
          f"generator, {total} steps of {config.train.batch_size} slices on "
          f"{jax.device_count()} x {jax.devices()[0].device_kind}")
    if jax.default_backend() == "cpu" and (hours := train.rough_hours(config, n_slices)) > LONG_RUN_HOURS:
        print(f"this will take roughly {hours:,.0f} hours on this CPU; a GPU, or the variant :demo "
              "(--config=configs/temp_tmax.py:demo), is made for machines like this one. Going on.")
    train.train(config, workdir, builder, data_record)
    evaluate_run(config, workdir, "test", "best")
    print(f"total: {(time.perf_counter() - begun) / 60:.1f} min")


def evaluate_run(config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, which: str) -> None:
    """Predicts and scores a split from a checkpoint; the config is the checkpoint's, only data paths may be given."""
    predictor = prediction.Predictor(workdir, which)
    trained = ml_collections.ConfigDict(predictor.config.to_dict())
    foreign = bool(config.data.root) and config.data.root != trained.data.root
    trained.data.cache_dir = config.data.cache_dir
    for field in ("root", "layout") if foreign else ():
        trained.data[field] = config.data[field]
    trained.data.tr_seconds = config.data.tr_seconds or trained.data.tr_seconds
    trained.data.te_seconds = config.data.te_seconds or trained.data.te_seconds
    trained = with_root(trained)
    subjects = subjects_of(trained, split, None if foreign else predictor.record["data"]["splits"])

    folder = workdir / "maps" / split
    shutil.rmtree(folder, ignore_errors=True)
    for files in tqdm.tqdm(subjects, unit="exam", desc="predicting", dynamic_ncols=True):
        exam = layouts.load_exam(files, tr_seconds=trained.data.tr_seconds, te_seconds=trained.data.te_seconds)
        for source, norm in NORMS.items() if trained.model.norm == "batch" else [("network_batch", "batch")]:
            predicted = predictor.predict(exam, norm)
            prediction.write_maps(predicted, predictor, exam, folder / source, files.subject, scaled=True)
    sources = [evaluate.Source(path.name, path) for path in sorted(folder.iterdir())]
    data = predictor.record["data"]
    score_and_report(
        trained, subjects, sources, split=split, workdir=workdir, scaling=predictor.scaling, medians=data["medians"],
        checkpoint={"step": predictor.step, "selected_by": predictor.selected_by, "sha256": predictor.sha256},
        data={key: data[key] for key in ("source", "fingerprint", "n_train", "n_validation", "n_test")},
        excluded=data["excluded"])


def evaluate_maps(config: ml_collections.ConfigDict, maps: pathlib.Path, workdir: pathlib.Path | None, split: str) -> None:
    """Scores anybody's maps of the exams in config.data.root, with the same code and the same nulls."""
    if not maps.is_dir():
        raise InputError(f"--maps={maps}: there is no such folder; it should hold <subject>_<map>.nii.gz files.")
    if not config.data.root:
        raise InputError("--maps needs the exams that the maps belong to: give --config.data.root=DIR.")
    builder, data_record = prepare(config)
    trained = with_root(config)
    ranges = data_record["ranges"][config.data.ranges]
    scaling = Scaling.from_ranges(data_record["ranges"], config.data.signal,
                                  tuple(name for name in MAP_NAMES if ranges.get(name)), config.data.ranges)
    subjects = subjects_of(trained, split, data_record["splits"])
    score_and_report(
        trained, subjects, [evaluate.Source(maps.resolve().name, maps)], split=split,
        workdir=workdir or pathlib.Path("runs") / f"maps-{maps.resolve().name}", scaling=scaling,
        medians=data_record["medians"], checkpoint=None,
        data={key: data_record[key] for key in ("source", "fingerprint", "n_train", "n_validation", "n_test")},
        excluded=data_record["excluded"])


def subjects_of(config: ml_collections.ConfigDict, split: str, splits: dict[str, str] | None
                ) -> list[layouts.SubjectFiles]:
    """Subjects of a split; of a folder that the run has not seen, its own split column, else everybody.

    Raises:
      InputError: the split is empty, or subjects of the run are no longer there.
    """
    root = pathlib.Path(config.data.root).expanduser()
    subjects = layouts.find_subjects(root, config.data.layout)
    if splits is None:
        named = [files for files in subjects if files.split == split]
        subjects = named if any(files.split for files in subjects) else subjects
    else:
        expected = {subject for subject, where in splits.items() if where == split}
        subjects = [files for files in subjects if files.subject in expected]
        if missing := sorted(expected - {files.subject for files in subjects}):
            raise InputError(f"{root} lacks {len(missing)} subjects of the {split} split, first {missing[0]}; give the "
                             "folder that the run was trained on as --config.data.root.")
    if not subjects:
        raise InputError(f"{root} has no subject in the {split} split.")
    return subjects


def score_and_report(config: ml_collections.ConfigDict, subjects: list[layouts.SubjectFiles], sources: list[Any], *,
                     split: str, workdir: pathlib.Path, scaling: Scaling, medians: dict[str, float],
                     checkpoint: dict[str, Any] | None, data: dict[str, Any], excluded: list[dict[str, str]]) -> None:
    """Scores sources and nulls, writes records, pictures and the page, prints the table and where things are."""
    out = workdir / "evaluation" / split
    summary = evaluate.score(
        subjects, [*sources, *evaluate.NULLS], split=split,
        preparation=preparation.PreparationSettings.from_config(config.data), scaling=scaling, medians=medians,
        checkpoint=checkpoint, data=data, out=out, tr_seconds=config.data.tr_seconds,
        te_seconds=config.data.te_seconds, excluded=excluded, config_sha256=settings.sha256(config),
        software=checkpoints.software_versions())
    page = report.write(workdir, split)
    print(f"\n{split} split, {len(subjects)} subjects\n{report.format_table(summary)}\n")
    print(f"page:        {page}\nrecords:     {out}")
    if checkpoint:
        print(f"maps:        {workdir / 'maps' / split}\ncheckpoints: {workdir / 'checkpoints'}")


def check(config: ml_collections.ConfigDict) -> None:
    """Prints what of a folder is usable."""
    if not config.data.root:
        raise InputError("--mode=check looks at a folder of exams: give --config.data.root=DIR.")
    rows = layouts.check(pathlib.Path(config.data.root).expanduser(), config.data.layout,
                         tr_seconds=config.data.tr_seconds, te_seconds=config.data.te_seconds)
    print(layouts.format_check(rows))


def predict(workdir: pathlib.Path, series: pathlib.Path, output: pathlib.Path, which: str, tr_seconds: float,
            te_seconds: float) -> None:
    """One file to maps."""
    paths = prediction.predict_file(workdir, series, output, which=which, tr_seconds=tr_seconds, te_seconds=te_seconds)
    print(*paths, sep="\n")


def draw_phantom(output: pathlib.Path, *, preset: str, subjects: int, size: int, slices: int, seed: int,
                 split_fractions: tuple[float, float, float]) -> None:
    """Digital exams with known truth."""
    with tqdm.tqdm(total=subjects, unit="exam", desc="drawing", dynamic_ncols=True) as bar:
        phantom_exams.write_cohort(output, preset=preset, subjects=subjects, seed=seed, size=size, slices=slices or None,
                                   split_fractions=split_fractions, progress=bar.update)
    print(output)
