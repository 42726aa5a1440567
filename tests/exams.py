"""Invented exams for tests: 16 x 16 x 3 voxels, 64 frames of 1.5 s, one clear bolus, maps one can recompute."""

import json
import pathlib
from unittest import mock

import numpy as np

from dscgan_jax.configs import default
from dscgan_jax.data import dataset as builder
from dscgan_jax.data import nifti
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.perfusion.signal import find_bolus

FRAME_SECONDS = 1.5
ECHO_SECONDS = 0.03
AFFINE = np.array([[-8.0, 0, 0, 64], [0, 8.0, 0, -64], [0, 0, 5.0, 3], [0, 0, 0, 1]])  # LAS


def fake_arrays(shape=(16, 16, 3), frames=64, seed=0, arrival=12.0, transient=0.3):
    """Series (x, y, z, time), maps {name: (x, y, z)} and mask of a disc-shaped brain.

    Signal 1000 with a gamma-variate dip; the dip's delay grows with x (Tmax), its depth with y (CBV).
    """
    random = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    mask = x**2 + y**2 < 0.8
    tmax = np.where(mask, 3.0 + 2.0 * x + 0.3 * z, 0.0)
    cbv = np.where(mask, 3.0 + y, 0.0)
    seconds = np.arange(frames) * FRAME_SECONDS
    since = np.maximum((seconds - arrival * FRAME_SECONDS - tmax[..., None]) / 5.0, 1e-9)
    dip = 0.12 * cbv[..., None] * since**2 * np.exp(2 * (1 - since))
    signal = np.where(mask, 1000.0, 10.0)[..., None] * np.exp(-dip * mask[..., None])
    if transient:
        signal[..., 0] *= 1 + transient
    signal = signal + random.normal(0, 5, signal.shape)
    maps = {
        "cbf": cbv * 12.0,
        "cbv": cbv,
        "mtt": np.where(mask, 5.0 + y, 0.0),
        "tmax": tmax,
        "ttp": np.where(mask, arrival * FRAME_SECONDS + 10.0 + tmax, 0.0),
    }
    return (
        np.rint(np.clip(signal, 0, 30000)).astype(np.float32),
        {name: values.astype(np.float32) for name, values in maps.items()},
        mask,
    )


def exam_of(
    series,
    mask,
    affine=AFFINE,
    *,
    maps=None,
    frame_seconds=FRAME_SECONDS,
    echo_seconds=ECHO_SECONDS,
    mask_source="file",
    timing=None,
    subject="sub-1",
):
    """An exam of arrays on the axes of `affine`, turned to RAS and otherwise unchecked."""
    stored = StoredGrid.of(series, affine)
    timing = timing or find_bolus(series[mask].mean(axis=0, dtype=np.float64))
    return Exam(
        subject,
        stored.to_ras(series),
        stored,
        frame_seconds,
        echo_seconds,
        {name: stored.to_ras(values) for name, values in (maps or {}).items()},
        stored.to_ras(mask),
        mask_source,
        timing,
        (),
    )


def stored_arrays(exam):
    """Series, maps and mask of an exam on the axes of its file."""
    turn = exam.stored.to_stored
    return turn(exam.series), {name: turn(values) for name, values in exam.maps.items()}, turn(exam.mask)


def write_fake_exam(
    root,
    subject="sub-0001",
    *,
    seed=0,
    maps=("cbf", "cbv", "mtt", "tmax", "ttp"),
    mask=True,
    sidecar=True,
    affine=AFFINE,
    shape=(16, 16, 3),
    frames=64,
    **changes,
) -> pathlib.Path:
    """Writes one subject of the `bids` layout and returns its perf folder."""
    folder = pathlib.Path(root) / subject / "perf"
    folder.mkdir(parents=True, exist_ok=True)
    series, volumes, brain = fake_arrays(shape, frames, seed, **changes)
    nifti.write_volume(
        folder / f"{subject}_dsc.nii.gz",
        series,
        affine,
        dtype=np.int16,
        frame_seconds=FRAME_SECONDS if sidecar else None,
        sidecar={"RepetitionTime": FRAME_SECONDS, "EchoTime": ECHO_SECONDS} if sidecar else None,
    )
    for name in maps:
        nifti.write_volume(folder / f"{subject}_{name}.nii.gz", volumes[name], affine)
    if mask:
        nifti.write_volume(folder / f"{subject}_mask.nii.gz", brain, affine, dtype=np.uint8)
    return folder


def write_fake_cohort(root, n_subjects=3, splits=("train", "validation", "test"), **changes) -> pathlib.Path:
    """Writes subjects sub-0001, ... with participants.tsv (no split column where `splits` is None)."""
    root = pathlib.Path(root)
    rows = ["participant_id" + ("\tsplit" if splits else "")]
    for number in range(1, n_subjects + 1):
        subject = f"sub-{number:04d}"
        write_fake_exam(root, subject, seed=number, **changes)
        rows.append(subject + (f"\t{splits[(number - 1) % len(splits)]}" if splits else ""))
    (root / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def rewrite_sidecar(path, **fields) -> None:
    """Changes fields of a JSON sidecar; None removes one."""
    path = pathlib.Path(path)
    record = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


def write_anything(path, data, affine, **changes) -> None:
    """A file as others write it: also with what is not finite, which our own writer refuses."""
    with mock.patch.object(nifti, "_check_finite"):
        nifti.write_volume(path, data, affine, **changes)


def truncate(path) -> None:
    """Cuts the end off a file."""
    path = pathlib.Path(path)
    path.write_bytes(path.read_bytes()[:-30])


def config_of(root, cache, **data):
    """A config whose network grid is that of the invented exams, so that nothing is interpolated."""
    config = default.get_config()
    config.data.update(root=str(root), cache_dir=str(cache), size=16, slices=0, frames=64, **data)
    return config


def prepared_of(root, cache, **data):
    """The prepared data set of that config."""
    return builder.prepared(config_of(root, cache, **data), progress=False)
