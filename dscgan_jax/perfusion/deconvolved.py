"""What any way of deconvolution gives. Without JAX: who reads maps need not wait for what makes them."""

from typing import NamedTuple

import numpy as np


class Deconvolved(NamedTuple):
    """The maps of deconvolution, (voxel,) float32 each.

    Attributes:
      cbf: mL/100 g/min.
      cbv: mL/100 g.
      mtt: s, 60 CBV / CBF.
      tmax: s, signed.
    """

    cbf: np.ndarray
    cbv: np.ndarray
    mtt: np.ndarray
    tmax: np.ndarray
