"""The masks of heads whose tissue we know: drawn phantoms, a head of circles, and a real exam."""

from unittest import mock

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from dscgan_jax.data.exams import load_exam
from dscgan_jax.errors import InputError
from dscgan_jax.perfusion.brain import brain_mask, infarct, otsu_threshold
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.exam import draw_phantom

AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])
SIZE, SLICES, FRAMES = 64, 3, 40


def _course(frames):
    """Of the bolus, 1 at the peak."""
    return np.exp(-0.5 * ((frames - 16) / 2.5) ** 2)


@pytest.fixture(scope="module")
def acute():
    return draw_phantom("acute", 3, size=64, slices=8)


@pytest.fixture(scope="module")
def acute_mask(acute):
    return brain_mask(acute.series, acute.affine)


def _disc(x, y, radius_mm):
    """(x, y, z) bool, centre in millimetres from that of the volume."""
    across = (np.arange(SIZE) - 0.5 * (SIZE - 1)) * 3.0
    return np.repeat((np.hypot(across[:, None] - x, across[None] - y) <= radius_mm)[:, :, None], SLICES, axis=2)


PARTS = {  # of the head of circles, drawn one over the other: place, signal, delta R2* TE at the peak
    "scalp": (_disc(0, 0, 90), 400, 0.05),
    "skull": (_disc(0, 0, 81), 40, 0.0),
    "rim": (_disc(0, 0, 72), 1700, 0.0),
    "grey": (_disc(0, 0, 66), 1050, 0.4),
    "white": (_disc(0, 0, 54), 850, 0.2),
    "ventricle": (_disc(0, 12, 10), 1700, 0.0),
}


def _head(*more, noise=8.0):
    """(x, y, z, time) of the head of circles with further parts, and which part each voxel is.

    A part may have a fourth value: how many frames its blood is late.
    """
    parts = list(PARTS.values()) + list(more)
    signal, depth, late, part = np.zeros((4, SIZE, SIZE, SLICES))
    for number, (place, level, drop, *frames) in enumerate(parts, start=1):
        signal[place], depth[place], late[place], part[place] = level, drop, sum(frames), number
    rng = np.random.default_rng(0)
    course = _course(np.arange(FRAMES) - late[..., None])
    series = signal[..., None] * np.exp(-depth[..., None] * course) + noise * rng.standard_normal(
        (*signal.shape, FRAMES)
    )
    return np.abs(series).astype(np.float32), part.astype(int)


def _dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def _outline(mask):
    """Sulci bridged, holes filled, slice by slice."""
    disc = ndimage.generate_binary_structure(2, 1)
    closed = [ndimage.binary_closing(plane, disc, iterations=2) for plane in np.moveaxis(mask, 2, 0)]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed], axis=2)


# --------------------------------------------------------------------------------------------- phantoms


def test_masks_of_a_phantom_are_the_true_ones(acute, acute_mask):
    assert acute_mask.tissue.dtype == acute_mask.brain.dtype == bool
    assert _dice(acute_mask.tissue, acute.mask) > 0.97
    assert _dice(acute_mask.brain, _outline(acute.mask)) > 0.97
    assert not (acute_mask.tissue & ~acute_mask.brain).any()


def test_an_infarct_of_a_phantom_stays(acute, acute_mask):
    lesion = acute.lesion > 0
    assert lesion.sum() > 500
    assert (lesion & ~acute_mask.tissue).sum() <= 0.03 * lesion.sum()


def test_ventricles_and_sinuses_of_a_phantom_are_brain_but_no_tissue(acute, acute_mask):
    deep = ndimage.binary_erosion(_outline(acute.mask), np.ones((9, 9, 1)))
    ventricle = (acute.shares["csf"] > 0.95) & deep
    assert ventricle.sum() > 50
    assert (acute_mask.tissue & ventricle).sum() < 0.05 * ventricle.sum()
    assert (acute_mask.brain & ventricle).sum() == ventricle.sum()
    sinus = acute.shares["sinus"] > 0.8
    assert sinus.any() and (acute_mask.tissue & sinus).sum() < 0.2 * sinus.sum()


def test_a_single_slice_is_enough():
    phantom = draw_phantom("chronic", 7, size=64, slices=1)
    assert _dice(brain_mask(phantom.series, phantom.affine).tissue, phantom.mask) > 0.96


def test_integers_and_floats_give_one_mask_and_stay_untouched(acute, acute_mask):
    series = acute.series.astype(np.float32)
    found = brain_mask(series, acute.affine)
    np.testing.assert_array_equal(found.tissue, acute_mask.tissue)
    np.testing.assert_array_equal(found.brain, acute_mask.brain)
    np.testing.assert_array_equal(series, acute.series)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_series_gives_the_flipped_mask(acute, acute_mask, axis):
    found = brain_mask(np.flip(acute.series, axis), acute.affine)
    np.testing.assert_array_equal(np.flip(found.tissue, axis), acute_mask.tissue)
    np.testing.assert_array_equal(np.flip(found.brain, axis), acute_mask.brain)


def test_the_units_of_the_scanner_and_an_oblique_affine_change_nothing(acute, acute_mask):
    oblique = acute.affine.copy()
    oblique[:3, :3] = Rotation.from_euler("xyz", [25, 10, 40], degrees=True).as_matrix() @ oblique[:3, :3]
    found = brain_mask(acute.series * np.float32(0.01), oblique)
    assert _dice(found.tissue, acute_mask.tissue) > 0.999


def test_a_stripped_skull_changes_nothing_inside(acute):
    found = brain_mask(np.where(acute.mask[..., None], acute.series, 0), acute.affine)
    assert _dice(found.tissue, acute.mask) > 0.99 and not (found.tissue & ~acute.mask).any()


@pytest.mark.parametrize("brightness", [1.3, 2.0, 3.0])
def test_scalp_brighter_than_a_phantoms_brain_changes_hardly_anything(acute_mask, brightness):
    with mock.patch.dict(acquisition.SIGNAL_OF, scalp=brightness):
        bright = draw_phantom("acute", 3, size=64, slices=8)
    found = brain_mask(bright.series, bright.affine)
    assert _dice(found.brain, acute_mask.brain) > 0.98 and _dice(found.tissue, acute_mask.tissue) > 0.98
    assert (found.tissue & bright.mask).sum() > 0.98 * bright.mask.sum()


def test_a_head_may_touch_the_border(acute):
    columns, rows = np.flatnonzero(acute.mask.any((1, 2))), np.flatnonzero(acute.mask.any((0, 2)))
    part = np.s_[columns[0] + 4 :, : rows[-1] - 3]
    assert _dice(brain_mask(acute.series[part], acute.affine).tissue, acute.mask[part]) > 0.97


# ------------------------------------------------------------------------------------------- hand-made heads


def test_each_part_of_a_head_of_circles_goes_where_it_belongs():
    series, part = _head()
    found = brain_mask(series, AFFINE)
    in_tissue = {name: found.tissue[part == number].mean() for number, name in enumerate(PARTS, start=1)}
    assert in_tissue == {"scalp": 0, "skull": 0, "rim": 0, "grey": 1, "white": 1, "ventricle": 0}
    assert found.brain[part >= list(PARTS).index("grey") + 1].all() and not found.brain[(part > 0) & (part <= 2)].any()


def test_a_dead_infarct_stays_at_the_surface_as_in_the_depth():
    deep, cortical = _disc(-25, -20, 15), _disc(45, 0, 15) & PARTS["grey"][0]
    series, part = _head((deep, 900, 0.0), (cortical, 1000, 0.0))
    assert brain_mask(series, AFFINE).tissue[part >= 7].all()


FLUID, DIMMED = (1.8, 0.0), (1.0, 0.05)  # brightness over that of tissue, first pass: the second where signal is lost


@pytest.mark.parametrize(
    ("around", "is_infarct"), [([(1.0, 0.5)], True), ([(1.0, 0.5), (0.5, 0.5)], False), ([FLUID, FLUID, DIMMED], False)]
)
def test_what_is_as_bright_as_tissue_without_a_first_pass_is_an_infarct_amid_tissue_with_flow(around, is_infarct):
    head, ring, inside = _disc(0, 0, 80), _disc(0, 60, 25), _disc(0, 60, 12)
    relative, first_pass = np.ones(head.shape), np.ones(head.shape)
    for number, values in enumerate(around):
        stripe = ring & (np.arange(SIZE)[:, None, None] % len(around) == number)
        relative[stripe], first_pass[stripe] = values
    relative[inside], first_pass[inside] = 1.0, 0.0
    found = infarct(first_pass, relative, head, np.array([3.0, 3.0, 5.0]))
    assert found[inside].mean() > 0.9 if is_infarct else not found.any()


def test_a_ragged_core_is_one_too_and_so_are_its_pieces_and_what_borders_the_outside():
    """Its edge holds more tissue without flow than the ring around it has tissue with flow; the skull was stripped."""
    head, core, piece = _disc(0, 0, 80), _disc(0, 66, 30) & _disc(0, 0, 80), _disc(45, 50, 9)
    fringe = (_disc(0, 66, 38) & head & ~core) & (np.random.default_rng(0).random(head.shape) < 0.7)
    relative, first_pass = np.where(head, 1.0, 0.0), np.where(head, 0.8, 0.0)
    first_pass[core | fringe | piece] = 0.0
    beside = _disc(45, 50, 16) & ~piece & ~core & ~fringe
    relative[beside], first_pass[beside] = 1.8, 0.0  # fluid: the piece alone would be none
    found = infarct(first_pass, relative, head, np.array([3.0, 3.0, 5.0]))
    assert found[core].mean() > 0.9 and found[piece].mean() > 0.9
    first_pass[core | fringe] = 0.8
    assert not infarct(first_pass, relative, head, np.array([3.0, 3.0, 5.0])).any()


def test_a_sinus_is_no_tissue_but_a_small_artery_is():
    series, part = _head((_disc(0, -57, 6), 950, 1.5), (_disc(30, 1.5, 1.6) & (np.arange(SLICES) == 1), 950, 1.5))
    found = brain_mask(series, AFFINE)
    assert not found.tissue[part == 7].any() and found.brain[part == 7].all()
    assert found.tissue[part == 8].all() and (part == 8).any()


def test_a_head_without_bright_csf_keeps_all_that_is_no_bone():
    series, part = _head((PARTS["ventricle"][0], 850, 0.2), (PARTS["rim"][0] & ~PARTS["grey"][0], 40, 0.0))
    np.testing.assert_array_equal(brain_mask(series, AFFINE).tissue, np.isin(part, [4, 5, 7]))


def test_the_coil_may_be_brighter_at_one_side():
    series, part = _head()
    across = np.linspace(-0.35, 0.35, SIZE, dtype=np.float32)[:, None, None, None]
    found = brain_mask(series * np.exp(across), AFFINE)
    assert _dice(found.tissue, np.isin(part, [4, 5])) > 0.99


def test_an_infarct_at_the_border_of_the_image_stays():
    series, part = _head((_disc(40, 0, 15), 900, 0.0))
    cut = np.s_[:45]
    assert (part[44] == 7).any() and brain_mask(series[cut], AFFINE).tissue[part[cut] == 7].all()


def test_of_two_equally_bright_sulci_the_one_with_a_first_pass_holds_tissue():
    series, part = _head((_disc(-25, -20, 8), 1500, 0.3), (_disc(25, -20, 8), 1500, 0.0))
    found = brain_mask(series, AFFINE)
    assert found.tissue[part == 7].all() and not found.tissue[part == 8].any() and found.brain[part >= 7].all()


@pytest.mark.parametrize(("share", "kept"), [(0.05, False), (0.15, False), (0.4, True), (0.5, True)])
def test_a_bright_voxel_stays_if_it_has_enough_tissue(share, kept):
    level = share * 950 + (1 - share) * 1700
    series, part = _head((_disc(25, -20, 8), level, 0.3 * share * 950 / level))
    tissue = brain_mask(series, AFFINE).tissue[part == 7]
    assert tissue.mean() > 0.95 if kept else tissue.mean() < 0.05


@pytest.mark.parametrize(("level", "drop"), [(1360, 0.0), (1360, 0.02), (1280, 0.0)])
def test_bright_tissue_without_a_first_pass_stays(level, drop):
    series, part = _head((_disc(25, -20, 14), level, drop))
    assert brain_mask(series, AFFINE).tissue[part == 7].all()


def test_noise_makes_no_tissue_of_fluid():
    series, part = _head((_disc(25, -20, 10), 1700, 0.0), noise=60.0)  # in 16 times as little as the signal of tissue
    tissue = brain_mask(series, AFFINE).tissue
    assert not tissue[np.isin(part, [6, 7])].any() and tissue[part == 3].mean() < 0.01
    assert tissue[np.isin(part, [4, 5])].all()


def test_a_vessel_in_fluid_that_is_brighter_than_fluid_is_no_tissue():
    series, part = _head((_disc(0, 12, 8), 1900, 0.5))  # wider than a speck
    assert not brain_mask(series, AFFINE).tissue[part >= 6].any()


@pytest.mark.parametrize(("drop", "kept"), [(0.08, True), (0.4, False)])
def test_amid_late_tissue_a_sulcus_may_be_brighter_where_there_is_little_flow(drop, kept):
    late = 5  # frames
    series, part = _head((_disc(-25, -15, 22), 950, drop, late), (_disc(-33, -15, 5), 1700, drop / 5, late), noise=2.0)
    sulcus = brain_mask(series, AFFINE).tissue[part == 8]
    assert sulcus.mean() > 0.9 if kept else not sulcus.any()


def test_a_sulcus_within_a_core_may_be_brighter_than_one_within_healthy_tissue():
    core, sulci = (_disc(-25, -15, 24), 950, 0.0), [(_disc(x, -15, 5), 1540, 0.0) for x in (-25, 25)]
    series, part = _head(core, *sulci, noise=4.0)
    tissue = brain_mask(series, AFFINE).tissue
    assert tissue[part == 7].all() and tissue[part == 8].mean() > 0.9 and not tissue[part == 9].any()


def test_a_sulcus_amid_tissue_with_little_flow_needs_as_little_first_pass():
    core = (_disc(-25, -15, 22), 950, 0.12)
    series, part = _head(core, (_disc(-25, -20, 8), 1500, 0.05), (_disc(25, -20, 8), 1500, 0.05), noise=4.0)
    tissue = brain_mask(series, AFFINE).tissue
    assert tissue[part == 8].mean() > 0.9 and not tissue[part == 9].any()


def test_a_sulcus_amid_late_tissue_is_tissue_if_its_signal_falls_as_late_though_it_is_nearly_as_bright_as_fluid():
    core, sulci = (_disc(-25, -15, 22), 950, 0.12, 5), [_disc(x, -15, 5) for x in (-33, -17, 25)]
    drops = [(0.04, 5), (0.0, 0), (0.04, 5)]
    series, part = _head(core, *((place, 1640, *drop) for place, drop in zip(sulci, drops, strict=True)), noise=4.0)
    tissue = brain_mask(series, AFFINE).tissue
    assert tissue[part == 7].all() and tissue[part == 8].mean() > 0.9
    assert not tissue[part == 9].any() and not tissue[part == 10].any()  # no loss; no late tissue around


def test_a_vessel_bright_with_inflow_does_not_hide_the_brain():
    series, part = _head((_disc(0, -57, 6), 30000, 1.5))
    assert _dice(brain_mask(series, AFFINE).tissue, np.isin(part, [4, 5])) > 0.98


def test_bright_scalp_is_no_brain():
    ring = PARTS["scalp"][0] & ~PARTS["skull"][0]
    series, part = _head((ring, 950, 0.05))
    np.testing.assert_array_equal(brain_mask(series, AFFINE).tissue, np.isin(part, [4, 5]))


@pytest.mark.parametrize(
    ("brightness", "blood"), [(1300, 0.12), (2000, 0.12), (3000, 0.12), (1000, 0.16), (1600, 0.16)]
)
def test_brighter_scalp_is_no_brain_though_it_has_as_much_blood_as_poor_white_matter(brightness, blood):
    ring = PARTS["scalp"][0] & ~PARTS["skull"][0]
    series, part = _head((ring, brightness, blood))
    np.testing.assert_array_equal(brain_mask(series, AFFINE).tissue, np.isin(part, [4, 5]))


def test_a_strip_of_brain_beyond_bone_stays():
    everything, lobe = np.ones((SIZE, SIZE, SLICES), bool), _disc(-30, 0, 40)
    across = (np.arange(SIZE) - 0.5 * (SIZE - 1)) * 3.0
    strip = everything & (np.abs(across - 40) < 7)[:, None, None] & (np.abs(across) < 30)[None, :, None]
    series, _ = _head((everything, 0, 0.0), (lobe, 950, 0.3), (strip, 950, 0.28))
    np.testing.assert_array_equal(brain_mask(series, AFFINE).tissue, lobe | strip)


def test_bright_scalp_is_no_brain_where_it_hangs_on_it_by_a_bridge_through_the_skull():
    ring, bridge = PARTS["scalp"][0] & ~PARTS["skull"][0], _disc(0, 76, 6)
    series, part = _head((ring, 950, 0.05), (bridge, 950, 0.05))
    found = brain_mask(series, AFFINE)
    assert not found.tissue[part == 7].any() and not found.brain[part == 7].any()
    assert found.tissue[np.isin(part, [4, 5])].all()


def test_lobes_that_a_slice_cuts_apart_are_both_found():
    left, right = _disc(-36, 0, 27), _disc(36, 0, 24)
    everything = np.ones_like(left)
    series, _ = _head((everything, 0, 0.0), (left, 950, 0.3), (right, 950, 0.3))
    np.testing.assert_array_equal(brain_mask(series, AFFINE).tissue, left | right)


def test_the_size_of_structures_is_in_millimetres():
    series, part = _head()
    fine = brain_mask(np.repeat(series, 2, axis=1), np.diag([3.0, 1.5, 5.0, 1.0]))
    assert _dice(fine.tissue, np.repeat(np.isin(part, [4, 5]), 2, axis=1)) > 0.99


# ------------------------------------------------------------------------------------------------- real, refused


def test_the_real_exam(real_exam):
    exam = load_exam(real_exam)
    found = brain_mask(exam.series, exam.affine)
    assert 4800 < found.brain.sum() < 5500  # by eye about 75 x 83 voxels of 1.72 mm
    assert ndimage.label(found.brain)[1] == 1
    assert 0.95 < found.tissue.sum() / found.brain.sum() < 0.99  # at the convexity there is little but tissue
    assert _dice(found.brain, exam.mask) > 0.95  # the plain threshold, which is fair here


NOISE = np.abs(np.random.default_rng(0).normal(0, 10, (2, 32, 32, 4, 40))).sum(axis=0)


@pytest.mark.parametrize(
    "series",
    [
        np.zeros((32, 32, 4, 40), np.int16),
        np.full((32, 32, 4, 40), 100, np.int16),
        NOISE,
        NOISE.astype(np.int16),
        _head()[0][28:32, 28:32],
        np.pad(_head()[0][28:31, 28:31], ((20, 20), (20, 20), (0, 0), (0, 0))),
    ],
)
def test_no_brain_is_refused_in_one_line(series):
    with pytest.raises(InputError, match=r"no brain found: .*; check") as error:
        brain_mask(series, AFFINE)
    assert "\n" not in str(error.value)


def test_a_head_without_bolus_is_refused():
    series = _head()[0]
    with pytest.raises(InputError, match="no bolus"):
        brain_mask(np.repeat(series[..., :5], 8, axis=3), AFFINE)


def test_otsu_splits_two_heaps_in_the_valley():
    rng = np.random.default_rng(0)
    assert 350 < otsu_threshold(np.r_[rng.normal(100, 20, 5000), rng.normal(900, 60, 2000)]) < 650
