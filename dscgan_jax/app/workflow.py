"""The chains behind the modes: prepare -> train -> predict -> evaluate -> report. Prints what a user wants to know."""

import contextlib
import os
import pathlib
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import tqdm

from dscgan_jax import settings
from dscgan_jax.app import options
from dscgan_jax.configs import default
from dscgan_jax.data import batches as pipeline
from dscgan_jax.data import dataset as data_builder
from dscgan_jax.data import layouts, preparation
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import records
from dscgan_jax.evaluation import score as evaluate
from dscgan_jax.files import expanded, name_unknown_owners, write_whole
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods import conventional
from dscgan_jax.methods import network as prediction
from dscgan_jax.pages import report
from dscgan_jax.phantom import cohort as phantom_exams
from dscgan_jax.speed import measure as benchmark
from dscgan_jax.speed import page as benchmark_page
from dscgan_jax.training import checkpoints, distributed, sharding
from dscgan_jax.training import loop as train

NORMS = {"network_batch": "batch", "network_running": "running"}  # source -> how its batch norm normalises
LONG_RUN_HOURS = 1.0
OF_NETWORK = ("air_reaches_network", "unlike_training")  # findings that only a trained network can have of an exam
# What the user says of the exams, whatever their files or a stored run say.
OF_THE_EXAMS = ("data.tr_seconds", "data.te_seconds", "data.accept")
# Fields of a config that say nothing of a network: a stored run may be evaluated with others.
BESIDE_THE_NETWORK = (
    "data.cache_dir",
    "evaluate.baselines",
    *(f"conventional.{name}" for name in default.get_config().conventional),
)
DATA_KEYS = ("source", "fingerprint", "n_train", "n_validation", "n_test")


def set_up(config: ml_collections.ConfigDict) -> None:
    """Process set-up: compiled programs are kept where there is a place for them, so that the second start is quick."""
    name_unknown_owners()
    with contextlib.suppress(InputError):  # whoever needs more of that folder refuses
        jax.config.update("jax_compilation_cache_dir", str(cache_dir(config) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    check_platform()


def check_platform() -> None:
    """Refuses a CPU where JAX_PLATFORMS asks for something else first: JAX would take it without a word.

    Raises:
      InputError: names the platform.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    backend = {"cuda": "gpu", "rocm": "gpu", "gpu": "gpu", "tpu": "tpu"}.get(wanted)
    if backend is None:
        return
    try:
        found = jax.default_backend()
    except Exception:  # without the driver JAX raises several kinds, an empty AssertionError among them
        found = "nothing"
    if found != backend:
        extra = "tpu" if wanted == "tpu" else "cuda"
        raise InputError(
            f"JAX_PLATFORMS asks for {wanted}, but JAX found {found}; look at the driver "
            f"(nvidia-smi) and at the installation (pip install 'dscgan_jax[{extra}]')."
        )


def cache_dir(config: ml_collections.ConfigDict) -> pathlib.Path:
    """Where runs share drawn exams, prepared data and compiled programs.

    Raises:
      InputError: it lies in a home folder that nobody knows.
    """
    return expanded(config.data.cache_dir, "--config.data.cache_dir")


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
    elif not exams_root(config).is_dir():
        raise InputError(f"config.data.root={config.data.root}: there is no such folder.")
    return config


def exams_root(config: ml_collections.ConfigDict) -> pathlib.Path:
    """The folder of exams."""
    return expanded(config.data.root, "--config.data.root")


def prepare(config: ml_collections.ConfigDict, for_training: bool = True) -> tuple[Any, dict[str, Any]]:
    """The prepared data set and what a checkpoint says of it.

    `for_training=False` asks for no training subject and no target: exams that are only scored need neither.
    """
    settings.check(config)
    cache_dir(config)  # is known, or nothing begins
    source = config.data.root or records.PHANTOM
    config = with_root(config)
    print(f"exams: {config.data.root}")
    builder = data_builder.prepared(config, for_training=for_training)
    metadata = builder.info.metadata
    counts = {f"n_{split}": sum(where == split for where in metadata["splits"].values()) for split in layouts.SPLITS}
    print(
        f"prepared: {builder.data_dir} ("
        + ", ".join(
            f"{counts[f'n_{split}']} {split} subjects, {builder.info.splits[split].num_examples} slices"
            for split in layouts.SPLITS
        )
        + ")"
    )
    for row in metadata["excluded"]:
        print(f"  left out: {row['subject']}: {row['reason']}")
    print_folder_findings(
        {subject: [Finding.from_json(finding) for finding in found] for subject, found in metadata["findings"].items()},
        options.PREPARE,
    )
    return builder, {
        "source": source,
        "fingerprint": metadata["source_fingerprint"],
        **counts,
        "series_bytes": series_bytes(find_subjects(config)),
        **{name: metadata[name] for name in ("splits", "ranges", "medians", "features", "excluded")},
    }


def find_subjects(config: ml_collections.ConfigDict) -> list[layouts.SubjectFiles]:
    """The subjects in `config.data.root`, those that participants.tsv excludes left out."""
    subjects = layouts.find_subjects(exams_root(config), config.data.layout, layouts.Overrules.from_config(config.data))
    return [files for files in subjects if files.split != "exclude"]


def series_bytes(subjects: list[layouts.SubjectFiles]) -> dict[str, int]:
    """Size of each subject's series file: enough to know a cohort again that was moved."""
    return {files.subject: files.series.stat().st_size for files in subjects}


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | str, wait_seconds: float = distributed.WAIT_SECONDS
) -> None:
    """The whole path, from exams to a page. Several processes train together.

    The lead prepares before and scores after.
    """
    workdir = pathlib.Path(workdir)
    settings.check(config)
    conventional.check_baselines(config)
    train.check_workdir(workdir, config)  # another config is refused before anything long starts
    mesh = sharding.data_mesh()
    pipeline.check_batch_size(config.train.batch_size, mesh.size, config.train.accumulate)
    distributed.check_devices_reduce(mesh, wait_seconds)
    distributed.check_same_everywhere(
        f"{settings.to_json(config)} {workdir.absolute()} {checkpoints.software_versions()}"
    )
    with distributed.silent_unless_lead(), contextlib.ExitStack() as held:
        distributed.lead_first("workdir", lambda: held.enter_context(train.only_run(workdir)))
        _train(config, workdir)


def _train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    begun = time.perf_counter()
    if distributed.is_lead() and not config.data.root:
        slices = config.data.slices or config.phantom.slices or 26
        hint_at_demo(config, round(config.data.split_fractions[0] * config.phantom.subjects * slices))
    builder, data_record = distributed.lead_first("prepare", lambda: prepare(config))
    n_slices = builder.info.splits["train"].num_examples
    if distributed.is_lead() and config.data.root:
        hint_at_demo(config, n_slices)
    print(
        f"training: {' '.join(MAPS[name].title for name in config.target)} with the {config.model.generator} "
        f"generator, {settings.total_steps(config, n_slices)} steps of {config.train.batch_size} slices on "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}{of_processes()}{scaled_rates(config.train)}"
    )
    train.train(config, workdir, builder, data_record)
    if not distributed.is_lead():
        return
    if data_record["n_test"]:
        evaluate_run(config, workdir, "test", "best")
    else:
        print(f"no subject is in the test split, so nothing was scored. checkpoints: {workdir / 'checkpoints'}")
    print(f"total: {(time.perf_counter() - begun) / 60:.1f} min")


def of_processes() -> str:
    """How many processes train together, where there is more than one."""
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def scaled_rates(train_config: ml_collections.ConfigDict) -> str:
    """The learning rates that are used, where they are not those of the config."""
    factor = settings.learning_rate_factor(train_config)
    if factor == 1:
        return ""
    rates = [factor * rate for rate in (train_config.learning_rate, train_config.discriminator_learning_rate)]
    return (
        f", learning rates {rates[0]:.3g} and {rates[1]:.3g} ({train_config.learning_rate_scaling} from batches of "
        f"{train_config.learning_rate_batch})"
    )


def hint_at_demo(config: ml_collections.ConfigDict, n_slices: int) -> None:
    """On a CPU, says roughly how long a long run takes, and goes on."""
    if jax.default_backend() == "cpu" and (hours := train.rough_hours(config, n_slices)) > LONG_RUN_HOURS:
        print(
            f"training will take roughly {hours:,.0f} hours on this CPU; a GPU is made for it, or the variant :demo "
            "(--config=configs/temp_tmax.py:demo) for machines like this one. Going on.",
            flush=True,
        )


def overruled(
    stored: ml_collections.ConfigDict, config: ml_collections.ConfigDict, given: Iterable[str]
) -> ml_collections.ConfigDict:
    """A run's config, with all that may be said about its exams and its comparators from outside.

    `config` says where the exams are and how their files are read; of the `given` fields, those that say nothing of the
    network count too.
    """
    merged = ml_collections.ConfigDict(stored.to_dict())
    for path in sorted({*BESIDE_THE_NETWORK, *OF_THE_EXAMS}):
        section, field = path.split(".")
        if path in given or (path in OF_THE_EXAMS and config[section][field]):
            merged[section][field] = config[section][field]
    for field in ("root", "layout") if config.data.root else ():
        merged.data[field] = config.data[field]
    return merged


def evaluate_run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path | str,
    split: str,
    which: str,
    given: Iterable[str] | None = None,
) -> None:
    """Predicts and scores a split from a checkpoint, whose config it is.

    Where the exams lie and how their files are read may be given anew; of the `given` fields, those of the cache and of
    the conventional methods beside the network overrule the stored ones. None: all of them, as at the end of training.

    Exams that the run has not seen are scored too, under the name of their folder: their split column decides, and
    without one all of them count.
    """
    workdir = pathlib.Path(workdir)
    predictor = prediction.Predictor(workdir, which)
    trained, data = (
        overruled(predictor.config, config, BESIDE_THE_NETWORK if given is None else given),
        predictor.record["data"],
    )
    options.check_methods(given or (), tuple(trained.evaluate.baselines), "config.evaluate.baselines")
    conventional.check_baselines(trained)
    trained = with_root(trained)
    found = find_subjects(trained)
    same = series_bytes(found).items() & data["series_bytes"].items()  # the run's own exams, perhaps moved
    name = split if same else f"{pathlib.Path(trained.data.root).name}-{split}"
    subjects = subjects_of(found, split, data["splits"] if same else None, trained.data.root)

    folder = workdir / "maps" / name
    shutil.rmtree(folder, ignore_errors=True)
    findings = {}
    for files in tqdm.tqdm(subjects, unit="exam", desc="predicting", dynamic_ncols=True):
        exam = layouts.load_exam(files)
        for source, norm in NORMS.items() if trained.model.norm == "batch" else [("network_batch", "batch")]:
            predicted = predictor.predict(exam, norm)
            findings[files.subject] = predicted.findings
            prediction.write_maps(predicted, predictor, exam, folder / source, files.subject, scaled=True)
    if not same:  # the run's own were compared when they were prepared
        add_findings(findings, layouts.compare_maps(subjects))
    told = (
        findings
        if given is not None
        else {  # after training, those of the exams were told when they were prepared
            subject: [finding for finding in found if finding.name in OF_NETWORK] for subject, found in findings.items()
        }
    )
    print_folder_findings(told, options.EVALUATE)
    networks = [evaluate.Source(path.name, path) for path in sorted(folder.iterdir())]
    baselines, of_baselines = baseline_maps(trained, subjects, folder)
    add_findings(findings, of_baselines)
    score_and_report(
        trained,
        subjects,
        [*networks, *baselines],
        split=split,
        name=name,
        workdir=workdir,
        scaling=predictor.scaling,
        medians=data["medians"],
        checkpoint={"step": predictor.step, "selected_by": predictor.selected_by, "sha256": predictor.sha256},
        data={
            **{key: data[key] for key in DATA_KEYS},
            "scored_source": data["source"] if same else trained.data.root,
            "arterial_input": trained.conventional.aif if baselines else None,
        },
        excluded=data["excluded"] if same else [],
        findings=findings,
    )
    print(f"maps:        {folder}\ncheckpoints: {workdir / 'checkpoints'}")


def add_findings(known: dict[str, Sequence[Finding]], more: Mapping[str, Sequence[Finding]]) -> None:
    """Puts more findings, by subject, to those that are known."""
    for subject, found in more.items():
        known[subject] = by_severity((*known.get(subject, ()), *found))


def baseline_maps(
    config: ml_collections.ConfigDict, subjects: list[layouts.SubjectFiles], folder: pathlib.Path
) -> tuple[list[evaluate.Source], dict[str, list[Finding]]]:
    """Maps of the run's targets by the methods of config.evaluate.baselines in the exams' masks, and their findings."""
    methods = tuple(config.evaluate.baselines)
    if not methods:
        return [], {}
    refused: dict[str, str] = {}
    found: dict[str, list[Finding]] = {}
    for files in tqdm.tqdm(subjects, unit="exam", desc="deconvolving", dynamic_ncols=True):
        exam = layouts.load_exam(files)
        try:
            given = conventional.given_of(exam, config.conventional.aif, own_aif=files.aif)
            results = conventional.by_methods(exam, conventional.settings_of(config), methods, given)
        except InputError as error:
            refused[files.subject] = str(error)
            continue
        for method, (result, used) in results.items():
            found.setdefault(files.subject, []).extend(result.canonical.findings)
            conventional.write_maps(result, exam, used, folder / method, files.subject, config.target)
    for subject, reason in refused.items():
        print(f"no conventional maps of {subject}: {reason}")
    print_folder_findings(found, options.EVALUATE, "conventional maps of ")
    return [
        evaluate.Source(method, folder / method, may_lack=True) for method in methods if (folder / method).is_dir()
    ], found


def evaluate_maps(
    config: ml_collections.ConfigDict,
    maps: pathlib.Path | str,
    workdir: pathlib.Path | str | None,
    split: str,
    given: Iterable[str] = (),
) -> None:
    """Scores anybody's maps of the exams in config.data.root, with the same code and the same nulls.

    Grid, signal, ranges and medians are those of the run in `workdir`, where the `given` fields say nothing of its
    exams; else those of `config` and of the folder's training split; without such a split, the protocol in [-1, 1] and
    the training median are left out.
    """
    maps, workdir = pathlib.Path(maps), None if workdir is None else pathlib.Path(workdir)
    if not maps.is_dir():
        raise InputError(f"--maps={maps}: there is no such folder; it should hold <subject>_<map>.nii.gz files.")
    if not config.data.root:
        raise InputError("--maps needs the exams that the maps belong to: give --config.data.root=DIR.")
    if workdir is not None and (workdir / "checkpoints").is_dir():
        of_run, record = True, checkpoints.load_record(workdir, checkpoints.choose_step(workdir))
        config, data = (
            overruled(settings.from_json(record["config"], default.get_config()), config, given),
            record["data"],
        )
        known = {}
    else:
        builder, data = prepare(config, for_training=False)  # which tells the findings
        of_run, known = (
            False,
            {
                subject: tuple(map(Finding.from_json, found))
                for subject, found in builder.info.metadata["findings"].items()
            },
        )
    trained = with_root(config)
    name = f"{maps.resolve().name}-{split}"
    targets = tuple(target for target in MAP_NAMES if data["ranges"].get(config.data.ranges, {}).get(target))
    scaling = (
        Scaling(config.data.signal, Limits(0.0, 1.0), (), (), True)
        if not targets
        else Scaling.from_ranges(data["ranges"], config.data.signal, targets, config.data.ranges)
    )
    subjects = subjects_of(find_subjects(trained), split, None, trained.data.root)
    if of_run:
        known = layouts.compare_maps(subjects)
    findings = score_and_report(
        trained,
        subjects,
        [evaluate.Source(maps.resolve().name, maps)],
        split=split,
        name=name,
        workdir=workdir or pathlib.Path("runs") / f"maps-{maps.resolve().name}",
        scaling=scaling,
        medians=data["medians"],
        checkpoint=None,
        data={**{key: data[key] for key in DATA_KEYS}, "scored_source": trained.data.root},
        excluded=[],
        findings=known,
        motion_known=not of_run,
    )
    if of_run:
        print_folder_findings(findings, options.MAPS_OF_RUN)


def subjects_of(
    found: list[layouts.SubjectFiles], split: str, splits: dict[str, str] | None, root: str
) -> list[layouts.SubjectFiles]:
    """Subjects of a split: by the run's `splits`, else by the folder's split column, else everybody.

    Raises:
      InputError: the split is empty, or subjects of the run are no longer there.
    """
    if splits is None:
        subjects = [files for files in found if files.split == split] if any(files.split for files in found) else found
    else:
        expected = {subject for subject, where in splits.items() if where == split}
        subjects = [files for files in found if files.subject in expected]
        if missing := sorted(expected - {files.subject for files in subjects}):
            raise InputError(
                f"{root} lacks {len(missing)} subjects of the {split} split, first {missing[0]}; give the "
                "folder that the run was trained on as --config.data.root."
            )
    if not subjects:
        raise InputError(
            f"{root} has no subject in the {split} split; give another --split, or name some in participants.tsv."
        )
    return subjects


def score_and_report(
    config: ml_collections.ConfigDict,
    subjects: list[layouts.SubjectFiles],
    sources: list[Any],
    *,
    split: str,
    name: str,
    workdir: pathlib.Path,
    scaling: Scaling,
    medians: dict[str, float | None],
    checkpoint: dict[str, Any] | None,
    data: dict[str, Any],
    excluded: list[dict[str, str]],
    findings: Mapping[str, Sequence[Finding]],
    motion_known: bool = True,
) -> dict[str, list[Finding]]:
    """Scores sources and nulls into `evaluation/<name>`, writes the page, prints the table and where things are.

    `findings` are those that are known of the exams; those that scoring has besides come back with them.
    """
    out = workdir / "evaluation" / name
    summary = evaluate.score(
        subjects,
        [*sources, *evaluate.NULLS],
        split=split,
        preparation=preparation.PreparationSettings.from_config(config.data),
        scaling=scaling,
        medians=medians,
        checkpoint=checkpoint,
        data=data,
        out=out,
        excluded=excluded,
        config_sha256=settings.sha256(config),
        software=checkpoints.software_versions(),
        known=findings,
        motion_known=motion_known,
    )
    page = report.write(workdir, name)
    print(f"\n{name}: {len(subjects)} subjects\n{report.format_table(summary)}\n")
    print(f"page:        {page}\nrecords:     {out}")
    return {
        subject: [Finding.from_json(finding) for finding in found] for subject, found in summary["findings"].items()
    }


def check(config: ml_collections.ConfigDict) -> None:
    """Prints what of a folder is usable."""
    if not config.data.root:
        raise InputError("--mode=check looks at a folder of exams: give --config.data.root=DIR.")
    rows = layouts.check(exams_root(config), config.data.layout, layouts.Overrules.from_config(config.data))
    print(layouts.format_check(rows))


def predict(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    series: pathlib.Path,
    output: pathlib.Path,
    which: str,
    given: Iterable[str] = (),
) -> None:
    """One file to maps; how, the checkpoint says, but for the norm at test and realignment where they are `given`."""
    paths, findings = prediction.predict_file(
        workdir,
        series,
        output,
        which=which,
        overrules=layouts.Overrules.from_config(config.data),
        norm=config.evaluate.norm_at_test if "evaluate.norm_at_test" in given else None,
        motion=config.data.motion if "data.motion" in given else None,
    )
    print(*paths, sep="\n")
    print_findings(findings, options.PREDICT)


def print_findings(findings: Iterable[Finding], reader: str, where: str = "") -> None:
    """Each finding as a line, the worst first, after its subject where there are several.

    Args:
      findings: of one exam.
      reader: one of `options.READERS`; a flag that it does not read is not offered.
      where: the subject.
    """
    for finding in by_severity(findings):
        line = options.offered(finding, reader).line()
        print(f"{where}: {line}" if where else line)


def print_folder_findings(found: Mapping[str, Iterable[Finding]], reader: str, what: str = "") -> None:
    """The warnings of many exams, the same of several once, and how many have which note.

    `what` comes before the subjects.
    """
    subjects: dict[Finding, list[str]] = {}
    notes: Counter[str] = Counter()
    for subject, findings in found.items():
        unique = by_severity(findings)
        notes.update({finding.name for finding in unique if finding.severity == "note"})
        for finding in unique:
            if finding.severity != "note":
                subjects.setdefault(finding, []).append(subject)
    for finding, names in subjects.items():
        print_findings([finding], reader, what + (names[0] if len(names) == 1 else f"{len(names)} exams"))
    if notes:
        told = ", ".join(f"{name} ({count} exam{'s' if count > 1 else ''})" for name, count in notes.most_common())
        print(f"notes on the {what.removesuffix(' of ')}: {told}" if what else f"notes: {told}")


def deconvolve(
    config: ml_collections.ConfigDict,
    series: pathlib.Path | None,
    output: pathlib.Path,
    aif: str,
    mask: pathlib.Path | None,
) -> None:
    """Conventional maps of one file, or of the folder in config.data.root."""
    chosen = conventional.settings_of(config)
    if bool(series) == bool(config.data.root):
        raise InputError("--mode=deconvolve needs either --input=FILE or --config.data.root=DIR.")
    if series:
        paths, findings = conventional.deconvolve_file(
            series, output, chosen, aif=aif, mask=mask, overrules=layouts.Overrules.from_config(config.data)
        )
        print(*paths, sep="\n")
        print_findings(findings, options.ONE_FILE)
        return
    if mask:
        raise InputError("--mask is one exam's; for a folder put <subject>_mask.nii.gz beside each series.")
    subjects = find_subjects(with_root(config))
    conventional.check_folder(subjects, output, aif)
    with tqdm.tqdm(total=len(subjects), unit="exam", desc="deconvolving", dynamic_ncols=True) as bar:
        refused, findings = conventional.deconvolve_folder(config, subjects, output, aif, bar.update)
    print_folder_findings(findings, options.FOLDER)
    for subject, reason in refused.items():
        print(f"left out: {subject}: {reason}")
    print(
        f"{len(subjects) - len(refused)} of {len(subjects)} exams: {output}\n"
        f"to train on these maps: python -m dscgan_jax.main --config.data.root={output}"
    )


def draw_phantom(
    output: pathlib.Path,
    *,
    preset: str,
    subjects: int,
    size: int,
    slices: int,
    seed: int,
    split_fractions: tuple[float, float, float],
) -> None:
    """Digital exams with known truth."""
    with tqdm.tqdm(total=subjects, unit="exam", desc="drawing", dynamic_ncols=True) as bar:
        phantom_exams.write_cohort(
            output,
            preset=preset,
            subjects=subjects,
            seed=seed,
            size=size,
            slices=slices or None,
            split_fractions=split_fractions,
            progress=bar.update,
        )
    print(output)


def measure_speed(
    config: ml_collections.ConfigDict, parts: Sequence[str], repeats: int, output: pathlib.Path | None, command: str
) -> None:
    """The benchmark of a config as a table, and its record as a file."""
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output={output}: expected a JSON file in a folder that is there.")
    jax.config.update("jax_enable_compilation_cache", False)  # how long compilation takes is part of the answer
    record = benchmark.run(config, tuple(parts) or benchmark.PARTS, repeats, command)
    print(benchmark_page.terminal(record), end="")
    if output is not None:
        write_whole(output, benchmark.to_text(record))
