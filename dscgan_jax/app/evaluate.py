"""--mode=evaluate: maps of a split against reference maps, from a checkpoint or from anybody's files."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections

from dscgan_jax import settings
from dscgan_jax.app import options, places
from dscgan_jax.app.output import print_folder_findings
from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import default
from dscgan_jax.data import exams, subject_files
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.data.checks import map_checks
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import score
from dscgan_jax.evaluation.sources import FolderSource, MapSource
from dscgan_jax.files import replacing_folder
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods.conventional import ConventionalSource, check_baselines, settings_of
from dscgan_jax.methods.network import NetworkSource, Predictor
from dscgan_jax.pages import report, sentences, tables
from dscgan_jax.pages.subjects import Gallery
from dscgan_jax.training import checkpoints

# Findings that are a network's, not the exam's alone.
OF_NETWORK = ("air_reaches_network", "maps_contradict", "unlike_training")
# Facts about the exams that the user gives; they overrule the files and a stored run.
OF_THE_EXAMS = ("data.modality", "data.tr_seconds", "data.te_seconds", "data.accept")
# Fields of a config that say nothing of a network: a stored run may be evaluated with others.
BESIDE_THE_NETWORK = (
    "data.cache_dir",
    "evaluate.baselines",
    *(f"conventional.{name}" for name in default.get_config().conventional),
)


def of_run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path | str,
    split: str,
    which: str,
    given: Collection[str] | None = None,
) -> pathlib.Path:
    """Predicts and scores a split from a checkpoint, whose config it is.

    Where the exams are and how their files are read may be given again; of the `given` fields, those of the cache and
    of the conventional methods beside the network overrule the stored ones. None: all of them, as at the end of
    training.

    Exams that the run has not seen are scored too, under the name of their folder: their split column decides, and
    without one all of them count. One of them that cannot be used is named, with the reason, and stops nothing.
    """
    workdir = pathlib.Path(workdir)
    predictor = Predictor.from_run(workdir, which)
    trained = overruled(predictor.config, config, BESIDE_THE_NETWORK if given is None else given)
    data, baselines = predictor.record.data, tuple(trained.evaluate.baselines)
    options.check_methods(given or (), baselines, "config.evaluate.baselines")
    check_baselines(trained)
    trained = places.with_root(trained)
    found, lost = places.find_cohort(trained)
    splits = places.splits_of_run(found, data)
    same = splits is not None
    if same:
        found, lost = places.find_subjects(trained), {}  # of its own exams none may be missing
    else:
        lost |= {files.subject: files.unusable for files in found if files.unusable}
        found = [files for files in found if not files.unusable]
    name = split if same else f"{pathlib.Path(trained.data.root).name}-{split}"
    subjects = places.subjects_of(found, split, splits, trained.data.root)

    protocol = score.Protocol(split, predictor.preparation, predictor.scaling, data.medians)
    with replacing_folder(workdir / "maps" / name) as folder:  # former maps stay until all new ones are there
        network = NetworkSource(predictor, folder)
        conventional = ConventionalSource(
            settings_of(trained),
            baselines,
            trained.target,
            folder,
            trained.conventional.aif,
            {files.subject: files.aif for files in subjects},
        )
        sources = [network, conventional] if baselines else [network]
        collected = _Collected(sources)
        scores = score.score(
            subjects, sources, protocol, look_for_motion=False, stop_at_rejected=same, each=collected.add
        )
    # The run's own exams were compared when they were prepared.
    compared = {} if same else _together(collected.compared(subjects), _seen(subjects, data))
    scores = dataclasses.replace(scores, findings=_together(scores.findings, compared))

    of_network = _together(network.findings, compared)
    if given is None:  # after training: the findings of the exams were printed when they were prepared
        of_network = {who: tuple(one for one in found if one.name in OF_NETWORK) for who, found in of_network.items()}
    print_folder_findings(of_network, options.EVALUATE)
    rejected = lost | scores.rejected
    for subject, reason in rejected.items():
        print(f"no maps of {subject}: {reason}")
    for subject, reason in conventional.refused.items():
        print(f"no conventional maps of {subject}: {reason}")
    print_folder_findings(conventional.findings, options.EVALUATE, "conventional maps of ")
    about = score.About(
        data=data.summary
        | {
            "scored_source": data.source if same else trained.data.root,
            "arterial_input": trained.conventional.aif if conventional.findings else None,
        },
        checkpoint={
            "name": predictor.weights.name,
            "version": predictor.weights.version,
            "trained_on": predictor.weights.trained_on,
            "step": predictor.step,
            "selected_by": predictor.selected_by,
            "sha256": predictor.sha256,
        },
        excluded=data.excluded if same else [{"subject": one, "reason": why} for one, why in rejected.items()],
        config_sha256=settings.sha256(trained),
    )
    _report(scores, protocol, about, collected, workdir, name)
    print(f"maps:        {workdir / 'maps' / name}\ncheckpoints: {workdir / 'checkpoints'}")
    return workdir / "evaluation" / name


def of_maps(
    config: ml_collections.ConfigDict,
    maps: pathlib.Path | str,
    workdir: pathlib.Path | str | None,
    split: str,
    given: Collection[str] = (),
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
    of_run = workdir is not None and (workdir / "checkpoints").is_dir()
    cohort = _as_of_run(config, workdir, split, given) if of_run else cohort_of(config, split, for_training=False)
    name = maps.resolve().name
    source = FolderSource(name, maps, [files.subject for files in cohort.subjects])
    scores = of_sources(cohort, [source], workdir or pathlib.Path("runs") / f"maps-{name}", f"{name}-{split}")
    if of_run:
        print_folder_findings(scores.findings, options.MAPS_OF_RUN)


@dataclasses.dataclass(frozen=True)
class Cohort:
    """Exams that are scored, and how: the same for every source of maps.

    Attributes:
      config: as it was given, or a run's.
      root: folder of the exams; of a phantom cohort the one in the cache.
      subjects: of the split.
      protocol: grid, signal, ranges and medians.
      data: record of the exams that ranges and medians come from.
      builder: the prepared data set of these very exams; None where ranges and medians are a run's.
      known: what its preparation found, by subject.
      seen: what says of exams that are not the run's that it may have been trained on some of them.
      excluded: `subject, reason` of who was left out.
    """

    config: ml_collections.ConfigDict
    root: str
    subjects: list[subject_files.SubjectFiles]
    protocol: score.Protocol
    data: DataRecord
    builder: Any = None
    known: Mapping[str, tuple[Finding, ...]] = dataclasses.field(default_factory=dict)
    seen: Mapping[str, tuple[Finding, ...]] = dataclasses.field(default_factory=dict)
    excluded: Sequence[Mapping[str, str]] = ()


def cohort_of(config: ml_collections.ConfigDict, split: str, *, for_training: bool = True) -> Cohort:
    """The exams of a config, in its folder or phantom ones, which are prepared if they are not yet.

    Args:
      config: the whole config.
      split: whom to score.
      for_training: whether splits are those of a network that the config trains, drawn where the folder gives none, and
        somebody must be there to train on. Otherwise the folder's split column decides, and without one all exams are
        scored; without a training split, the protocol in [-1, 1] and the training median are left out.

    Raises:
      InputError: as `prepare`, or nobody is in the split.
    """
    builder, data = prepare(config, for_training=for_training)  # which prints the findings
    root = places.with_root(config).data.root
    found = places.find_subjects(places.with_root(config))
    return Cohort(
        config,
        root,
        places.subjects_of(found, split, data.splits if for_training else None, root),
        _protocol(config, data, split),
        data,
        builder,
        {who: tuple(map(Finding.from_json, stored)) for who, stored in builder.info.metadata["findings"].items()},
        excluded=data.excluded if for_training else (),
    )


def _as_of_run(config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, given: Collection[str]) -> Cohort:
    """The exams of a config, scored as those of the run in `workdir`, whose weights stay closed."""
    record = checkpoints.load_record(workdir, checkpoints.choose_step(workdir))
    config, data = overruled(record.config, config, given), record.data
    trained = places.with_root(config)
    found = places.find_subjects(trained)
    splits = places.splits_of_run(found, data)
    subjects = places.subjects_of(found, split, splits, trained.data.root)
    seen = _seen(subjects, data) if splits is None else {}
    return Cohort(config, trained.data.root, subjects, _protocol(config, data, split), data, seen=seen)


def _protocol(config: ml_collections.ConfigDict, data: DataRecord, split: str) -> score.Protocol:
    preparation = PreparationSettings.from_config(config)
    return score.Protocol(split, preparation, _scaling_of(config, data), data.medians)


def of_sources(
    cohort: Cohort,
    sources: Sequence[MapSource],
    workdir: pathlib.Path,
    name: str,
    facts: Mapping[str, Any] | None = None,
) -> score.Scores:
    """Scores any sources of maps on a cohort, in this process, beside the same nulls.

    Args:
      cohort: from `cohort_of`.
      sources: in the order of the tables.
      workdir: receives `evaluation/<name>/{subjects.csv,summary.json,*_subject.png}` and the page.
      name: of the evaluation; `test` makes `report.html`.
      facts: what the summary holds of the data besides, such as `arterial_input`.

    Raises:
      InputError: as `score.score`.
    """
    of_run = cohort.builder is None
    collected = _Collected(list(sources))
    scores = score.score(
        cohort.subjects, sources, cohort.protocol, known=cohort.known, look_for_motion=of_run, each=collected.add
    )
    if of_run:
        compared = _together(scores.findings, collected.compared(cohort.subjects))
        scores = dataclasses.replace(scores, findings=_together(compared, cohort.seen))
    about = score.About(
        data=cohort.data.summary | {"scored_source": cohort.root} | dict(facts or {}),
        excluded=cohort.excluded,
        config_sha256=settings.sha256(cohort.config),
    )
    _report(scores, cohort.protocol, about, collected, workdir, name)
    return scores


def overruled(
    stored: ml_collections.ConfigDict, config: ml_collections.ConfigDict, given: Collection[str]
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


def _scaling_of(config: ml_collections.ConfigDict, data: DataRecord) -> Scaling | None:
    """The scaling of all maps that the training split has a range of; None without any."""
    ranges = data.ranges.get(config.data.ranges, {})
    targets = tuple(target for target in MAP_NAMES if ranges.get(target))
    if not targets:
        return None
    return Scaling.from_ranges(data.ranges, config.data.signal, targets, config.data.ranges)


class _Collected:
    """What is kept of each exam while it is in memory: its picture, and the numbers by which its maps are compared."""

    def __init__(self, sources: list[MapSource]):
        self.gallery = Gallery({name: maps for source in sources for name, maps in source.offers.items()})
        self._numbers: dict[str, dict[str, map_checks.MapNumbers]] = {}

    def add(self, exam: exams.Exam, offered: Mapping[str, ExamMaps]) -> None:
        """Called with each exam."""
        self.gallery.add(exam, {name: maps.volumes for name, maps in offered.items()})
        self._numbers[exam.subject] = map_checks.numbers_of(exam.maps, exam.mask)

    def compared(self, subjects: list[subject_files.SubjectFiles]) -> dict[str, tuple[Finding, ...]]:
        """What is odd about an exam's reference maps beside those of the others."""
        accept = {files.subject: files.overrules.accept for files in subjects}
        return folder_checks.compare_numbers(self._numbers, accept)


def _seen(subjects: list[subject_files.SubjectFiles], data: DataRecord) -> dict[str, tuple[Finding, ...]]:
    """What says of exams that are not the run's that it may have been trained on some of them all the same."""
    text = (
        "name and size of the series are those of an exam that the network was trained on: its scores may be too good"
    )
    finding = Finding("seen_in_training", "warning", text)
    return {one: (finding,) for one in places.known_to_run(subjects, data) if data.splits.get(one) == "train"}


def _together(
    known: Mapping[str, tuple[Finding, ...]], more: Mapping[str, tuple[Finding, ...]]
) -> dict[str, tuple[Finding, ...]]:
    """Findings by subject, of both."""
    return {subject: by_severity((*known.get(subject, ()), *more.get(subject, ()))) for subject in {**known, **more}}


def _report(
    scores: score.Scores,
    protocol: score.Protocol,
    about: score.About,
    collected: _Collected,
    workdir: pathlib.Path,
    name: str,
) -> None:
    """Writes records, pictures and the page into `evaluation/<name>`; prints the table and where things are."""
    out = workdir / "evaluation" / name
    summary = score.write(scores, protocol, about, out)
    collected.gallery.draw(out, scores.rows)
    page = report.write(workdir, name)
    print(f"\n{name}: {len(scores.findings)} subjects\n{tables.format_table(summary)}\n")
    for text in sentences.saturated(summary, scores.rows):
        print(f"warning: {text}")
    print(f"page:        {page}\nrecords:     {out}")
