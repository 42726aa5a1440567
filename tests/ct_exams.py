"""CT perfusion made from a phantom of MRI: the same enhancement in HU, a skull, a scalp, and air."""

import numpy as np
from scipy import ndimage

from dscgan_jax.perfusion import brain

PEAK_HU = 6.0  # of the brain's mean curve


def ct_of(exam, noise_hu=0.5, seed=0):
    """(x, y, z, time) HU on the axes of an exam of MRI, whose delta R2* become enhancement."""
    series, timing = exam.series, exam.timing
    before = np.maximum(series[..., timing.baseline_begin : timing.baseline_end].mean(-1), 1.0)
    found = brain.brain_mask(series, exam.affine)
    enhanced = np.where(found.brain[..., None], -np.log(np.maximum(series, 1.0) / before[..., None]), 0.0)
    enhanced *= PEAK_HU / enhanced[found.tissue].mean(0).max()
    return head_hu(found, exam.voxel_mm)[..., None] + enhanced + _noise(series.shape, noise_hu, seed)


def head_hu(found, voxel_mm):
    """(x, y, z) HU: brain 35, fluid 8, skull 1000 around it, scalp 45, air -1000."""
    outside = np.stack(
        [ndimage.distance_transform_edt(~slab, sampling=voxel_mm[:2]) for slab in np.moveaxis(found.brain, 2, 0)], 2
    )
    hu = np.select([outside <= 2, outside <= 9, outside <= 16], [8.0, 1000.0, 45.0], -1000.0)
    hu[found.brain] = np.where(found.tissue, 35.0, 8.0)[found.brain]
    return hu


def _noise(shape, noise_hu, seed):
    return np.random.default_rng(seed).normal(0.0, noise_hu, shape)


def small_ct(shape=(16, 16, 3), frames=40):
    """(x, y, z, time) HU of a disc-shaped head with a bolus, and its brain (x, y, z) bool."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    radius = x**2 + y**2
    brain_of = radius < 0.6
    since = np.maximum((np.arange(frames) - 10.0) / 4.0, 0.0)
    bolus = 8.0 * since**2 * np.exp(2 * (1 - since))
    head = np.select([brain_of, radius < 0.9], [35.0, 1000.0], -1000.0)
    return head[..., None] + brain_of[..., None] * bolus + _noise((*shape, frames), 0.5, 0), brain_of
