"""The network on a real exam, whose truth nobody knows: against the measured signal, and the parametric fit."""

import pathlib

import numpy as np
from shipped_network_pictures import packed
from shipped_network_records import Record

from dscgan_jax.data.exams import load_exam
from dscgan_jax.evaluation.metrics import pearson_r
from dscgan_jax.figures import ink
from dscgan_jax.figures.panels import axial, bolus_frame
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods import conventional
from dscgan_jax.methods.network import Predictor

MOST_POINTS = 1500  # of a scatter plot


def lowest_seconds(series: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Time of each curve's lowest signal, s from the first frame: vertex of the parabola through it and its neighbours.

    Args:
      series: (voxel, time).
      frame_seconds: frame length.
    """
    series = np.asarray(series, np.float64)
    lowest = series.argmin(axis=1).clip(1, series.shape[1] - 2)
    before, at, after = (series[np.arange(len(series)), lowest + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    offset = np.where(bend > 0, 0.5 * (before - after) / np.where(bend > 0, bend, 1), 0)
    return (lowest + offset.clip(-1, 1)) * frame_seconds


def agreement(found: np.ndarray, against: np.ndarray) -> Record:
    """Correlation, mean difference, and what is left of the absolute difference without it."""
    difference = found - against
    return {
        "r": pearson_r(found, against),
        "mean_difference": float(difference.mean()),
        "centred_mae": float(np.abs(difference - difference.mean()).mean()),
        "voxels": len(found),
    }


def study_real(path: pathlib.Path, predictor: Predictor) -> Record:
    """Numbers and pictures of one series."""
    exam = load_exam(path)
    network = predictor.predict(exam)
    fit = conventional.by_methods(exam, conventional.DEFAULTS, ("parametric",))["parametric"].maps
    assert network.mask is not None and fit.mask is not None
    both = network.mask & fit.mask
    lowest = lowest_seconds(exam.series[both], exam.frame_seconds)
    pairs = {
        "ttp": ("time of the lowest signal [s]", lowest),
        "tmax": ("Tmax, parametric fit [s]", fit["tmax"][both]),
    }
    arrival = exam.timing.arrival_seconds(exam.frame_seconds)
    windows = {name: MAPS[name].window_of(arrival) for name in MAP_NAMES}
    first_pass = (lowest >= windows["ttp"][0]) & (lowest <= windows["ttp"][1])
    every = max(1, len(lowest) // MOST_POINTS)
    z = int(network.mask.sum(axis=(0, 1)).argmax())
    frames = np.moveaxis(axial(exam.series, z), -1, 0)
    frame = frames[bolus_frame(frames, axial(network.mask, z))]
    curve = exam.series[network.mask].mean(axis=0, dtype=np.float64)
    return {
        "name": path.name,
        "shape": list(exam.series.shape),
        "frame_seconds": exam.frame_seconds,
        "findings": [one.text for one in network.findings if one.severity == "warning"],
        "brain_voxels": int(network.mask.sum()),
        "units": {"network": network.units, "parametric": fit.units},
        **{name: agreement(network[name][both], against) for name, (_, against) in pairs.items()},
        "ttp_first_pass": agreement(network["ttp"][both][first_pass], lowest[first_pass]),
        "first_pass_seconds": list(windows["ttp"]),
        "fit_ttp": agreement(fit["ttp"][both], lowest),
        "fit_ttp_first_pass": agreement(fit["ttp"][both][first_pass], lowest[first_pass]),
        "picture": {
            "aspect": float(exam.voxel_mm[1] / exam.voxel_mm[0]),
            "frame": packed(frame, 0.0, ink.white_level(frame, axial(network.mask, z))),
            "curves": {"seconds": (np.arange(len(curve)) * exam.frame_seconds).tolist(), "signal": curve.tolist()},
            **{
                source: {name: packed(axial(maps[name], z), *windows[name]) for name in MAP_NAMES}
                for source, maps in (("network", network), ("parametric", fit))
            },
            "voxels": {
                MAPS[name].title: {
                    "of_x": of_x,
                    "x": against[::every].tolist(),
                    "y": network[name][both][::every].tolist(),
                }
                for name, (of_x, against) in pairs.items()
            },
        },
    }
