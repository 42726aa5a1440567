"""What the tests of deconvolution share: small blocks, and tables that are built once."""

import contextlib

import numpy as np
import pytest

from dscgan_jax.perfusion import deconvolution, parametric


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
