"""Who reads spoiled files: the program's own ways from files to results, each with a clean world to copy.

A `Reader` has the files of a clean world in a folder; `read` gives what becomes of a copy of them, and writes into
`output` alone. What counts as another result is said by each reader's `differs`.
"""

import dataclasses
import json
import pathlib
import shutil
import sys
from typing import Any
from unittest import mock

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # invented exams are written by what the tests write them with

import dicoms  # noqa: E402
import exams as invented  # noqa: E402
import runs  # noqa: E402

from dscgan_jax import provenance  # noqa: E402
from dscgan_jax.configs import temp_tmax  # noqa: E402
from dscgan_jax.data import batches, exams, inputs, layouts, nifti  # noqa: E402
from dscgan_jax.data.record import DataRecord  # noqa: E402
from dscgan_jax.data.scaling import Limits, Scaling  # noqa: E402
from dscgan_jax.findings import Finding  # noqa: E402
from dscgan_jax.maps import MAP_NAMES  # noqa: E402
from dscgan_jax.methods import conventional_files  # noqa: E402
from dscgan_jax.methods.network import Predictor  # noqa: E402
from dscgan_jax.models import networks  # noqa: E402
from dscgan_jax.pages.conventional import Pictures  # noqa: E402
from dscgan_jax.perfusion.conventional import Settings  # noqa: E402
from dscgan_jax.phantom.exam import draw_phantom  # noqa: E402
from dscgan_jax.training import checkpoints, state, weights  # noqa: E402
from dscgan_jax.training.record import CheckpointRecord  # noqa: E402

TIMES = ("tmax", "mtt", "ttp")
MEAN_SECONDS, FAR_SECONDS, FAR_SHARE = 0.1, 1.0, 0.01
LOST_SHARE = 0.02  # of the brain, without maps
MEAN_FLOW, FAR_FLOW = 0.03, 0.1  # of CBF and CBV: parts of what the clean map reaches in 95 % of the brain


@dataclasses.dataclass(frozen=True)
class Read:
    """What a reader made of its files.

    Attributes:
      arrays: results that are compared by what a person would call wrong, or bit for bit.
      exact: what must be equal.
      findings: (name, severity) of everything that was said.
    """

    arrays: dict[str, np.ndarray]
    exact: Any = None
    findings: frozenset[tuple[str, str]] = frozenset()


def maps_differ(clean: dict[str, np.ndarray], other: dict[str, np.ndarray], brain: np.ndarray) -> str:
    """Which map a person would call wrong: its mean is off by 0.1 s, or more than 1 % of the brain by 1 s.

    CBF and CBV: 3 % and 10 % of what the clean map reaches in 95 % of the brain.
    """
    for name, values in clean.items():
        if other[name].shape != values.shape:
            return f"{name} has another shape"
        level = float(np.percentile(values[brain], 95))
        mean, far = (MEAN_SECONDS, FAR_SECONDS) if name in TIMES else (MEAN_FLOW * level, FAR_FLOW * level)
        apart = np.abs(other[name] - values)[brain]
        if not np.isfinite(apart).all() or apart.mean() > mean or (apart > far).mean() > FAR_SHARE:
            return f"{name} is off by {apart.mean():.3g} in the mean, {(apart > far).mean():.1%} far"
    return ""


def places_differ(clean: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> str:
    """Whether a corner of the volume lies more than a voxel from where it was."""
    last = np.array(shape[:3]) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    apart = np.linalg.norm(corners @ (clean - other).T, axis=1).max()
    edge = np.linalg.norm(clean[:3, :3], axis=0).max()
    return f"a corner is {apart:.3g} mm elsewhere" if not apart <= edge else ""


def bits_differ(clean: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> str:
    """Which array is not the same, bit for bit."""
    if clean.keys() != other.keys():
        return "other arrays"
    return next((f"{name} differs" for name in clean if not np.array_equal(clean[name], other[name])), "")


class Reader:
    """A clean world and the way from its files to a result.

    Attributes:
      folder: of the clean world, made by `make` once.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        if not folder.is_dir():
            partial = folder.with_name(folder.name + ".new")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.make(partial)
            partial.rename(folder)

    def make(self, folder: pathlib.Path) -> None:
        """Writes the clean world."""
        raise NotImplementedError

    def copied(self, place: pathlib.Path) -> pathlib.Path:
        """A copy to be spoiled."""
        return pathlib.Path(shutil.copytree(self.folder, place, symlinks=True))

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        """What becomes of it."""
        raise NotImplementedError

    def differs(self, clean: Read, other: Read) -> str:
        """Why the result is another one; empty where it is the same."""
        return bits_differ(clean.arrays, other.arrays) or ("" if clean.exact == other.exact else "values differ")


class OneExam(Reader):
    """A series, its sidecar, a mask and an arterial table -> maps in files, by a quick method, without pictures."""

    def make(self, folder: pathlib.Path) -> None:
        exam = draw_phantom("acute", (77, 5), size=32, slices=4)
        frames = slice(0, 48)
        sidecar = {"RepetitionTime": exam.frame_seconds, "EchoTime": exam.echo_seconds}
        how = {"dtype": np.int16, "frame_seconds": exam.frame_seconds, "sidecar": sidecar}
        nifti.write_volume(folder / "sub-1_dsc.nii", exam.series[..., frames], exam.affine, **how)
        nifti.write_volume(folder / "mask.nii", exam.mask, exam.affine, dtype=np.uint8)
        rows = zip(exam.arterial_seconds[frames], exam.arterial_mm[frames], strict=True)
        curve = "".join(f"{second:.4f}\t{mm:.5f}\n" for second, mm in rows)
        (folder / "aif.tsv").write_text("time_seconds\tconcentration_mM\n" + curve)

    def given(self, folder: pathlib.Path) -> dict[str, Any]:
        """What else the command is given."""
        del folder
        return {}

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        packed = folder / "sub-1_dsc.nii.gz"
        series = packed if packed.exists() or not (folder / "sub-1_dsc.nii").exists() else folder / "sub-1_dsc.nii"
        settings = Settings(method="csvd", motion="none", scale="none")
        with (
            mock.patch.object(conventional_files.exam_page, "write", return_value=[]),
            mock.patch.object(conventional_files.conventional_page, "pictures_of", return_value=Pictures(b"")),
            mock.patch.object(conventional_files.conventional_page, "picture", return_value=b""),
            mock.patch.object(conventional_files.conventional_page, "curves_of", return_value=None),
            mock.patch.object(conventional_files.conventional_page, "page_of", return_value=None),
            mock.patch.object(conventional_files.exam_page, "with_flags", return_value=None),
        ):
            paths, found = conventional_files.deconvolve_file(series, output, settings, **self.given(folder))
        maps = {path.name: nifti.read_volume(path, 3) for path in paths if path.name.endswith(".nii.gz")}
        brain = nifti.read_volume(output / "sub-1_mask.nii.gz", 3).data > 0
        arrays = {name.split("_")[1].split(".")[0]: volume.data for name, volume in maps.items()}
        affine = next(iter(maps.values())).affine
        return Read({**arrays, "brain": brain, "affine": affine}, None, said(found))

    def differs(self, clean: Read, other: Read) -> str:
        names = [name for name in clean.arrays if name not in ("brain", "affine")]
        one, two = ({name: read.arrays[name] for name in names} for read in (clean, other))
        shape = clean.arrays["brain"].shape
        if place := places_differ(clean.arrays["affine"], other.arrays["affine"], shape):
            return place
        if shape != other.arrays["brain"].shape:
            return "another shape"
        both = clean.arrays["brain"] & other.arrays["brain"]
        lost = 1 - both.sum() / clean.arrays["brain"].sum()
        return f"{lost:.1%} of the brain has no maps" if lost > LOST_SHARE else maps_differ(one, two, both)


class WithMask(OneExam):
    """The same with a given mask."""

    def given(self, folder: pathlib.Path) -> dict[str, Any]:
        return {"mask": folder / "mask.nii"}


class WithCurve(OneExam):
    """The same with a given arterial curve."""

    def given(self, folder: pathlib.Path) -> dict[str, Any]:
        return {"aif": folder / "aif.tsv"}


def said(found: Any) -> frozenset[tuple[str, str]]:
    """Name and severity of findings."""
    return frozenset((finding.name, finding.severity) for finding in found)


class Folder(Reader):
    """Three exams with maps -> the prepared data set, every slice of it read."""

    def make(self, folder: pathlib.Path) -> None:
        invented.write_fake_cohort(folder / "root", 3)
        for path in (folder / "root").rglob("*_tmax.nii.gz"):  # unpacked, so that voxels can be spoiled
            unpacked = nifti.read_volume(path, 3)
            path.unlink()
            nifti.write_volume(path.with_name(nifti.stem_of(path) + ".nii"), unpacked.data, unpacked.affine)

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        return read_prepared(folder / "root", output)

    def differs(self, clean: Read, other: Read) -> str:
        if clean.arrays.keys() != other.arrays.keys() or clean.exact["splits"] != other.exact["splits"]:
            return "other slices, or in other splits"
        for subject in sorted({key.partition(" ")[0] for key in clean.arrays}):
            one, two = (_of_exam(read.arrays, subject) for read in (clean, other))
            if wrong := maps_differ(_by_name(one["maps"]), _by_name(two["maps"]), one["mask"] > 0):
                return f"{subject}: {wrong}"
            for field in one.keys() - {"maps"}:
                if (one[field] != two[field]).mean() > FAR_SHARE:
                    return f"{subject}: {field} differs"
        return ""


def _of_exam(arrays: dict[str, np.ndarray], subject: str) -> dict[str, np.ndarray]:
    """{field: all slices of an exam}, of arrays that are called `subject slice field`."""
    fields = {key.split(" ")[2] for key in arrays}
    keys = sorted(key for key in arrays if key.startswith(f"{subject} "))
    return {field: np.stack([arrays[key] for key in keys if key.split(" ")[2] == field]) for field in fields}


def _by_name(maps: np.ndarray) -> dict[str, np.ndarray]:
    """(..., map) -> {map: (...)}."""
    return {name: maps[..., index] for index, name in enumerate(MAP_NAMES)}


def read_prepared(root: pathlib.Path, cache: pathlib.Path) -> Read:
    """The data set of a folder of exams, built where it is not there: its slices, and who is in which split."""
    builder = invented.prepared_of(root, cache)
    arrays, metadata = {}, builder.info.metadata
    for split in layouts.SPLITS:
        slices = batches.Slices.of(builder, split, (*batches.FIELDS, "subject", "slice_index"))
        for index in range(len(slices)):
            example = slices(index)
            name = f"{example['subject'].item()} {int(example['slice_index'])} "
            arrays |= {name + field: np.asarray(example[field]) for field in batches.FIELDS}
    data = DataRecord.of(metadata, "exams", {})
    findings = [Finding.from_json(one) for found in metadata["findings"].values() for one in found]
    about = {"splits": data.splits, "ranges": data.ranges, "medians": data.medians, "features": data.features}
    return Read(arrays, json.loads(json.dumps(about)), said(findings))


class Changed(Folder):
    """The same where the data set was built before the exams changed."""

    def make(self, folder: pathlib.Path) -> None:
        super().make(folder)
        read_prepared(folder / "root", folder / "cache")

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        got = read_prepared(folder / "root", folder / "cache")
        afresh = read_prepared(folder / "root", output)
        stale = bits_differ(afresh.arrays, got.arrays) or ("" if afresh.exact == got.exact else "other values")
        return Read(got.arrays, stale, got.findings)

    def differs(self, clean: Read, other: Read) -> str:
        return str(other.exact)


class Prepared(Reader):
    """A prepared data set whose files are spoiled; its exams are not."""

    def make(self, folder: pathlib.Path) -> None:
        invented.write_fake_cohort(self.folder.with_name("exams-of-prepared"), 3)
        read_prepared(self.folder.with_name("exams-of-prepared"), folder / "cache")

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        return read_prepared(self.folder.with_name("exams-of-prepared"), folder / "cache")


class Table(Reader):
    """participants.tsv of ten exams, of which the series' names alone are looked at -> who is in which split."""

    def make(self, folder: pathlib.Path) -> None:
        names = [f"sub-{number:04d}" for number in range(1, 11)]
        for name in names:
            (folder / name / "perf").mkdir(parents=True)
            (folder / name / "perf" / f"{name}_dsc.nii.gz").touch()
        splits = ["train"] * 6 + ["validation"] * 2 + ["test", "exclude"]
        rows = "".join(f"{name}\t{split}\n" for name, split in zip(names, splits, strict=True))
        (folder / "participants.tsv").write_text("participant_id\tsplit\n" + rows)

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        subjects = layouts.find_subjects(folder)
        return Read({}, layouts.assign_splits(subjects, (0.7, 0.1, 0.2), 0))


def tiny_network() -> tuple[Any, CheckpointRecord, networks.Networks, Any]:
    """Config, record, structure and state of a network that learned nothing."""
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(runs.QUICK)
    structure, _, begun = state.create(
        config.model, config.train, frames=config.data.frames, n_targets=1, seed=0, total_steps=6
    )
    scaling = Scaling("relative", Limits(0.0, 2.0), ("tmax",), (Limits(0.0, 12.0),), True)
    data = DataRecord("phantom exams", "0123", {"sub-1": "train"}, {"sub-1": 5}, features={"frame_seconds": [1.0, 2.0]})
    return config, CheckpointRecord(config, scaling, data, {"dscgan_jax": "0"}), structure, begun


def record_of(record: CheckpointRecord) -> Any:
    """A record as text that can be compared, NaN included."""
    return json.dumps(record.to_json(), sort_keys=True)


class Checkpoint(Reader):
    """A run's checkpoint -> the network as it predicts, and the state as training takes it up again."""

    def make(self, folder: pathlib.Path) -> None:
        _, record, _, begun = tiny_network()
        kept = checkpoints.Checkpoints(folder / "run")
        kept.save(begun.replace(step=begun.step + 6), record, 0.5)
        kept.close()

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        network = weights.of_run(folder / "run")
        Predictor(network)
        kept = checkpoints.Checkpoints(folder / "run")
        try:
            resumed = kept.restore(network.step, tiny_network()[3])
            record = kept.record(network.step)
        finally:
            kept.close()
        arrays = {"network": network.variables, "resumed": resumed}
        leaves = {
            jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in jax.tree_util.tree_leaves_with_path(arrays)
        }
        return Read(leaves, (record_of(network.record), record_of(record), network.step))


class WeightsFile(Reader):
    """A file of weights -> the network."""

    def make(self, folder: pathlib.Path) -> None:
        _, record, _, begun = tiny_network()
        variables = jax.device_get(begun.generator)
        digest = provenance.digest(variables)
        network = weights.Weights("small", "0.1.0", 7, "best", record, variables, digest)
        weights.write(network, folder / "small.safetensors")

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        network = weights.load(folder / "small.safetensors")
        Predictor(network)
        leaves = jax.tree_util.tree_leaves_with_path(network.variables)
        arrays = {jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in leaves}
        return Read(arrays, (record_of(network.record), network.name, network.step, network.version))


class Forged(WeightsFile):
    """The same of a file whose digests were forged with it: it is another network, or costs one line."""

    def differs(self, clean: Read, other: Read) -> str:
        del clean, other
        return ""


class Dicom(Reader):
    """The DICOM files of one exam -> its series, times and place."""

    def make(self, folder: pathlib.Path) -> None:
        array = invented.fake_arrays((16, 16, 2), 24, arrival=6.0)[0]
        dicoms.write_series(folder / "exam", dicoms.Series(array, tilt_degrees=0.0))

    def read(self, folder: pathlib.Path, output: pathlib.Path) -> Read:
        with inputs.lone_exam(folder / "exam") as files:
            exam = exams.load_exam(files)
        arrays = {"series": exam.series, "affine": exam.affine, "mask": exam.mask}
        unknown = {("echo_time_unknown", "note")} if np.isnan(exam.echo_seconds) else set()  # as each method says it
        return Read(arrays, (exam.frame_seconds, exam.echo_seconds), said(exam.findings) | unknown)

    def differs(self, clean: Read, other: Read) -> str:
        if clean.exact != other.exact:
            return f"times {other.exact} instead of {clean.exact}"
        one, two = clean.arrays["series"], other.arrays["series"]
        if one.shape != two.shape:
            return f"shape {two.shape} instead of {one.shape}"
        if place := places_differ(clean.arrays["affine"], other.arrays["affine"], one.shape):
            return place
        off = np.abs(one - two) > 0.1 * one.mean()  # a frame of one slice is 2 % of these values
        return f"{off.mean():.1%} of the values differ" if off.mean() > FAR_SHARE else ""
