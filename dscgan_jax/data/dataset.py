"""The prepared data set: TFDS without TensorFlow, one shard for each subject, one example for each slice.

Words: *prepared* means on the network grid; the *fingerprint* names source files, settings and splits, and is the name
of the data set's folder, so that another source or setting makes another data set and never finds a stale one.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import pathlib
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from dscgan_jax import digests, workers
from dscgan_jax.data import features, layouts, nifti, preparation, shards
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.data.ranges import RangeGatherer
from dscgan_jax.data.scaling import SIGNALS
from dscgan_jax.data.subject_files import Overrules, SubjectFiles
from dscgan_jax.errors import InputError, brief, disk_is_full
from dscgan_jax.files import expanded
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAP_NAMES

# Raise it when the same files become other examples. 1.1.0: mask without missing values; 1.2.0: findings, repaired
# signal, and what lies outside the brain; 1.3.0: TTP from the first network frame; 1.4.0: the brain's outline.
VERSION = tfds.core.Version("1.4.0")
EXAM_BYTES = 3 << 30  # that preparing an exam may take, with what it is made of
# The exams to come, in their order.
Ahead = Generator[shards.Prepared | InputError | workers.Lost, None, None]
DISK_RESERVE = 256 << 20  # bytes that must stay free beside the data set


@dataclasses.dataclass
class DscConfig(tfds.core.BuilderConfig):
    """One data set. Subjects may be empty where a data set that exists is opened.

    Attributes:
      subjects: files of the subjects that take part.
      splits: split of each subject.
      excluded: subjects left out, with the reason.
      settings: how exams are prepared.
      fingerprint: of the source files alone.
      cohort: what is odd about a subject's maps beside those of the others.
      progress: whether to draw a bar.
      facts: folder in which subjects that are prepared elsewhere leave their facts; None: all are prepared here.
    """

    subjects: tuple[SubjectFiles, ...] = dataclasses.field(default=(), repr=False)
    splits: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    excluded: tuple[dict[str, str], ...] = ()
    settings: preparation.PreparationSettings | None = None
    fingerprint: str = ""
    cohort: dict[str, tuple[Finding, ...]] = dataclasses.field(default_factory=dict, repr=False)
    progress: bool = True
    facts: pathlib.Path | None = None

    def facts_of(self, files: SubjectFiles) -> pathlib.Path:
        """Where a subject that is prepared elsewhere leaves its facts."""
        return pathlib.Path(str(self.facts)) / f"{self.subjects.index(files):06d}.npz"


class _LocalInfo(tfds.core.DatasetInfo):
    """A description that is never looked for in the cloud, with its digests: the records of slices carry their own."""

    def write_to_directory(self, data_dir: Any, *arguments: Any, **settings: Any) -> None:
        """Writes it, while the data set is not in its place yet."""
        super().write_to_directory(data_dir, *arguments, **settings)
        digests.write(pathlib.Path(data_dir), pathlib.Path(data_dir).glob("[!.]*.json"))

    def initialize_from_bucket(self) -> None:
        """Does nothing; TFDS would leave an empty temporary folder behind each time."""


class DscPerfusion(tfds.core.ShardBasedBuilder):
    """DSC-MRI series and perfusion maps on the network grid.

    The shard builder, because the generator builder needs TensorFlow once a split passes 1000 MiB.
    """

    VERSION = VERSION
    current: SubjectFiles | None = None  # that is being prepared here
    ahead: Ahead | None = None

    def _create_builder_config(self, builder_config: DscConfig, *_: Any, **__: Any) -> DscConfig:
        """Ours is made for each data set; TFDS would warn that it is not registered."""
        return builder_config

    def _log_download_bytes(self) -> None:
        """Nothing is downloaded, so nothing is said about it."""

    _log_download_done = _log_download_bytes

    def _info(self) -> tfds.core.DatasetInfo:
        settings = self.builder_config.settings
        image = (settings.size, settings.size)
        whole = tfds.features.Encoding.BYTES  # the default encoding stores int16 as varints, eight times slower
        return _LocalInfo(
            builder=self,
            description="DSC-MRI perfusion slices prepared by dscgan_jax.",
            features=tfds.features.FeaturesDict(
                {
                    "dsc": tfds.features.Tensor(shape=(settings.frames, *image), dtype=np.int16, encoding=whole),
                    "dsc_scale": np.float32,
                    "maps": tfds.features.Tensor(shape=(*image, len(MAP_NAMES)), dtype=np.float32, encoding=whole),
                    "has_map": tfds.features.Tensor(shape=(len(MAP_NAMES),), dtype=np.uint8, encoding=whole),
                    "mask": tfds.features.Tensor(shape=image, dtype=np.uint8, encoding=whole),
                    "baseline_begin": np.int32,
                    "baseline_end": np.int32,
                    "brain_signal": np.float32,
                    "echo_seconds": np.float32,
                    "frame_seconds": np.float32,
                    "subject": tfds.features.Text(),
                    "slice_index": np.int32,
                    "findings": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Any]]:
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        in_split = {
            split: [files for files in config.subjects if config.splits[files.subject] == split]
            for split in layouts.SPLITS
        }
        self._gatherer = RangeGatherer(len(in_split["train"]))
        self._features: list[features.ExamFeatures] = []
        self._mask_sources: Counter[str] = Counter()
        self._findings: dict[str, list[dict[str, Any]]] = {}
        is_here = self.builder_config.facts is None
        self.bar = tqdm.tqdm(
            total=len(config.subjects),
            unit="exam",
            desc="preparing",
            disable=not (config.progress and is_here),
            dynamic_ncols=True,
        )
        ahead = None
        if is_here:
            tasks = [
                shards.Task(files, config.cohort.get(files.subject, ()), split == "train")
                for split, subjects in in_split.items()
                for files in subjects
            ]
            processes = workers.fitting(len(tasks), EXAM_BYTES)
            self.ahead = ahead = workers.in_order(shards.Preparing(config.settings), tasks, processes)
        if not in_split["train"]:  # exams that are only scored have no ranges of their own
            nothing = dict.fromkeys((*SIGNALS, *MAP_NAMES))
            self.info.metadata.update(
                ranges={kind: dict(nothing) for kind in ("percentile", "published")},
                clipped=nothing,
                medians=dict.fromkeys(MAP_NAMES),
                features={},
            )
        self.info.metadata.update(
            splits=dict(config.splits),
            excluded=list(config.excluded),
            source_fingerprint=config.fingerprint,
            settings=config.settings.to_json(),
        )
        return {
            split: [
                functools.partial(self._examples, files, split, ahead) if ahead else self._shard(files, split)
                for files in subjects
            ]
            for split, subjects in in_split.items()
        }

    def _shard(self, files: SubjectFiles, split: str) -> shards.Shard:
        """A subject that is prepared elsewhere."""
        config = self.builder_config
        n_train = sum(where == "train" for where in config.splits.values()) if split == "train" else 0
        known = config.cohort.get(files.subject, ())
        return shards.Shard(files, config.settings, known, n_train, config.facts_of(files))

    def _download_and_prepare(self, *arguments: Any, **settings: Any) -> None:
        super()._download_and_prepare(*arguments, **settings)
        config = self.builder_config
        if config.facts is not None:
            for facts in shards.together([config.facts_of(files) for files in config.subjects]):
                self._take(facts)
            if self._features:
                self.info.metadata.update(self._gatherer.metadata(), features=features.likeness(self._features))
            self.info.metadata.update(mask_source=dict(self._mask_sources), findings=dict(self._findings))

    def _take(self, facts: shards.Facts) -> None:
        """What is known of a subject that was prepared elsewhere."""
        if facts.gathered is not None:
            self._gatherer.extend(facts.gathered)
        if facts.likeness is not None:
            self._features.append(facts.likeness)
        self._mask_sources[facts.mask_source] += 1
        if facts.findings:
            self._findings[facts.subject] = [finding.to_json() for finding in facts.findings]

    def _examples(self, files: SubjectFiles, split: str, ahead: Ahead) -> Iterator[tuple[str, dict[str, Any]]]:
        """The examples of one subject; its values enter the ranges if it is in the training split."""
        self.current = files
        found = next(ahead)  # splits and subjects come in the order of `_shard_iterators_per_split`
        if isinstance(found, InputError):
            raise found
        if isinstance(found, workers.Lost):
            raise InputError(f"{files.series}: {found}")
        prepared = found.exam
        if found.likeness is not None:
            self._gatherer.add(prepared)
            self._features.append(found.likeness)
        self._mask_sources[prepared.mask_source] += 1
        if prepared.findings:
            self._findings[files.subject] = [finding.to_json() for finding in prepared.findings]
        # Written with the rest of the data set's description once the last shard stands.
        if self._is_last(files):
            self.info.metadata.update(self._gatherer.metadata(), features=features.likeness(self._features))
        self.info.metadata.update(mask_source=dict(self._mask_sources), findings=dict(self._findings))
        yield from shards.examples_of(prepared)
        self.bar.update()

    def _is_last(self, files: SubjectFiles) -> bool:
        """Whether this is the last subject of the training split."""
        train = [one for one in self.builder_config.subjects if self.builder_config.splits[one.subject] == "train"]
        return bool(train) and files is train[-1]


def prepared(
    config: Any, *, progress: bool = True, for_training: bool = True, beam: shards.BeamRun | None = None
) -> DscPerfusion:
    """The prepared data set of a run's config, built if it is not there yet.

    Builds of the same data set wait for one another; what a killed build left is removed by the next one.

    Args:
      config: the whole config; `config.data`, `config.target` and `config.seed` are read.
      progress: whether to draw a bar while building.
      for_training: whether somebody must be there to train on and to choose the best checkpoint on, and each split have
        the target maps. Without training subjects all ranges and medians are None.
      beam: who prepares the exams; None: this process.

    Returns:
      The builder: `info.metadata` holds ranges, medians, features, splits, excluded subjects, fingerprint and settings.

    Raises:
      InputError: no usable folder, a file that cannot be used (the whole build stops), too little disk space, for
        training an empty training or validation split or a split without a target map.
    """
    data = config.data
    root = expanded(data.root, "--config.data.root")
    overrules = Overrules.from_config(data)
    subjects = layouts.find_subjects(root, data.layout, overrules)
    splits = layouts.assign_splits(subjects, tuple(data.split_fractions), int(config.seed), for_training=for_training)
    taking_part = tuple(files for files in subjects if files.subject in splits)
    if for_training:
        _check_targets(taking_part, splits, tuple(config.target))
    settings = preparation.PreparationSettings.from_config(config)
    source = _source_fingerprint(root, taking_part)
    excluded = tuple(
        {"subject": files.subject, "reason": "split is exclude in participants.tsv"}
        for files in subjects
        if files.subject not in splits
    )
    decides = {
        "source": source,
        "settings": settings.to_json(),
        "layout": str(data.layout),
        "splits": splits,
        "overrules": overrules.record(),
        "excluded": excluded,
    }
    folder = expanded(data.cache_dir, "--config.data.cache_dir") / "prepared"
    dsc_config = DscConfig(
        name=f"{data.layout}-{_hash(decides)}",
        description="named by the fingerprint of files, settings and splits",
        subjects=taking_part,
        splits=splits,
        excluded=excluded,
        settings=settings,
        fingerprint=source,
        progress=progress,
    )
    with _folder_errors(folder):
        if (builder := _opened(folder, dsc_config)) is None:
            _check_files(taking_part)
            bar = tqdm.tqdm(
                taking_part, unit="exam", desc="comparing maps", disable=not progress, dynamic_ncols=True, delay=3
            )
            dsc_config.cohort = folder_checks.compare_maps(bar)
            folder.mkdir(parents=True, exist_ok=True)
            with _only_builder(folder, dsc_config.name) as alone:
                if alone:
                    _sweep(folder, dsc_config.name)
                if _opened(folder, dsc_config) is None:  # nobody built it while we waited
                    _check_disk(folder, taking_part, settings)
                    with _facts_folder(folder, dsc_config, beam):
                        _build(DscPerfusion(config=dsc_config, data_dir=folder, file_format="array_record"), beam)
            builder = _opened(folder, dsc_config)
    _check_whole(builder)
    return builder


def _opened(folder: pathlib.Path, dsc_config: DscConfig) -> DscPerfusion | None:
    """The builder of a data set that stands whole, else None."""
    place = folder / DscPerfusion.name / dsc_config.name / str(VERSION)
    if not place.is_dir():  # it comes there whole
        return None
    try:
        if not (place / "dataset_info.json").is_file():
            raise digests.Damaged("dataset_info.json is gone")
        digests.check(place)
        builder = DscPerfusion(config=dsc_config, data_dir=folder, file_format="array_record")
        builder.info.metadata.load_metadata_if_needed()
        return builder
    except Exception as error:  # TFDS raises many kinds for damaged descriptions
        raise InputError(
            f"{place}: the prepared data are damaged ({brief(error, 120)}); remove that folder and run again."
        ) from error


def _hash(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _source_fingerprint(root: pathlib.Path, subjects: tuple[SubjectFiles, ...]) -> str:
    """Changes with every file of every subject: path, size, time of change."""
    record = []
    for files in subjects:
        for path in filter(None, (files.series, *files.sidecars, files.mask, *files.maps.values())):
            if path.is_file():
                stat = path.stat()
                record.append((str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns))
    return _hash(sorted(record))


def _check_targets(subjects: tuple[SubjectFiles, ...], splits: dict[str, str], targets: tuple[str, ...]) -> None:
    """Maps at all, somebody to choose the best checkpoint on, and in each split somebody with each target map."""
    if subjects and not any(files.maps for files in subjects):
        raise InputError(
            f"none of the {len(subjects)} exams has a map to learn; make conventional ones with "
            "--mode=deconvolve --config.data.root=DIR --output=NEW and train on NEW, or add "
            f"<subject>_{targets[0]}.nii.gz."
        )
    in_split = {split: [files for files in subjects if splits[files.subject] == split] for split in layouts.SPLITS}
    if not in_split["validation"]:
        raise InputError(
            "no subject is in the validation split, on which the best checkpoint is chosen; correct "
            "participants.tsv or config.data.split_fractions, or add exams."
        )
    for split, members in in_split.items():
        for name in targets:
            if members and not any(name in files.maps for files in members):
                raise InputError(
                    f"no {split} subject has a {name} map (config.target={targets}); add "
                    f"<subject>_{name}.nii.gz, or name another target."
                )


def _check_files(subjects: tuple[SubjectFiles, ...]) -> None:
    """A quick look at all headers, so that a wrong file stops the build before hours of work and not after."""
    for files in subjects:
        try:
            series = nifti.read_shape(files.series)
            if len(series) != 4:
                raise InputError(
                    f"{files.series}: expected a 4-D series (x, y, z, time), the file has shape {series}; "
                    "give the whole perfusion series."
                )
            for path in filter(None, (*files.maps.values(), files.mask)):
                shape = nifti.read_shape(path)
                if sorted(((*shape, 1))[:3]) != sorted(series[:3]):  # in another order of axes it may be the same grid
                    raise InputError(
                        f"{path}: expected the grid of the series {series[:3]}, the file has {shape}; resample "
                        "it to the series."
                    )
        except InputError as error:
            raise InputError(f"{error} {folder_checks.how_to_go_on(files.subject)}") from error


def _check_disk(
    folder: pathlib.Path, subjects: tuple[SubjectFiles, ...], settings: preparation.PreparationSettings
) -> None:
    pixels = settings.size**2
    slice_bytes = pixels * (2 * settings.frames + 4 * len(MAP_NAMES) + 1)
    n_slices = sum(settings.slices or nifti.read_shape(files.series)[2] for files in subjects)
    needed, free = n_slices * slice_bytes + DISK_RESERVE, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: the prepared data need up to {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
            "free some space or give another --config.data.cache_dir=."
        )


@contextlib.contextmanager
def _facts_folder(folder: pathlib.Path, dsc_config: DscConfig, beam: shards.BeamRun | None) -> Iterator[None]:
    """Within it, there is a folder for the facts of subjects that are prepared elsewhere."""
    if beam is None:
        yield
        return
    dsc_config.facts = folder / f".{dsc_config.name}.facts"
    shutil.rmtree(dsc_config.facts, ignore_errors=True)  # of a build that was killed
    dsc_config.facts.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(dsc_config.facts, ignore_errors=True)


def _build(builder: DscPerfusion, beam: shards.BeamRun | None = None) -> None:
    """Writes the data set; on failure nothing of it stays."""
    tfds.disable_progress_bar()
    how = tfds.download.DownloadConfig(try_download_gcs=False)
    if beam is not None:
        from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports] - an extra
            PipelineOptions,
        )

        how.beam_runner, how.beam_options = beam.runner, PipelineOptions(list(beam.options))
    try:
        builder.download_and_prepare(download_config=how)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__  # TFDS may wrap what the examples raised
        if cause is None:
            raise
        where = "" if builder.current is None else f" {folder_checks.how_to_go_on(builder.current.subject)}"
        raise InputError(f"{cause}{where}") from error
    finally:
        if builder.bar is not None:
            builder.bar.close()
        if builder.ahead is not None:
            builder.ahead.close()
        root = pathlib.Path(builder.data_dir).parents[2]
        own = pathlib.Path(builder.data_dir).parent
        for empty in (own, own.parent, root / "downloads" / "extracted", root / "downloads"):
            with contextlib.suppress(OSError):
                empty.rmdir()  # fails, as it should, where the folder is not empty


def _check_whole(builder: DscPerfusion) -> None:
    """Every subject of the config once, in its split: a lost or foreign shard would break that."""
    expected = Counter(builder.builder_config.splits.values())
    splits = builder.info.splits
    found = {
        split: sum(length > 0 for length in splits[split].shard_lengths) if split in splits else 0
        for split in layouts.SPLITS
    }
    metadata = builder.info.metadata
    if (
        metadata.get("splits") != builder.builder_config.splits
        or "ranges" not in metadata
        or any(found[split] != expected[split] for split in layouts.SPLITS)
    ):
        raise InputError(
            f"{builder.data_dir}: the prepared data do not hold the subjects of this config; remove the folder "
            "and run again."
        )


@contextlib.contextmanager
def _folder_errors(folder: pathlib.Path) -> Iterator[None]:
    """A full disk or a forbidden folder as a line that a user can act on."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise InputError(
                f"{folder}: the disk is full; free some space or give another --config.data.cache_dir=."
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise InputError(
                f"{folder}: cannot be written ({error}); give another --config.data.cache_dir=."
            ) from error
        raise


@contextlib.contextmanager
def _only_builder(folder: pathlib.Path, name: str) -> Iterator[bool]:
    """Waits until no other process builds the same data set; the lock goes with its process, however that ends.

    Yields False on a file system without locks, where two builds may race and TFDS lets one win.
    """
    with open(folder / f".{name}.lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


def _sweep(folder: pathlib.Path, own_name: str) -> None:
    """Removes what killed builds left: `incomplete.*` of data sets that nobody is building now.

    The caller holds the lock of `own_name`.
    """
    for debris in folder.glob(f"{DscPerfusion.name}/*/incomplete.*"):
        name = debris.parent.name
        with open(folder / f".{name}.lock", "wb") as lock:
            if name != own_name:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # somebody builds it now
            shutil.rmtree(debris, ignore_errors=True)
