"""Brain and tissue masks from a perfusion series alone: from the signal at rest, and from the first pass.

Words: the *baseline* is the mean signal of the baseline frames; its *relative* value is divided by that of the tissue
around, so that the coil's sensitivity drops out. The *first pass* of a voxel is -ln(mean signal after arrival /
baseline); times the relative baseline it is the *signal loss*, which is proportional to the share of tissue in a voxel
that tissue shares with CSF or bone, because neither of these loses signal.

Steps: (1) a rough mask by Otsu's threshold gives the mean curve, and that the frames; where it is a thin shell it is
scalp brighter than brain, and what is darker is split once more; (2) tissue with a first pass gives the local
reference; (3) at half of that reference bone begins, and thin pieces without the first pass of brain are scalp; (4)
bright voxels without a first pass give the level of CSF; how far below it a voxel is tells its share of tissue. A
brighter voxel stays if brightness and loss together tell enough, loss over that of the tissue around, counted when that
one fills; where there is little blood, as in the core of an infarct, brightness may be off by more; (5) at the rim,
where CSF and bone mix to the brightness of tissue, a voxel needs signal loss to be tissue; (6) a voxel that loses far
more than grey matter is a venous sinus, unless it belongs to a region wider and deeper than these, such as a tumour.
Below the rim no voxel of the brightness of tissue is left out because it has no first pass: an infarct may have none.
Around a wide region of the brightness of tissue that has none, amid tissue with some flow, the rim and bright voxels
need none either.

A head that moves between baseline and first pass mimics signal loss at every edge: realign the series first.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import morphology, signal
from dscgan_jax.perfusion.smoothing import smoothed

WIDE = 0.5  # of the widest slice's tissue: thinner slices are not judged alone
TISSUE_SHARE = 0.25  # grey and white matter of a voxel of the mask: the definition of `tissue`
# Baseline, relative to the tissue around.
BONE_BORDER = 0.5  # half-way from tissue to bone and air, which give none
BRIGHT_AS_TISSUE = 1.35  # grey matter exceeds white by 1.2-1.3; an acute infarct and blood stay below
SIGNAL_ERROR = 0.15  # how far tissue scatters around its local mean: grey and white differ by 0.13 from it
CLEARLY_BRIGHTER = -0.2  # share by brightness: some of the voxels that give the level of CSF hold a little tissue
MIN_CSF_VOXELS = 20  # fewer show no level of CSF
COIL_MM = 20.0  # standard deviation of the local mean: wider than a gyrus, narrower than a coil's falling-off
# First pass, relative to the median of the tissue.
HEALTHY_FIRST_PASS = 0.25  # white matter has half the blood of grey; half of that again is ill, or not tissue
NO_FIRST_PASS = 0.15  # less than the core of an infarct keeps
GREY_PERCENT = 75.0  # half of the brain is grey matter: its upper half is free of white
SINUS_OVER_GREY = 1.5  # blood volume of grey matter varies by a sixth from voxel to voxel: three standard deviations
SMALLEST_SINUS_ML = 0.15  # 6 mm wide and one slice of 5 mm high; a smaller vessel runs within tissue
# Sizes.
WIDEST_SINUS_MM = 6.0  # half width: the sagittal sinus is 4-10 mm wide, where sinuses meet 12 mm
DEEPEST_SINUS_MM = 12.0  # sinuses run on the surface of the brain; the straight one is deep, and thin
SMALLEST_ISLAND_ML = 0.3  # of one slice: 8 x 8 mm, 5 mm thick; the section of a gyrus is larger
BRIDGE_MM = 2.5  # half width of what may link brain and scalp: the skull is thicker, veins through it are thinner
RIM_MM = 4.0  # belt in which CSF meets bone: the subarachnoid space over the brain is 2-4 mm wide
NOTCH_MM = 15.0  # half width of dents: the outline of a brain is rounder
SULCUS_MM = 5.0  # half width of the widest sulci and fissures
# Infarcts: tissue of even brightness without a first pass. Where fluid meets bone the brightness is anything.
PARENCHYMA = (0.75, 1.15)  # baseline, relative to the tissue around: white to grey matter
MIN_PARENCHYMA = 0.5  # of a neighbourhood; cisterns at the base of the skull have a third
FLOW_MM = 5.0  # standard deviation of the place whose first pass tells what a voxel's tissue would lose
LEAST_FLOW = 0.2  # of the brain's first pass: with less, loss is in the noise
LITTLE_FLOW = 0.4  # first pass of a neighbourhood over that of the brain: white matter has 0.55
# Where the tissue around fills late: first pass until the brain's peak and after it, each over the brain's.
EARLY_OVER_LATE = 0.4  # healthy tissue has 0.6 to 1.1, cores at most 0.35
LATE_SHARE = 0.2  # of the loss around: `TISSUE_SHARE`, less what noise takes from a loss so small
LITTLE_LATE_FLOW = 1.5  # of the brain's late first pass: half of a penumbra has more, the core of an infarct less
FLUID_ERROR = 0.25  # how far fluid scatters around its level
# What lies around a core: tissue, some of which the bolus passes, however ragged its edge is. Around fluid that looks
# like tissue, beside bone or where signal is lost to the air below, it is fluid, too, and darkness.
AROUND_MM = 5.0  # wider than a cortex, narrower than a lobe
PIECES_MM = 25.0  # from a core, in its slice and the next ones: what is cut off by a sulcus or by noise
MIN_PASSED_AROUND = 0.25  # of the tissue around has more than little flow
DARK_AROUND = 0.15  # of what is around, within the brain, may be darker than tissue
NEAR_MM = 2.5  # standard deviation of a neighbourhood: averages the noise of single voxels, not gyri
INFARCT_MM = 6.0  # half width; rims of fluid are thinner
INFARCT_REACH_MM = 12.0  # from its wide part into the next gyrus, beyond a sulcus
# Not brain.
DARK = 0.15  # of the brightest signal: air and bone
MIN_CONTRAST = 2.0  # object over background: air gives noise only, and tissue far more than twice that
MIN_BRAIN_MM = 30.0  # diameter of the widest slice: half of a newborn's brain is wider
MIN_SHARE_OF_LARGEST = 0.01  # a smaller piece beside the largest is no lobe
SCALP_MM = 8.0  # half thickness of the scalp and the muscles at the temples; brain is thicker
SCALP_LOSS = 0.5  # of the first pass of tissue: skin and muscle hold less blood, and leak
SCALP_LOSS_APART = 0.8  # the same beyond bone: scalp has up to 0.65 where white matter has little blood, and brain 0.9
BRIDGED = 0.02  # of a piece's voxels touch thick tissue: a gyrus does with its base, scalp only at a bridge
MIN_THICK_SHARE = 0.2  # deeper than half a scalp: 0.4-0.8 of a head or brain, 0.03 of scalp alone
SMALLEST_SCALP_MM2 = 400.0  # 5 cm of it; smaller pieces may be the tips of gyri
CLIP_PERCENT = 99.0  # of the values above zero: vessels with inflow would stretch the histogram
IN_SLICE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])  # neighbours of a voxel


@dataclasses.dataclass(frozen=True)
class BrainMask:
    """Where the brain is.

    Attributes:
      brain: (x, y, z) bool, the whole brain with ventricles and sulci.
      tissue: (x, y, z) bool, voxels with at least about 25 % grey and white matter; no CSF, no venous sinus.
    """

    brain: np.ndarray
    tissue: np.ndarray


def brain_mask(series: np.ndarray, affine: np.ndarray) -> BrainMask:
    """Finds the brain in a perfusion series.

    Args:
      series: (x, y, z, time), scanner units, any real type, finite.
      affine: (4, 4), voxel index -> millimetres; only the voxel's edge lengths are used.

    Raises:
      InputError: no contrast between a head and its background, or nothing of the size of a brain.
      NoBolusError: no first pass in the mean curve (also an `InputError`).
    """
    voxel_mm = voxel_sizes(np.asarray(affine, dtype=np.float64))
    rough = _rough_mask(series.mean(axis=-1, dtype=np.float32), voxel_mm)
    timing = signal.find_bolus(signal.mean_curve(series, rough))
    baseline, passes = _baseline_and_passes(series, timing)
    tissue = _tissue(baseline, passes, rough, voxel_mm)
    if not tissue.any():
        raise InputError(
            "no brain found: no tissue that the bolus passes; check that this is a DSC-MRI series of a head."
        )
    return BrainMask(with_fluid_spaces(tissue, voxel_mm), tissue)


def left_out(mask: np.ndarray, tissue: np.ndarray) -> tuple[float, int, float]:
    """How much of the tissue that was found is outside a given mask, both (x, y, z) bool.

    Returns:
      the share of all tissue; the slice of the largest share, of those that hold half as much as the widest one; and
      that share.
    """
    in_slice = tissue.sum(axis=(0, 1))
    outside = (tissue & ~mask).sum(axis=(0, 1))
    shares = np.where(in_slice >= WIDE * in_slice.max(initial=1), outside / np.maximum(in_slice, 1), 0.0)
    worst = int(shares.argmax())
    return float(outside.sum() / max(int(tissue.sum()), 1)), worst, float(shares[worst])


def tell_left_out(mask: np.ndarray, tissue: np.ndarray, found: Findings, most: tuple[float, float], what: str) -> None:
    """Warns of a given mask without much of the tissue that was found: a part of its file may be lost.

    Args:
      mask, tissue: (x, y, z) bool.
      found: receives the warning.
      most: how much of all tissue, and of that of one slice, may be left out.
      what: the tissue is called.
    """
    whole, worst, share = left_out(mask, tissue)
    if whole > most[0] or share > most[1]:
        found.warning(
            "mask_partly",
            f"the given mask leaves out {100 * whole:.0f} % of the {what} that is found in the series, and "
            f"{100 * share:.0f} % of it in slice {worst + 1} of {mask.shape[2]} from below: there are no maps there",
            round(whole, 3),
            "--mask=FILE",
        )


def with_fluid_spaces(tissue: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """The whole brain around its tissue: sulci and fissures closed, ventricles filled, slice by slice.

    Args:
      tissue: (x, y, z) bool, RAS.
      voxel_mm: (3,) edge lengths.
    """
    return morphology.filled(morphology.closed(tissue, SULCUS_MM, voxel_mm))


def infarct(first_pass: np.ndarray, relative: np.ndarray, where: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Wide regions without a first pass that are tissue, the core of an infarct: (x, y, z) bool.

    Fluid beside bone can look like tissue, but only in places; tissue looks so throughout, and so does what is around.

    Args:
      first_pass: (x, y, z) of each voxel over that of the brain.
      relative: (x, y, z) baseline over that of the tissue around, from `relative_baseline`.
      where: (x, y, z) bool, what may be tissue.
      voxel_mm: (3,) edge lengths.
    """
    alike = like_parenchyma(relative, where)
    sigma = (NEAR_MM / voxel_mm[0], NEAR_MM / voxel_mm[1], 0.0)

    def near(values: np.ndarray) -> np.ndarray:
        return smoothed(values, sigma)

    whole, share = with_fluid_spaces(alike, voxel_mm), near(alike)
    without = near(np.where(alike, first_pass, 0.0)) < LITTLE_FLOW * share
    without &= whole & (share > MIN_PARENCHYMA * near(whole))
    wide = morphology.opened(morphology.closed(without, BRIDGE_MM, voxel_mm), INFARCT_MM, voxel_mm)
    return _amid_tissue(wide, alike & (first_pass > LITTLE_FLOW), alike, whole & (relative < PARENCHYMA[0]), voxel_mm)


def around_infarct(infarct: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Where a voxel without a first pass belongs to the infarct (x, y, z) and is no fluid, (x, y, z) bool."""
    return morphology.dilated(infarct, INFARCT_REACH_MM, voxel_mm)


def at_rim(tissue: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """The outermost millimetres of a tissue (x, y, z), at least the voxels that touch the outside, (x, y, z) bool."""
    return tissue & (morphology.depth_mm(tissue, voxel_mm) < max(RIM_MM, 1.5 * max(voxel_mm[:2])))


def relative_baseline(baseline: np.ndarray, tissue: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Baseline signal over that of the tissue (x, y, z) bool around each voxel, (x, y, z)."""
    return baseline / _tissue_signal(baseline, tissue, voxel_mm)


def like_parenchyma(relative: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Voxels of these whose baseline is that of grey or white matter, (x, y, z) bool."""
    return where & (relative > PARENCHYMA[0]) & (relative < PARENCHYMA[1])


def without_notches(brain: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """The brain (x, y, z) with dents of its outline filled, slice by slice.

    Tissue at the rim may not have been found where the head moved, or where an infarct without blood flow reaches the
    surface.
    """
    return morphology.closed(brain, NOTCH_MM, voxel_mm)


def dark_share(series: np.ndarray, mask: np.ndarray) -> float:
    """Share of a mask (x, y, z) with hardly any signal in the first frames of (x, y, z, time); 1 for an empty mask."""
    first = series[..., : signal.MIN_FRAMES].mean(axis=-1, dtype=np.float32)
    return float((first[mask] < DARK * np.percentile(first, 99)).mean()) if mask.any() else 1.0


def otsu_threshold(values: np.ndarray, n_bins: int = 256) -> float:
    """The value that splits a histogram into two classes of least variance within (Otsu 1979, IEEE Trans. SMC 9:62)."""
    counts, edges = np.histogram(values, n_bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    weighted = np.cumsum(counts * centres)
    mean_below = weighted[:-1] / np.maximum(below, 1)
    mean_above = (weighted[-1] - weighted[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    return float(edges[1:-1][between >= between.max() * (1 - 1e-9)].mean())  # the middle of an empty valley


def most_frequent(values: np.ndarray) -> float:
    """The most frequent value: the peak of a histogram of 100 bins from the 1st to the 99th percentile, smoothed."""
    counts, edges = np.histogram(values, bins=100, range=tuple(np.percentile(values, (1, 99))))
    peak = int(ndimage.gaussian_filter1d(counts.astype(np.float64), 5.0).argmax())
    return float(edges[peak : peak + 2].mean())


# ------------------------------------------------------------------------------------------------- parts


def _rough_mask(mean: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """The largest bright object of the mean image (x, y, z): brain with CSF."""
    lit = mean[mean > 0]
    if not lit.size or np.ptp(mean) == 0:
        raise InputError("no brain found: the signal is the same everywhere; check the series.")
    clipped = np.minimum(mean, np.percentile(lit, CLIP_PERCENT))
    threshold = otsu_threshold(clipped)
    rough = morphology.largest(morphology.opened(clipped > threshold, BRIDGE_MM, voxel_mm))
    if morphology.eroded(rough, SCALP_MM, voxel_mm).sum() < MIN_THICK_SHARE * rough.sum():
        threshold = otsu_threshold(clipped[clipped <= threshold])  # of what the bright shell encloses
        rough = morphology.largest(morphology.opened(clipped > threshold, BRIDGE_MM, voxel_mm))
    bright = clipped > threshold
    if not bright.any() or np.median(clipped[bright]) < MIN_CONTRAST * np.median(clipped[~bright]):
        raise InputError(
            "no brain found: no object stands out from the background; check that the series shows a head."
        )
    widest = rough.sum(axis=(0, 1)).max() * voxel_mm[0] * voxel_mm[1]
    if widest < np.pi / 4 * MIN_BRAIN_MM**2:
        raise InputError(
            f"no brain found: the largest bright object measures {widest:.0f} mm² in its widest slice, expected "
            f"at least {np.pi / 4 * MIN_BRAIN_MM**2:.0f}; check the signal and the voxel size of the series."
        )
    return rough


class _Passes(NamedTuple):
    """First pass of each voxel, (x, y, z) float32: over all of its frames, those until the brain's peak, later ones."""

    whole: np.ndarray
    early: np.ndarray
    late: np.ndarray


def _baseline_and_passes(series: np.ndarray, timing: signal.BolusTiming) -> tuple[np.ndarray, _Passes]:
    """Baseline signal, (x, y, z) float32, and the first pass."""
    begin, middle = timing.baseline_end, timing.peak_frame + 1
    end = middle + 2 * (timing.peak_frame - begin)  # the way down, and twice as long for tissue that is late
    baseline = series[..., timing.baseline_begin : begin].mean(axis=-1, dtype=np.float32)

    def first_pass(begin: int, end: int) -> np.ndarray:
        after = series[..., begin:end].mean(axis=-1, dtype=np.float32, keepdims=True)
        return signal.delta_r2star(after, baseline, 1.0)[..., 0]

    return baseline, _Passes(first_pass(begin, end), first_pass(begin, middle), first_pass(middle, end))


def _tissue(baseline: np.ndarray, passes: _Passes, rough: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Voxels of grey and white matter, (x, y, z) bool."""
    first_pass = passes.whole
    healthy = rough & (first_pass > HEALTHY_FIRST_PASS * max(float(np.median(first_pass[rough])), 0.0))
    if not healthy.any():
        return healthy
    relative = relative_baseline(baseline, healthy, voxel_mm)
    usual = healthy & (relative < BRIGHT_AS_TISSUE)
    typical = float(np.median(first_pass[usual]))
    loss = first_pass * relative
    some_loss = loss > TISSUE_SHARE * typical

    parts = _parts_of_brain(morphology.opened(relative > BONE_BORDER, BRIDGE_MM, voxel_mm), some_loss)
    # Brightness adds no blood: bright fat would seem to lose as much signal as tissue. Dark rims hold less tissue.
    lost = first_pass * np.minimum(relative, 1.0) / typical
    inside = morphology.filled(_without_scalp(parts, lost, voxel_mm))
    depth = morphology.depth_mm(inside, voxel_mm)
    deep = depth > RIM_MM
    solid = inside & (relative > BONE_BORDER)
    no_brighter = solid & (relative < BRIGHT_AS_TISSUE)
    if not no_brighter.any():
        return no_brighter
    grey = no_brighter & (first_pass > np.percentile(first_pass[no_brighter], GREY_PERCENT))
    grey_first_pass, grey_signal = float(np.median(first_pass[grey])), float(np.median(relative[grey]))

    alike = like_parenchyma(relative, solid)
    infarcted = around_infarct(infarct(first_pass / typical, relative, solid, voxel_mm), voxel_mm)
    free = solid & deep & (np.abs(first_pass) < NO_FIRST_PASS * typical)
    fluid = _fluid_signal(relative[free], grey_signal)
    by_brightness = _share_by_brightness(relative, fluid, grey_signal)
    flow = np.clip(_flow_around(first_pass, alike, voxel_mm) / typical, LEAST_FLOW, 1.0)
    late = _late_around(passes, usual, alike, voxel_mm)
    late_loss = late.first_pass * relative / (grey_signal * np.maximum(late.flow, LEAST_FLOW))
    by_loss = np.where(late.fills, late_loss, loss / (grey_first_pass * grey_signal * flow))
    enough = _share_of_tissue(by_brightness, by_loss) > TISSUE_SHARE
    # Where there is little blood, loss tells little, and brightness may be off by more.
    falls_late = late.fills & (late_loss > LATE_SHARE)
    enough |= infarcted & (_share_by_brightness(relative - SIGNAL_ERROR, fluid, grey_signal) > TISSUE_SHARE)
    enough |= (
        falls_late
        & (late.flow < LITTLE_LATE_FLOW)
        & (_share_by_brightness(relative - FLUID_ERROR, fluid, grey_signal) > TISSUE_SHARE)
    )
    tissue = solid & enough & (deep | some_loss | infarcted | falls_late)
    tissue &= ~_sinuses(
        no_brighter & (first_pass > SINUS_OVER_GREY * grey_first_pass),
        first_pass > grey_first_pass,
        depth,
        voxel_mm,
    )
    return morphology.at_least(tissue, SMALLEST_ISLAND_ML, voxel_mm, IN_SLICE)  # specks where CSF, bone and sinus meet


def _amid_tissue(
    regions: np.ndarray, passed: np.ndarray, alike: np.ndarray, dark: np.ndarray, voxel_mm: np.ndarray
) -> np.ndarray:
    """Those connected regions that tissue with some flow surrounds, and those near them, (x, y, z) bool.

    Args:
      regions: (x, y, z) bool.
      passed: (x, y, z) bool, voxels as bright as tissue with more than little flow.
      alike: (x, y, z) bool, all voxels as bright as tissue.
      dark: (x, y, z) bool, darker ones within the brain.
      voxel_mm: (3,) edge lengths.
    """
    labels, n_labels = ndimage.label(regions)
    kept = np.zeros(n_labels + 1, bool)
    for label in range(1, n_labels + 1):
        around = morphology.dilated(labels == label, AROUND_MM, voxel_mm) & ~regions
        n_alike, n_around = max(int(alike[around].sum()), 1), max(int(around.sum()), 1)
        enough = int(passed[around].sum()) > MIN_PASSED_AROUND * n_alike
        kept[label] = enough and int(dark[around].sum()) < DARK_AROUND * n_around
    # Its pieces lie amid what has no flow either.
    near = ndimage.maximum_filter1d(morphology.dilated(kept[labels], PIECES_MM, voxel_mm), 3, axis=2)
    kept[labels[near & regions]] = True
    return kept[labels]


class _Late(NamedTuple):
    """(x, y, z) where tissue fills after the brain's peak; first pass of and around a voxel then, over the brain's."""

    fills: np.ndarray
    first_pass: np.ndarray
    flow: np.ndarray


def _late_around(passes: _Passes, usual: np.ndarray, alike: np.ndarray, voxel_mm: np.ndarray) -> _Late:
    """Where the tissue around fills late: an infarct or its penumbra, whatever little blood it gets.

    Args:
      passes: the first pass.
      usual: (x, y, z) bool, tissue that has one.
      alike: (x, y, z) bool, voxels as bright as grey or white matter.
      voxel_mm: (3,) edge lengths.
    """
    early, late = (one / max(float(np.median(one[usual])), 1e-6) for one in (passes.early, passes.late))
    early_flow, late_flow = (_flow_around(one, alike, voxel_mm) for one in (early, late))
    return _Late((late_flow > LEAST_FLOW) & (early_flow < EARLY_OVER_LATE * late_flow), late, late_flow)


def _tissue_signal(baseline: np.ndarray, healthy: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Baseline of tissue at each place (x, y, z): a Gaussian average over healthy tissue, without CSF."""
    chosen = healthy
    for _ in range(3):
        typical = float(np.median(baseline[chosen]))
        weight = smoothed(chosen, COIL_MM / voxel_mm) + np.float32(1e-4)
        total = smoothed(np.where(chosen, baseline, 0), COIL_MM / voxel_mm)
        local = (total + np.float32(1e-4 * typical)) / weight
        chosen = healthy & (baseline < BRIGHT_AS_TISSUE * local) & (baseline > BONE_BORDER * local)
        if not chosen.any():
            break
    return local


def _flow_around(first_pass: np.ndarray, alike: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """First pass (x, y, z) of the voxels as bright as tissue around each, 0 where there are none."""
    sigma = (FLOW_MM / voxel_mm[0], FLOW_MM / voxel_mm[1], 0.0)
    weight, total = smoothed(alike, sigma), smoothed(np.where(alike, first_pass, 0.0), sigma)
    return total / np.maximum(weight, np.float32(1e-3))


def _fluid_signal(bright: np.ndarray, grey: float) -> float:
    """Relative signal of CSF; infinite where none is seen.

    Args:
      bright: (voxel,) relative signals of voxels without a first pass; those with less than `TISSUE_SHARE` are CSF.
      grey: relative signal of grey matter.
    """
    border, fluid = BRIGHT_AS_TISSUE, np.inf
    for _ in range(5):
        bright = bright[bright > border]
        if bright.size < MIN_CSF_VOXELS:
            return np.inf
        fluid = float(np.median(bright))
        border = fluid - TISSUE_SHARE * (fluid - grey)
    return fluid


def _share_by_brightness(relative: np.ndarray, fluid: float, grey: float) -> np.ndarray:
    """Share of tissue in each voxel (x, y, z) that CSF of this level fills up, 1 where no CSF is seen.

    Below 0 where a voxel is brighter than CSF, above 1 where it is darker than grey matter.
    """
    return (fluid - relative) / (fluid - grey) if np.isfinite(fluid) else np.ones_like(relative)


def _share_of_tissue(by_brightness: np.ndarray, by_loss: np.ndarray) -> np.ndarray:
    """Share of tissue (x, y, z) by brightness, or by brightness and loss together where they tell more.

    Tissue without a first pass is there by its brightness alone. What is clearly brighter than CSF is no tissue,
    whatever it loses: fluid that pulsates, or an artery with inflow.
    """
    both = 0.5 * (by_brightness + by_loss)
    return np.where(by_brightness > CLEARLY_BRIGHTER, np.maximum(by_brightness, both), 0.0)


def _sinuses(vessel: np.ndarray, partly: np.ndarray, depth: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Large vessels, and the voxels beside them that hold some of their blood.

    What is wider and deeper than any sinus is no vessel but tissue with much blood, such as a tumour.

    Args:
      vessel: (x, y, z) bool, voxels that lose more signal than grey matter.
      partly: (x, y, z) bool, those that lose as much.
      depth: (x, y, z) below the surface of the brain, mm.
      voxel_mm: (3,) edge lengths.
    """
    labels, _ = ndimage.label(morphology.opened(vessel, WIDEST_SINUS_MM, voxel_mm))
    deep = np.isin(labels, np.unique(labels[depth > DEEPEST_SINUS_MM])) & (labels > 0)
    tissue = morphology.dilated(deep, WIDEST_SINUS_MM, voxel_mm)
    tissue |= morphology.dilated(deep, 2 * WIDEST_SINUS_MM, voxel_mm) & (depth > DEEPEST_SINUS_MM)  # its branches
    large = morphology.at_least(vessel & ~tissue, SMALLEST_SINUS_ML, voxel_mm, ndimage.generate_binary_structure(3, 3))
    return large | (ndimage.binary_dilation(large, IN_SLICE) & partly & ~tissue)


def _parts_of_brain(head: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """The largest part, and every other of some size that the bolus passes: lobes that a slice cuts off."""
    labels, n_labels = ndimage.label(head)
    if not n_labels:
        return head
    sizes = np.bincount(labels.ravel(), minlength=n_labels + 1)
    with_first_pass = np.bincount(labels[passed], minlength=n_labels + 1)
    sizes[0] = 0
    keep = (sizes >= MIN_SHARE_OF_LARGEST * sizes.max()) & (with_first_pass > 0.5 * sizes)
    return keep[labels]


def _without_scalp(parts: np.ndarray, lost: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Without long thin pieces that the bolus hardly passes: scalp that is as bright as brain, or brighter.

    Scalp may hold as much blood as white matter, but bone lies between it and the brain: a piece that bone parts from
    all thick tissue of its slice must have the first pass of brain. Voxels as large as the skull is thick link scalp to
    the brain, and so do thick slices where the head narrows.

    Args:
      parts: (x, y, z) bool, brain, and what is as bright.
      lost: (x, y, z) first pass over that of tissue, less where a voxel is darker.
      voxel_mm: (3,) edge lengths.
    """
    thick = morphology.dilated(morphology.eroded(parts, SCALP_MM, voxel_mm), SCALP_MM + BRIDGE_MM, voxel_mm)
    labels, n_labels = ndimage.label(parts & ~thick, IN_SLICE)
    if not n_labels:
        return parts

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(labels[chosen], minlength=n_labels + 1)

    sizes = count(parts)
    apart = count(ndimage.binary_dilation(thick & parts, IN_SLICE)) < BRIDGED * sizes
    passed = np.where(apart, count(lost > SCALP_LOSS_APART), count(lost > SCALP_LOSS))
    scalp = (passed < 0.5 * sizes) & (sizes * voxel_mm[0] * voxel_mm[1] >= SMALLEST_SCALP_MM2)
    scalp[0] = False
    return parts & ~scalp[labels]
