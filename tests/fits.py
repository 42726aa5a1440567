"""What the tests of deconvolution share: small blocks, tables built once, and a phantom as `measure` takes it."""

import contextlib

import numpy as np
import pytest

from dscgan_jax.perfusion import deconvolution, kinetics, parametric, signal
from dscgan_jax.perfusion.measurement import Given
from dscgan_jax.phantom.exam import Phantom


@contextlib.contextmanager
def small_blocks_and_tables_once():
    """Blocks of one chunk, so that an exam of few voxels computes few; the same tables are built once."""
    tables, build = {}, parametric.build_dictionary

    def build_once(arterial, *how, **more):
        asked = (
            *(value.tobytes() if isinstance(value, np.ndarray) else value for value in (arterial, *how)),
            *more.items(),
        )
        if asked not in tables:
            tables[asked] = build(arterial, *how, **more)
        return tables[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deconvolution, "BLOCK", deconvolution._CHUNK)
        patch.setattr(parametric, "build_dictionary", build_once)
        yield


def arguments(exam: Phantom, series=None):
    """Series, affine, frame length and echo time; another series where one is given."""
    return exam.series if series is None else series, exam.affine, exam.frame_seconds, exam.echo_seconds


def truth(exam: Phantom) -> Given:
    """The true mask and AIF."""
    return Given(exam.mask, None, exam.arterial_seconds, exam.arterial_mm)


def with_artery(exam: Phantom, tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The series with an M1 of pure blood in 12 voxels within the tissue, and these voxels."""
    artery = np.zeros_like(tissue)
    artery[tuple(np.argwhere(tissue)[300:312].T)] = True
    course = signal.signal_after(
        1.0, kinetics.delta_r2star_of(exam.arterial_mm, kinetics.BLOOD_RELAXIVITY), exam.echo_seconds
    )
    series = exam.series.astype(np.float32)
    series[artery] = 1000.0 * course
    return series, artery
