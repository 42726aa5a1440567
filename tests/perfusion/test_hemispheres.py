"""The plane between the hemispheres, white matter of the half that does not leak, and flow against the other half."""

import numpy as np
import pytest

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import hemispheres
from dscgan_jax.perfusion.deconvolved import Deconvolved

MM = np.array([2.0, 2.0, 5.0])


def head(turned: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid turned about z by so many degrees, and each voxel's true distance from its middle plane, mm."""
    index = np.stack(np.indices((80, 90, 6)), axis=-1)
    x, y, z = np.moveaxis((index - (38.0, 44.5, 2.5)) * MM, -1, 0)
    angle = np.deg2rad(turned)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (across / 62) ** 2 + (along / 78) ** 2 + (z / 60) ** 2 < 1, across


@pytest.mark.parametrize("turned", [0.0, 6.0])
def test_the_plane_follows_a_head_that_is_turned(turned):
    tissue, across = head(turned)
    found = hemispheres.signed_distance_mm(tissue, MM)
    clear = tissue & (np.abs(across) > 4.0)
    assert (np.sign(found) == np.sign(across))[clear].mean() > 0.995


def flow(tissue: np.ndarray, across: np.ndarray) -> Deconvolved:
    """Grey matter of 60 at the sides, white matter of 22 between."""
    cbf = np.where(np.abs(across) > 40, 60.0, 22.0)[tissue].astype(np.float32)
    return Deconvolved(cbf, cbf / 12, np.full_like(cbf, 5.0), np.full_like(cbf, 2.0))


def test_white_matter_is_taken_from_the_other_half():
    tissue, across = head()
    leaking = tissue & (np.abs(across - 30) < 6)
    found = Findings()
    white = hemispheres.white_matter_opposite(flow(tissue, across), tissue, leaking, MM, 2.0, found)
    assert found.listed() == () and white.sum() > 1000
    assert (across[tissue][white] < -7).all() and (np.abs(across[tissue][white]) <= 40).all()


@pytest.mark.parametrize(
    ("where", "why"),
    [(lambda across: across > 1e9, "no tissue leaks"), (lambda across: np.abs(across) < 12, "both hemispheres")],
)
def test_where_the_ill_half_is_not_known_the_reason_is_told(where, why):
    tissue, across = head()
    found = Findings()
    white = hemispheres.white_matter_opposite(flow(tissue, across), tissue, tissue & where(across), MM, 2.0, found)
    assert white is None and why in found.listed()[0].text


def ill_head(scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """CBF of 50, on the right a late region of 20 with a core of 14: below 15, which is 30 % of 50; and air around."""
    tissue, across = head(turned=6.0)
    late, core = tissue & (np.abs(across - 36) < 12), tissue & (np.abs(across - 36) < 5)
    cbf = np.where(core, 14.0, np.where(late, 20.0, 50.0)) * scale
    return np.where(tissue, cbf, np.nan).astype(np.float32), late, tissue, core


@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_the_core_is_late_tissue_with_less_than_30_percent_of_the_flow_of_the_other_half(scale):
    cbf, late, tissue, core = ill_head(scale)
    normal_right = tissue & ~late & (np.indices(tissue.shape)[0] > 45)
    cbf[normal_right] = 300.0 * scale  # the own half is not what it is compared with
    cbf[normal_right & (np.indices(tissue.shape)[1] < 30)] = 1.0 * scale  # and what is not late is no core
    np.testing.assert_array_equal(hemispheres.low_flow_core(cbf, late, tissue, MM), core)
    cbf[core] = 16.0 * scale
    assert not hemispheres.low_flow_core(cbf, late, tissue, MM).any()


def test_lesions_of_both_halves_are_each_compared_with_the_other():
    cbf, late, tissue, core = ill_head()
    _, across = head(turned=6.0)
    left = tissue & (np.abs(across + 36) < 5)
    cbf[left] = 14.0
    np.testing.assert_array_equal(hemispheres.low_flow_core(cbf, late | left, tissue, MM), core | left)


def test_without_normal_tissue_opposite_there_is_no_core_to_tell_and_without_late_tissue_it_is_empty():
    cbf, late, tissue, _ = ill_head()
    _, across = head(turned=6.0)
    assert hemispheres.low_flow_core(cbf, late | (across < 8), tissue, MM) is None
    assert not hemispheres.low_flow_core(cbf, np.zeros_like(late), tissue, MM).any()


@pytest.mark.parametrize("turned", [0.0, 12.0])
def test_the_mirror_of_a_region_is_its_place_in_the_other_half(turned):
    tissue, across = head(turned)
    angle = np.deg2rad(turned)
    x, y = ((np.indices(tissue.shape)[axis] - middle) * 2.0 for axis, middle in ((0, 38.0), (1, 44.5)))
    front = y * np.cos(angle) - x * np.sin(angle) > 15.0  # a mirror along the rows of the image would turn this
    region, expected = (tissue & (np.abs(across - at) < 12) & front for at in (36, -36))
    found = hemispheres.mirrored(region, hemispheres.signed_distance_mm(tissue, MM), MM)
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert dice > 0.95


def test_what_has_its_mirror_image_outside_the_picture_is_no_mirror():
    from_middle = (np.indices((10, 4, 2))[0] - 2.0) * MM[0]
    region = np.zeros((10, 4, 2), bool)
    region[[3, 8]] = True
    found = hemispheres.mirrored(region, from_middle, MM)
    np.testing.assert_array_equal(np.flatnonzero(found.any(axis=(1, 2))), [1])
