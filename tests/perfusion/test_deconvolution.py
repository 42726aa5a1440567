"""The SVD family against explicit matrices and a loop over all cuts, and what delay, noise and settings do to it."""

import numpy as np
import pytest

from dscgan_jax.perfusion import deconvolution, kinetics, signal
from dscgan_jax.perfusion.deconvolution import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    OSCILLATION_INDEX,
    OSVD_THRESHOLDS,
    TRUNCATION_THRESHOLD,
    deconvolve_svd,
    response_cbv,
)
from dscgan_jax.perfusion.kinetics import Perfusion, gamma_variate

TR = 1.5  # s
FRAMES = np.arange(80) * TR
METHODS = deconvolution.SVD_METHODS


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of one chunk, so that a test of few voxels computes few."""
    monkeypatch.setattr(deconvolution, "BLOCK", deconvolution._CHUNK)


def artery(seconds=FRAMES) -> np.ndarray:
    """One first pass of 4 mM that arrives at 16 s and is over long before the exam."""
    return 4.0 * gamma_variate(np.asarray(seconds) - 16.0, 4.5, 3.0)


def voxels(cbf, mtt, delay, transit_shape=1.0) -> Perfusion:
    """Tissue that is hardly dispersed, with exponential residues by default."""
    cbf, mtt, delay = np.broadcast_arrays(*map(np.float64, (cbf, mtt, delay)))
    return Perfusion(cbf[:, None], mtt[:, None], delay, np.full(len(delay), 1e-3), transit_shape)


def curves(tissue: Perfusion, snr: float | None = None, seed: int = 0) -> np.ndarray:
    """(voxel, time) mM, as read from a signal of S0 = 1 that healthy grey matter lowers by 32 %; SNR of S0."""
    clean = kinetics.tissue_concentration(artery, tissue, FRAMES)
    if snr is None:
        return clean
    grey = kinetics.tissue_concentration(artery, voxels([60.0], [4.0], [0.0]), FRAMES).max()
    echo = -np.log(1 - 0.32) / (kinetics.TISSUE_RELAXIVITY * grey)
    rng = np.random.default_rng(seed)
    series = signal.signal_after(1.0, kinetics.delta_r2star_of(clean), echo)
    series = np.hypot(series + rng.normal(0, 1 / snr, clean.shape), rng.normal(0, 1 / snr, clean.shape))
    baseline = series[:, 1:10].mean(axis=1)
    return kinetics.concentration_of(signal.delta_r2star(series, baseline, echo)).astype(np.float32)


def mixed(count: int, seed: int = 0, delay=(0.0, 6.0)) -> Perfusion:
    """Grey and white matter, penumbra and core."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, count, p=[0.45, 0.4, 0.1, 0.05])
    cbf = np.array([60.0, 25.0, 20.0, 8.0])[kind] * (1 + 0.12 * rng.standard_normal(count))
    cbv = np.array([4.0, 2.0, 3.5, 1.2])[kind] * (1 + 0.08 * rng.standard_normal(count))
    return voxels(cbf, 60 * cbv / cbf, rng.uniform(*delay, count))


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return curves(mixed(300), snr=50)


# ------------------------------------------------------------------------------------- explicit matrices


def simpson(arterial: np.ndarray, i: int) -> float:
    """Weight of lag i for curves linear between frames, written out (Ostergaard et al. 1996)."""
    last = len(arterial) - 1
    return (arterial[max(i - 1, 0)] + 4 * arterial[i] + arterial[min(i + 1, last)]) / 6


def toeplitz(arterial: np.ndarray) -> np.ndarray:
    n = len(arterial)
    return TR * np.array([[simpson(arterial, i - j) if i >= j else 0.0 for j in range(n)] for i in range(n)])


def block_circulant(arterial: np.ndarray) -> np.ndarray:
    """Twice the length: what leaves at the end comes in at the front, where nothing is."""
    n = len(arterial)
    column = [TR * simpson(arterial, i) if i < n else 0.0 for i in range(2 * n)]
    return np.array([[column[(i - j) % (2 * n)] for j in range(2 * n)] for i in range(2 * n)])


def truncated_inverse(matrix: np.ndarray, threshold: float) -> np.ndarray:
    left, strength, right = np.linalg.svd(matrix)
    kept = strength >= threshold * strength[0]
    return sum(np.outer(right[k], left[:, k]) / strength[k] for k in np.flatnonzero(kept))


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.2, 0.5])
def test_standard_inverse_is_the_truncated_svd_of_the_triangular_matrix(threshold):
    expected = truncated_inverse(toeplitz(artery()), threshold)
    given = deconvolution.standard_inverse(artery(), TR, threshold)
    np.testing.assert_allclose(given, expected, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.2, 0.5])
def test_circulant_inverse_is_the_truncated_svd_of_the_whole_circulant_matrix(threshold):
    matrix = block_circulant(artery())
    expected = truncated_inverse(matrix, threshold)[:, : len(FRAMES)]  # the second half of a tissue curve is zero
    given = deconvolution.circulant_inverse(artery(), TR, threshold)
    np.testing.assert_allclose(given, expected, atol=1e-9 * abs(expected).max())
    corner = truncated_inverse(matrix[: len(FRAMES), : len(FRAMES)], threshold)
    assert abs(given[: len(FRAMES)] - corner).max() > 0.1 * abs(corner).max()


def test_the_response_between_frames_passes_through_the_frames():
    frames = deconvolution.circulant_inverse(artery(), TR, 0.1)
    finer = deconvolution.circulant_inverse(artery(), TR, 0.1, 3)
    np.testing.assert_allclose(finer[::3], frames, atol=1e-9 * abs(frames).max())


def test_oscillation_index_by_hand():
    # Second differences: 0-4+1, 2-2+3, 1-6+1, 3-2+0: sizes 3, 3, 4, 1; their sum 11, over 6 values, over the peak of 3.
    wavy = np.array([0.0, 2.0, 1.0, 3.0, 1.0, 0.0])
    straight = np.arange(6.0)
    np.testing.assert_allclose(
        deconvolution.oscillation_index_of(np.stack([wavy, 5 * wavy, straight])), [11 / 18, 11 / 18, 0]
    )


# -------------------------------------------------------------------------------------- osvd against a loop


def thresholds_by_loop(tissue: np.ndarray) -> np.ndarray:
    """(voxel,) index into `OSVD_THRESHOLDS`: from strong to weak, the last one before the response oscillates."""
    left, strength, right = np.linalg.svd(block_circulant(artery()))
    coefficients = np.pad(tissue, ((0, 0), (0, len(FRAMES)))).astype(np.float64) @ left / strength
    chosen, calm = np.zeros(len(tissue), int), np.ones(len(tissue), bool)
    for index, threshold in enumerate(OSVD_THRESHOLDS):
        response = (coefficients * (strength >= threshold * strength[0])) @ right
        bend = np.abs(np.diff(response, 2, axis=1)).sum(axis=1)
        calm &= bend / response.shape[1] / response.max(axis=1) < OSCILLATION_INDEX
        chosen[calm] = index
    return chosen


@pytest.mark.parametrize(("snr", "share"), [(50, 0.97), (20, 0.95), (None, 1.0)])
def test_osvd_takes_the_cut_that_a_loop_over_all_cuts_takes(snr, share):
    tissue = curves(mixed(300), snr)
    chosen = thresholds_by_loop(tissue)
    assert len(np.unique(chosen)) > 1  # there was a choice
    tried = [
        deconvolve_svd(tissue, artery(), TR, "csvd", truncation_threshold=threshold) for threshold in OSVD_THRESHOLDS
    ]
    found = deconvolve_svd(tissue, artery(), TR, "osvd")
    for name in ("cbf", "tmax"):
        expected = np.stack([getattr(result, name) for result in tried])[chosen, np.arange(len(tissue))]
        assert np.isclose(getattr(found, name), expected, rtol=1e-3, atol=1e-3).mean() >= share


# ------------------------------------------------------------------------------------------ delay and time


def test_csvd_and_osvd_do_not_mind_when_the_aif_comes_and_ssvd_does():
    tissue = mixed(2000, seed=3, delay=(0.0, 6.0))
    measured = curves(tissue, snr=50)
    bias = {
        method: [
            100 * (deconvolve_svd(measured, artery(FRAMES - shift), TR, method).cbf / tissue.voxel_cbf().mean()).mean()
            - 100
            for shift in (-3.0, -1.5, -0.7, 0.0, 0.7, 1.5, 3.0)
        ]
        for method in METHODS
    }
    assert np.ptp(bias["csvd"]) <= 2.0
    assert np.ptp(bias["osvd"]) <= 2.0
    assert np.ptp(bias["ssvd"]) > 5.0


def test_csvd_is_not_ssvd():
    """With an AIF 3 s late, the plain method cannot place the response before zero."""
    tissue = curves(voxels(np.linspace(20, 60, 20), 4.0, 0.0))
    plain, circular = (
        deconvolve_svd(tissue, artery(FRAMES - 3.0), TR, method, truncation_threshold=0.1)
        for method in ("ssvd", "csvd")
    )
    assert (np.abs(plain.cbf / circular.cbf - 1) > 0.1).all()
    assert (plain.tmax >= 0).all() and (circular.tmax < 0).all()


def test_tmax_is_late_by_the_same_time_whatever_the_delay():
    """CBF 50, MTT 4 s, SNR 50. One voxel in fifty of csvd peaks at a wild lag, far outside: hence its median."""
    delays = np.repeat(np.arange(7.0), 2000)
    tissue = curves(voxels(np.full(len(delays), 50.0), 4.0, delays), snr=50)
    for method, middle in (("csvd", np.median), ("osvd", np.median), ("osvd", np.mean)):
        late = middle((deconvolve_svd(tissue, artery(), TR, method).tmax - delays).reshape(7, -1), axis=1)
        assert np.ptp(late) <= 0.1
        assert 1.5 < late.mean() < 3.0  # what regularisation adds


@pytest.mark.parametrize("method", ["csvd", "osvd"])
def test_tmax_is_finer_than_a_frame_and_signed(method):
    delays = np.linspace(0.0, 4.5, 31)  # steps of a tenth of a frame
    tissue = curves(voxels(np.full(len(delays), 50.0), 4.0, delays))
    late = deconvolve_svd(tissue, artery(), TR, method).tmax - delays
    assert np.ptp(late) < 0.1
    early = deconvolve_svd(tissue, artery(FRAMES - 6.0), TR, method).tmax - delays
    np.testing.assert_allclose(early, late - 6.0, atol=0.02)
    assert (early + delays)[:10].max() < 0


def test_regularisation_flattens_cbf_and_delays_tmax_more_where_transit_is_long():
    mtt = np.array([2.0, 4.0, 8.0, 12.0])
    tissue = curves(voxels(np.full(4, 40.0), mtt, 2.0))
    weak, strong = (
        deconvolve_svd(tissue, artery(), TR, "csvd", truncation_threshold=threshold) for threshold in (0.02, 0.3)
    )
    assert (strong.cbf < weak.cbf).all() and (weak.cbf < 1.1 * 40).all()
    assert (strong.tmax > weak.tmax).all()
    assert (np.diff(strong.tmax) > 0.05).all()


# ------------------------------------------------------------------------------------------------- settings


def differs(one, other, name="cbf"):
    return np.median(np.abs(getattr(one, name) / getattr(other, name) - 1)) > 0.02


def test_every_setting_has_an_effect(noisy):
    usual = {method: deconvolve_svd(noisy, artery(), TR, method) for method in METHODS}
    assert differs(usual["csvd"], usual["osvd"]) and differs(usual["csvd"], usual["ssvd"])
    assert differs(usual["osvd"], usual["ssvd"])
    for method in ("ssvd", "csvd"):
        np.testing.assert_array_equal(
            deconvolve_svd(noisy, artery(), TR, method, truncation_threshold=TRUNCATION_THRESHOLD[method]).cbf,
            usual[method].cbf,
        )
        assert differs(deconvolve_svd(noisy, artery(), TR, method, truncation_threshold=0.35), usual[method])
    assert differs(deconvolve_svd(noisy, artery(), TR, "osvd", oscillation_index=0.1), usual["osvd"])
    slower, inside = (
        deconvolve_svd(noisy, artery(), 2 * TR, "csvd"),
        np.abs(usual["csvd"].tmax) < 10,
    )  # not at a wild lag
    np.testing.assert_allclose(slower.tmax[inside], 2 * usual["csvd"].tmax[inside], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(slower.cbf[inside], 0.5 * usual["csvd"].cbf[inside], rtol=1e-4)


def test_the_peak_is_looked_for_at_lags_that_blood_can_have(noisy):
    noise = np.random.default_rng(5).standard_normal(noisy.shape).astype(np.float32)
    for method in ("csvd", "osvd"):
        tmax = deconvolve_svd(noise, artery(), TR, method).tmax
        assert tmax.min() >= EARLIEST_SECONDS - TR and tmax.max() <= LATEST_SECONDS + TR and np.ptp(tmax) > 30


def test_more_oscillation_means_more_flow(noisy):
    flow = [
        np.median(deconvolve_svd(noisy, artery(), TR, "osvd", oscillation_index=limit).cbf)
        for limit in (0.01, 0.035, 0.12)
    ]
    assert flow[0] < flow[1] < flow[2]


def test_unknown_method_is_refused(noisy):
    with pytest.raises(ValueError, match="'tikhonov': expected one of ssvd, csvd, osvd"):
        deconvolve_svd(noisy, artery(), TR, "tikhonov")


# -------------------------------------------------------------------------------------------------- volumes


@pytest.mark.parametrize("transit_shape", [1.0, 2.0, np.inf])
def test_cbv_is_the_ratio_of_areas_and_needs_no_method(transit_shape):
    rng = np.random.default_rng(0)
    tissue = voxels(rng.uniform(5, 80, 40), rng.uniform(2, 10, 40), rng.uniform(0, 8, 40), transit_shape)
    measured = curves(tissue)
    np.testing.assert_allclose(deconvolution.area_cbv(measured, artery()), tissue.voxel_cbv(), rtol=0.01)
    for method in METHODS:
        result = deconvolve_svd(measured, artery(), TR, method)
        np.testing.assert_allclose(result.cbv, tissue.voxel_cbv(), rtol=0.01)
        np.testing.assert_allclose(result.mtt, 60 * result.cbv / result.cbf, rtol=1e-5)


def test_cbv_of_the_response_is_least_squares_beside_a_level_written_out():
    """Cut singular values are left out; the area of what is found is CBV."""
    measured = curves(mixed(5), snr=40.0)
    lags = np.arange(-3, 21)  # -5 to 30 s in frames of 1.5 s
    interpolated = np.convolve(np.pad(artery(), 1, mode="edge"), [1 / 6, 4 / 6, 1 / 6], mode="valid")
    matrix = np.zeros((len(FRAMES), len(lags)))
    for column, lag in enumerate(lags):
        for frame in range(len(FRAMES)):
            if 0 <= frame - lag < len(FRAMES):
                matrix[frame, column] = TR * interpolated[frame - lag]
    response = np.linalg.lstsq(matrix - matrix.mean(axis=0), (measured - measured.mean(axis=1)[:, None]).T, rcond=0.1)[
        0
    ]
    expected = 100 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR * TR * response.sum(axis=0)
    np.testing.assert_allclose(response_cbv(measured, artery(), TR), expected, rtol=1e-3)


@pytest.mark.parametrize("delay", [-2.0, 0.0, 6.0])
def test_cbv_of_the_response_is_right_where_transit_is_not_long(delay):
    rng = np.random.default_rng(0)
    tissue = voxels(rng.uniform(5, 80, 40), rng.uniform(2, 5, 40), np.full(40, delay))
    np.testing.assert_allclose(response_cbv(curves(tissue), artery(), TR), tissue.voxel_cbv(), rtol=0.05)
    long = voxels([20.0], [12.0], [delay])
    assert 0.8 < response_cbv(curves(long), artery(), TR)[0] / long.voxel_cbv()[0] < 0.95


def test_cbv_of_the_response_does_not_see_level_nor_motion():
    measured = curves(mixed(5))
    motion = np.sin(np.arange(len(FRAMES)))[:, None]
    spoiled = measured + np.float32(0.3) + 0.2 * np.float32(motion.T)
    clean, corrected = (response_cbv(one, artery(), TR, motion) for one in (measured, spoiled))
    np.testing.assert_allclose(corrected, clean, rtol=1e-3)
    assert np.abs(response_cbv(spoiled, artery(), TR) / clean - 1).max() > 0.01


def test_cbv_of_the_response_has_less_than_half_of_the_noise_of_areas():
    tissue = mixed(400)
    measured = curves(tissue, snr=50.0)
    of_response, of_areas = (
        np.abs(cbv - tissue.voxel_cbv()).mean()
        for cbv in (response_cbv(measured, artery(), TR), deconvolution.area_cbv(measured, artery()))
    )
    assert of_response < 0.5 * of_areas


def test_mtt_is_zero_where_nothing_flows_or_the_area_is_negative():
    mtt = deconvolution.transit_seconds(np.float32([0.0, 30.0, 30.0]), np.float32([1.0, -0.2, 2.0]))
    assert mtt.tolist() == [0.0, 0.0, 4.0] and mtt.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_cbf_and_cbv_are_linear_in_the_curves(method, noisy):
    once = deconvolve_svd(noisy, artery(), TR, method)
    for twice, factor in (
        (deconvolve_svd(2 * noisy, artery(), TR, method), 2.0),
        (deconvolve_svd(noisy, 2 * artery(), TR, method), 0.5),
    ):
        np.testing.assert_allclose(twice.cbf, factor * once.cbf, rtol=1e-4)
        np.testing.assert_allclose(twice.cbv, factor * once.cbv, rtol=1e-4)
        np.testing.assert_allclose(twice.tmax, once.tmax, atol=1e-3)
        np.testing.assert_allclose(twice.mtt, once.mtt, rtol=1e-3)


# ------------------------------------------------------------------------------------ any number of voxels


@pytest.mark.parametrize("method", METHODS)
def test_neither_number_nor_order_of_voxels_matters(method):
    many = curves(mixed(deconvolution._CHUNK + 1, seed=5), snr=50)  # one more than a block
    together = deconvolve_svd(many, artery(), TR, method)
    order = np.random.default_rng(0).permutation(len(many))
    shuffled = deconvolve_svd(many[order], artery(), TR, method)
    for name, values in together._asdict().items():
        assert values.shape == (len(many),) and values.dtype == np.float32
        np.testing.assert_allclose(getattr(shuffled, name), values[order], rtol=1e-4, atol=1e-4)
    for voxel in (0, len(many) - 1):
        alone = deconvolve_svd(many[voxel : voxel + 1], artery(), TR, method)
        np.testing.assert_allclose(np.ravel(alone), [values[voxel] for values in together], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_voxels_without_contrast_agent_have_no_flow(method):
    result = deconvolve_svd(np.zeros((3, len(FRAMES)), np.float32), artery(), TR, method)
    assert not result.cbf.any() and not result.cbv.any() and not result.mtt.any()
    assert np.isfinite(result.tmax).all()
