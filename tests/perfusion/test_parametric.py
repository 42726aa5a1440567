"""The parametric fit against truth, against Levenberg-Marquardt on the exact model, and what it must not see."""

import dataclasses

import fits
import jax
import numpy as np
import pytest
from scipy import optimize

from dscgan_jax.kept import programs
from dscgan_jax.perfusion import deconvolution, dictionary, kinetics, parametric, signal
from dscgan_jax.perfusion.kinetics import ArterialCurve, Perfusion
from dscgan_jax.perfusion.parametric import FitSettings

TR = 1.5  # s
FRAMES = np.arange(80) * TR
ARTERY = ArterialCurve(arrival_seconds=16.0, peak_mm=4.0, rise_seconds=4.5, shape=3.0)
SNR = 50  # of S0
EARLIEST = -4.0  # s, of any delay
GAMMA = FitSettings(transit_shape=2.0, dispersion_seconds=0.3)  # matched to `dispersed`
MATCHED = FitSettings(transit_shape=1.0, dispersion=False)  # to `mixed`


@pytest.fixture(scope="module", autouse=True)
def quick():
    with fits.small_blocks_and_tables_once():
        yield


def dispersed(count: int, seed: int = 0, delay=(-2.0, 8.0)) -> Perfusion:
    """Tissue of the default model, from fast to slow, some of it early."""
    rng = np.random.default_rng(seed)
    mtt, cbv = np.exp(rng.uniform(np.log(2.5), np.log(14), count)), rng.uniform(1.5, 5, count)
    return Perfusion(
        (60 * cbv / mtt)[:, None],
        mtt[:, None],
        rng.uniform(*delay, count),
        np.exp(rng.uniform(np.log(0.1), np.log(0.9), count)),
    )


def mixed(count: int, transit_shape: float = 1.0, seed: int = 0) -> Perfusion:
    """Grey and white matter, penumbra and core, delays 0-6 s, hardly dispersed."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, count, p=[0.45, 0.4, 0.1, 0.05])
    cbf = np.array([60.0, 25.0, 20.0, 8.0])[kind] * (1 + 0.12 * rng.standard_normal(count))
    cbv = np.array([4.0, 2.0, 3.5, 1.2])[kind] * (1 + 0.08 * rng.standard_normal(count))
    return Perfusion(
        cbf[:, None], (60 * cbv / cbf)[:, None], rng.uniform(0, 6, count), np.full(count, 1e-3), transit_shape
    )


def curves_and_ttp(tissue: Perfusion, artery=ARTERY) -> tuple[np.ndarray, np.ndarray]:
    """(voxel, time) mM and (voxel,) s. The artery is read earlier, and everything comes so much later."""
    later = dataclasses.replace(tissue, delay=tissue.delay - EARLIEST)
    return kinetics.tissue_concentration_and_ttp(lambda t: artery(np.asarray(t) - EARLIEST), later, FRAMES)


def measured(clean: np.ndarray, drop: float = 0.32, snr: float = SNR, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Curves read from a noisy signal that healthy grey matter lowers by `drop`, and the noise of one frame, mM."""
    grey = Perfusion(np.array([[60.0]]), np.array([[4.0]]), np.zeros(1), np.full(1, 1e-3), 1.0)
    echo = -np.log(1 - drop) / (kinetics.TISSUE_RELAXIVITY * curves_and_ttp(grey)[0].max())
    rng = np.random.default_rng(seed)
    series = signal.signal_after(1.0, kinetics.delta_r2star_of(clean), echo)
    series = np.hypot(series + rng.normal(0, 1 / snr, clean.shape), rng.normal(0, 1 / snr, clean.shape))
    baseline = series[:, 1:10].mean(axis=1)
    delta_r2star = signal.delta_r2star(series, baseline, echo)
    return (
        np.float32(kinetics.concentration_of(delta_r2star)),
        np.float32(1 / snr / baseline / echo / kinetics.TISSUE_RELAXIVITY),
    )


def fit(tissue, noise, settings=GAMMA, **how) -> parametric.Fitted:
    return parametric.fit(tissue, ARTERY(FRAMES), TR, noise, settings=settings, **how)


def truth_of(tissue: Perfusion) -> dict[str, np.ndarray]:
    return {
        "cbf": tissue.voxel_cbf(),
        "cbv": tissue.voxel_cbv(),
        "mtt": tissue.voxel_mtt(),
        "tmax": kinetics.residue_peak_seconds(tissue),
    }


@pytest.fixture(scope="module")
def patient() -> tuple[Perfusion, np.ndarray, np.ndarray]:
    """200 voxels with noise: truth, curves, noise of a frame."""
    tissue = dispersed(200, seed=1)
    return tissue, *measured(curves_and_ttp(tissue)[0])


# -------------------------------------------------------------------------------------------- back to truth


def errors_without_noise(snr: float) -> dict[str, np.ndarray]:
    """Relative errors, that of Tmax in s, of curves without noise; the fit gets the noise of this SNR."""
    tissue = dispersed(400)
    clean, truth = curves_and_ttp(tissue)[0], truth_of(tissue)
    result = fit(clean, measured(clean, snr=snr)[1]).deconvolved()._asdict()
    return {name: np.abs(result[name] - truth[name]) / (1.0 if name == "tmax" else truth[name]) for name in truth}


@pytest.mark.slow
def test_noise_free_curves_come_back():
    """The remaining error: the AIF is known at its frames alone."""
    errors = errors_without_noise(snr=2000)  # no prior draws
    for name, limit in (("cbf", 0.01), ("mtt", 0.01), ("cbv", 0.01), ("tmax", 0.1)):
        assert np.median(errors[name]) < limit, name
    assert np.quantile(errors["cbv"], 0.95) < 0.01


def test_no_noise_free_voxel_is_far_off():
    errors = errors_without_noise(snr=100)
    for name, limit in (("cbf", 0.08), ("mtt", 0.08), ("cbv", 0.01), ("tmax", 0.7)):
        assert np.quantile(errors[name], 0.9) < limit, name
    assert errors["cbf"].max() < 0.4 and errors["mtt"].max() < 0.5 and errors["tmax"].max() < 1.5


@pytest.mark.parametrize("transit_shape", [1.0, 2.0])
def test_cleaner_curves_give_better_maps_and_none_is_far_off(transit_shape):
    """SNR of S0 from 40 to 400: contrast over noise of grey matter from 15 to 150."""
    tissue = dataclasses.replace(dispersed(1000, seed=3), transit_shape=transit_shape)
    clean, truth, errors = curves_and_ttp(tissue)[0], truth_of(tissue), []
    for snr in (40, 100, 200, 400):
        found = fit(*measured(clean, snr=snr), settings=FitSettings(transit_shape=transit_shape)).deconvolved()
        errors.append([np.abs(getattr(found, name) - truth[name]).mean() for name in ("cbf", "tmax")])
        far = np.abs(np.log(np.maximum(found.cbf, 1e-3) / truth["cbf"])) > np.log(1.5)
        assert far.mean() <= (0.02 if snr < 100 else 0.01)
    assert (np.diff(errors, axis=0) < 0).all()


def test_delays_before_the_artery_are_negative(patient):
    tissue, curves, noise = patient
    early = tissue.delay < -0.5
    delay = fit(curves, noise).delay
    assert early.sum() > 20
    assert np.abs(delay - tissue.delay)[early].mean() < 0.8
    assert (delay[early] < 1.0).all() and np.median(delay[early]) < -0.8


@pytest.mark.slow
def test_errors_on_matched_curves_at_snr_50():
    tissue = mixed(4000)
    result = fit(*measured(curves_and_ttp(tissue)[0]), settings=MATCHED).deconvolved()
    for name, limit in (("cbf", 4.5), ("cbv", 0.25), ("mtt", 1.0), ("tmax", 0.5)):
        assert np.abs(getattr(result, name) - truth_of(tissue)[name]).mean() <= limit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transit_shape", "share"), [(1.0, 0.4), (2.0, 0.5), (np.inf, 1.2)], ids=["exponential", "gamma", "box"]
)
def test_whatever_the_residue_the_fit_errs_less_than_csvd(transit_shape, share):
    """In CBF of a box about as much: the steepest gamma is no box."""
    tissue = mixed(2000, transit_shape)
    curves, noise = measured(curves_and_ttp(tissue)[0])
    fitted = fit(curves, noise, FitSettings()).deconvolved()  # finds the shape
    circular = deconvolution.deconvolve_svd(curves, ARTERY(FRAMES), TR, "csvd")
    for name, truth, limit in (
        ("cbv", tissue.voxel_cbv(), 0.5),
        ("mtt", tissue.voxel_mtt(), 0.8),
        ("cbf", tissue.voxel_cbf(), share),
    ):
        ours, theirs = (np.abs(getattr(result, name) - truth).mean() for result in (fitted, circular))
        assert ours <= limit * theirs, name


@pytest.mark.slow
@pytest.mark.parametrize("transit_shape", [1.0, 1.75, 2.0, 2.45, 3.0])
@pytest.mark.parametrize("dispersion", [False, True])
def test_the_likeliest_shape_is_that_of_the_tissue(transit_shape, dispersion):
    """Between the shapes that are tried, too; drawn a little to the usual one; also where dispersion is fitted."""
    curves, noise = measured(curves_and_ttp(mixed(1000, transit_shape, seed=7))[0])
    found = fit(curves, noise, FitSettings(dispersion=dispersion)).transit_shape
    assert found == pytest.approx(transit_shape, rel=0.0 if transit_shape == 1.0 else 0.14)


@pytest.mark.parametrize("dispersion", [False, True])
def test_the_likeliest_shape_of_a_box_is_the_steepest(dispersion):
    curves, noise = measured(curves_and_ttp(mixed(1000, np.inf, seed=7))[0])
    assert fit(curves, noise, FitSettings(dispersion=dispersion)).transit_shape == parametric.SHAPES[-1]


def test_the_fit_takes_the_likeliest_shape(patient):
    _, curves, noise = patient
    found = fit(curves, noise, FitSettings(dispersion_seconds=0.3))
    assert found.transit_shape == pytest.approx(2.0, rel=0.2)
    told = dataclasses.replace(GAMMA, transit_shape=found.transit_shape)
    assert_same(found, fit(curves, noise, told), 1e-6, 1e-6)
    other = dataclasses.replace(GAMMA, transit_shape=3.0)
    assert np.median(np.abs(fit(curves, noise, other).mtt / fit(curves, noise).mtt - 1)) > 0.05


@pytest.mark.parametrize(
    ("values", "place"),
    [([-4.0, 0.0, -1.0], 1.3), ([-1.0, 0.0, 1.0], 1.0), ([-3.0, 0.0, 2.9], 2.0), ([2.9, 0.0, -3.0], 0.0)],
    ids=["parabola", "a line has no top", "no further than the last", "nor than the first"],
)
def test_the_top_of_three_values(values, place):
    assert parametric._top(np.array([0.0, 1.0, 2.0]), np.array(values)) == pytest.approx(place)


def test_fitted_cbv_is_the_ratio_of_the_areas():
    tissue = mixed(4000)
    for true, settings in ((tissue, MATCHED), (dispersed(4000), GAMMA)):
        curves, noise = measured(curves_and_ttp(true)[0])
        ratio = deconvolution.area_cbv(curves, ARTERY(FRAMES)) / fit(curves, noise, settings).deconvolved().cbv
        assert abs(np.median(ratio) - 1) < 0.05


def test_ttp_is_that_of_the_curve_without_its_noise():
    tissue = dispersed(1000, seed=4)
    clean, ttp = curves_and_ttp(tissue)
    found = fit(*measured(clean)).ttp
    assert np.abs(found - ttp).mean() <= 0.5
    assert abs(np.median(found - ttp)) <= 0.1


# ------------------------------------------------------------------------- against the maximum of the posterior


class ExactModel:
    """Curves of unit flow at any delay, ln MTT and ln dispersion, in float64, from the closed transforms."""

    def __init__(self, artery, period=250.0, fine=0.05):
        times = np.arange(0.0, period, fine)
        fade = 0.5 + 0.5 * np.cos(np.pi * np.clip((times - FRAMES[-1]) / 12.0, 0, 1))
        omega = 2 * np.pi * np.fft.rfftfreq(len(times), fine)
        self.omega = omega[omega < 6.0]  # 1/s
        spectrum = np.fft.rfft(artery(times) * fade)[: len(self.omega)] / len(times)
        weight = np.where(self.omega > 0, 2.0, 1.0)
        self.basis = (spectrum * weight)[:, None] * np.exp(1j * self.omega[:, None] * FRAMES)

    def __call__(self, delay, log_mtt, log_dispersion) -> np.ndarray:
        turn = 1j * np.where(self.omega > 0, self.omega, 1.0)
        mtt, dispersion = np.exp(log_mtt)[:, None], np.exp(log_dispersion)[:, None]
        held = (1 - (1 + turn * mtt / 2.0) ** -2.0) / turn  # residue of transit times of shape 2
        supplied = held * (1 + turn * dispersion) ** -3.0 * np.exp(-turn * np.asarray(delay)[:, None])
        supplied[:, :1] = mtt
        return (supplied @ self.basis).real * kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR / 6000


MODEL = ExactModel(dictionary.continuous_curve(ARTERY(FRAMES), TR))
MEAN = np.array([GAMMA.delay_seconds, np.log(GAMMA.mtt_seconds), np.log(GAMMA.dispersion_seconds)])
SPREAD = np.array([GAMMA.delay_spread, GAMMA.mtt_spread, GAMMA.dispersion_spread])
LINE = np.stack([np.ones(len(FRAMES)), (FRAMES - FRAMES.mean()) / FRAMES.std()], axis=1)


def linear_part(curve, place) -> np.ndarray:
    """Flow, offset and slope that suit a place best; no negative flow."""
    columns = np.column_stack([MODEL(*place[:, None])[0], LINE])
    solution = np.linalg.lstsq(columns, curve)[0]
    return solution if solution[0] >= 0 else np.append(0.0, np.linalg.lstsq(LINE, curve)[0])


def misfit(parameters, curve, noise) -> np.ndarray:
    """Residuals of the data and of the priors; half of their sum of squares is the negative log posterior."""
    flow, place, line = parameters[0], parameters[1:4], parameters[4:]
    expected = flow * MODEL(*place[:, None])[0] + LINE @ line
    return np.append((expected - curve) / noise, (place - MEAN) / SPREAD)


def misfit_slopes(parameters, curve, noise) -> np.ndarray:
    step = 1e-4
    flow, place = parameters[0], parameters[1:4]
    near = MODEL(*(place + np.vstack([np.zeros(3), step * np.eye(3)])).T)
    slopes = np.zeros((len(FRAMES) + 3, 6))
    slopes[:-3] = np.column_stack([near[0], flow * (near[1:] - near[0]).T / step, LINE]) / noise
    slopes[-3:, 1:4] = np.diag(1 / SPREAD)
    return slopes


def test_the_reference_model_is_the_equation_of_kinetics():
    tissue = dispersed(50, delay=(0.0, 8.0))
    unit = dataclasses.replace(tissue, cbf=np.ones((50, 1)))
    expected = kinetics.tissue_concentration(dictionary.continuous_curve(ARTERY(FRAMES), TR), unit, FRAMES)
    given = MODEL(tissue.delay, np.log(tissue.mtt[:, 0]), np.log(tissue.dispersion))
    assert (np.abs(given - expected).max(axis=1) < 1e-3 * expected.max(axis=1)).all()


def test_curves_between_the_nodes_are_those_of_the_exact_model():
    """Without noise and prior, the log posterior of a curve is 0 at its own place."""
    tissue = dispersed(300, seed=6)
    place = np.stack([tissue.delay, np.log(tissue.mtt[:, 0]), np.log(tissue.dispersion)], axis=1)
    tables = dictionary.build_dictionary(ARTERY(FRAMES), TR, 0, GAMMA.transit_shape, GAMMA.delay_range)
    data = np.float32(MODEL(*place.T) @ tables.basis)
    data *= 1000.0 / np.linalg.norm(data, axis=1, keepdims=True)  # far more than contrast over noise of 200
    rows = np.minimum(np.arange(1024), 299)
    place = np.float32(place)[rows]
    found = parametric._refine(data[rows], place, place, tables, np.full(3, 1e6, np.float32), steps=0)
    away = np.sqrt(-2.0 * np.asarray(found.value)[:300])  # in units of the noise
    assert np.quantile(away, 0.9) < 0.5 and away.max() < 1.0


@pytest.mark.parametrize("snr", [50, 400])
def test_started_at_the_truth_or_from_the_grid_the_same_maximum_is_reached(snr):
    tissue = dispersed(1024, seed=8)
    curves, noise = measured(curves_and_ttp(tissue)[0], snr=snr)
    tables, (mean, spread) = (
        dictionary.build_dictionary(ARTERY(FRAMES), TR, 0, GAMMA.transit_shape, GAMMA.delay_range),
        parametric._prior(GAMMA),
    )
    data = parametric._projected(curves, noise, tables.basis)
    from_grid = parametric._fit(data, tables=tables, mean=mean, spread=spread)
    truth = np.float32(np.stack([tissue.delay, np.log(tissue.mtt[:, 0]), np.log(tissue.dispersion)], axis=1))
    from_truth = parametric._refine(data, truth, np.broadcast_to(mean, truth.shape), tables, spread)
    lower = np.asarray(from_truth.value - from_grid.value)
    assert (lower > 0.1).mean() < 0.01 and (lower > 1.0).mean() < 0.001
    flow = np.asarray(from_grid.flow / from_truth.flow)
    assert (np.abs(np.log(flow)) > np.log(1.5)).mean() < 0.003


def test_the_fit_is_the_maximum_of_the_posterior_that_levenberg_marquardt_finds(patient):
    _, curves, noise = patient
    result = fit(curves, noise)
    places = np.stack([result.delay, np.log(result.mtt), np.log(result.dispersion)], axis=1).astype(np.float64)
    excess, best = np.zeros(len(curves)), np.zeros((len(curves), 6))
    for voxel, (curve, sigma, place) in enumerate(zip(curves.astype(np.float64), noise, places)):
        starts = [place, *(np.append(place[0] + shift, MEAN[1:]) for shift in (-1.0, 1.0))]
        starts = [np.insert(start, [0, 3, 3], linear_part(curve, start)) for start in starts]
        found = min(
            (
                optimize.least_squares(misfit, start, misfit_slopes, method="lm", x_scale="jac", args=(curve, sigma))
                for start in starts
            ),
            key=lambda answer: answer.cost,
        )
        excess[voxel] = 0.5 * (misfit(starts[0], curve, sigma) ** 2).sum() - found.cost
        best[voxel] = found.x
    assert (excess > -1e-3).all()  # the reference is one
    assert np.quantile(excess, 0.95) < 0.1 and np.quantile(excess, 0.99) < 0.5
    differences = np.column_stack(
        [result.cbf / best[:, 0] - 1, places - best[:, 1:4]]
    )  # CBF, delay, ln MTT, ln dispersion
    assert (np.quantile(np.abs(differences), 0.95, axis=0) < [0.05, 0.25, 0.05, 0.25]).all()


# ------------------------------------------------------------------------------------ what it must not see


def assert_same(one: parametric.Fitted, other: parametric.Fitted, most=1e-3, every=1e-2):
    """Within 0.1 % of the map's maximum in 95 % of the voxels: rounding shifts where the last steps end."""
    for name, values in one._asdict().items():
        difference = np.abs(values - getattr(other, name)) / np.abs(values).max()
        assert np.quantile(difference, 0.95) <= most and difference.max() <= every, name


def test_an_offset_and_a_drift_of_the_curves_change_nothing(patient):
    _, curves, noise = patient
    line = 0.3 * curves.max() * (1 - 2 * np.linspace(0, 1, len(FRAMES), dtype=np.float32)) + 0.01
    assert_same(fit(curves, noise), fit(curves + line, noise))


def test_frames_before_the_first_one_have_no_say(patient):
    _, curves, noise = patient
    wild = curves.copy()
    wild[:, :3] = [-9.0, 7.0, -5.0]
    assert_same(fit(curves, noise, first_frame=3), fit(wild, noise, first_frame=3), 1e-6, 1e-6)
    assert np.abs(fit(wild, noise).cbf / fit(curves, noise).cbf - 1).max() > 0.5


def rows(fitted: parametric.Fitted, which) -> parametric.Fitted:
    """Some voxels; a number for all of them stays."""
    return parametric.Fitted(*(values[which] if np.ndim(values) else values for values in fitted))


def test_order_and_number_of_voxels_do_not_matter(patient):
    curves, noise = (np.tile(part, (6, 1))[: deconvolution._CHUNK + 1] for part in (patient[1], patient[2][:, None]))
    together = fit(curves, noise[:, 0])  # one voxel more than a block
    order = np.random.default_rng(0).permutation(len(curves))
    assert_same(fit(curves[order], noise[order, 0]), rows(together, order))
    for name in ("cbf", "delay", "mtt", "dispersion", "tmax", "ttp"):
        assert getattr(together, name).shape == (len(curves),) and getattr(together, name).dtype == np.float32, name
    for voxel in (0, len(curves) - 1):  # up to where rounding lets the last steps end
        alone = fit(curves[voxel : voxel + 1], noise[voxel : voxel + 1, 0])
        assert_same(alone, rows(together, slice(voxel, voxel + 1)), 0.02, 0.02)


def test_curve_and_noise_in_another_unit_only_scale_the_flow(patient):
    _, curves, noise = patient
    once, scaled = fit(curves, noise), fit(30 * curves, 30 * noise)
    assert_same(once._replace(cbf=30 * once.cbf), scaled)


def test_every_voxel_has_its_own_noise(patient):
    _, curves, noise = patient
    uneven = noise * np.linspace(0.5, 2.0, len(noise), dtype=np.float32)
    together = fit(curves, uneven)
    for voxel in (0, len(noise) - 1):
        alone = fit(curves[voxel : voxel + 1], uneven[voxel : voxel + 1])
        assert_same(alone, rows(together, slice(voxel, voxel + 1)), 0.02, 0.02)


def test_curves_of_zero_have_no_flow_and_finite_numbers():
    result = fit(np.zeros((3, len(FRAMES)), np.float32), np.full(3, 1e-3, np.float32))
    assert not result.cbf.any() and not result.deconvolved().cbv.any()
    assert all(np.isfinite(values).all() for values in result)
    assert all(np.isfinite(values).all() for values in fit(-np.ones((3, len(FRAMES))), np.full(3, 1e-3)))


# ------------------------------------------------------------------------------------------------- settings


CHANGED = {
    "transit_shape": 1.0,
    "dispersion": False,
    "delay_range": (0.0, 16.0),
    "delay_seconds": 8.0,
    "delay_spread": 0.3,
    "mtt_seconds": 15.0,
    "mtt_spread": 0.05,
    "dispersion_seconds": 0.1,
    "dispersion_spread": 0.05,
    "neighbour_delay_spread": 3.0,
    "neighbour_mtt_spread": 0.01,
    "neighbour_dispersion_spread": 3.0,
}


def test_every_setting_is_tried():
    assert set(CHANGED) == {field.name for field in dataclasses.fields(FitSettings)}


PLANE = {
    "mask": np.ones((10, 20, 1), bool),
    "voxel_mm": np.full(3, 2.0),
    "neighbourhood_mm": 5.0,
}


@pytest.fixture(scope="module")
def territory() -> tuple[np.ndarray, np.ndarray]:
    """Curves and noise of a plane whose neighbours share an artery; the first rows fill before it."""
    tissue = dispersed(200, seed=4)
    rows = np.linspace(-2.0, 2.0, 10).repeat(20)
    shared = {"mtt": tissue.mtt**0.3 * 4.0, "delay": rows, "dispersion": 0.2 + 0.1 * (rows + 2.0)}
    return measured(curves_and_ttp(dataclasses.replace(tissue, **shared))[0])


@pytest.fixture(scope="module")
def usual(territory) -> parametric.Fitted:
    return fit(*territory, **PLANE)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_every_setting_has_an_effect(territory, usual, name):
    changed = fit(*territory, **PLANE, settings=dataclasses.replace(GAMMA, **{name: CHANGED[name]}))
    changes = [
        np.median(np.abs(getattr(changed, key) / getattr(usual, key) - 1)) for key in ("delay", "mtt", "dispersion")
    ]
    assert max(changes) > 0.02


@pytest.mark.slow
def test_settings_stay_where_they_are_put(patient):
    _, curves, noise = patient
    late = fit(curves, noise, dataclasses.replace(GAMMA, delay_range=(0.0, 16.0)))
    assert late.delay.min() >= 0.0
    thin = fit(curves, noise, dataclasses.replace(GAMMA, dispersion=False))
    np.testing.assert_allclose(thin.dispersion, dictionary.THIN, rtol=1e-5)
    firm = fit(curves, noise, dataclasses.replace(GAMMA, mtt_seconds=6.0, mtt_spread=1e-3))
    np.testing.assert_allclose(firm.mtt, 6.0, rtol=0.02)


# --------------------------------------------------------------------------------------------- neighbourhood


GRID = np.ones((16, 16, 2), bool)
VOXEL_MM = np.array([2.0, 2.0, 6.0])


def of_delay(delay: np.ndarray, seed=0) -> tuple[np.ndarray, np.ndarray]:
    count = delay.size
    tissue = Perfusion(np.full((count, 1), 30.0), np.full((count, 1), 5.0), delay.ravel(), np.full(count, 0.3))
    return measured(curves_and_ttp(tissue)[0], drop=0.25, seed=seed)


def alone_and_together(delay: np.ndarray, **how) -> tuple[np.ndarray, np.ndarray]:
    curves, noise = of_delay(delay)
    around = {"mask": GRID, "voxel_mm": VOXEL_MM, "neighbourhood_mm": 6.0}
    return tuple(fit(curves, noise, **how).delay.reshape(GRID.shape) for how in ({}, around))


def test_a_lone_outlier_is_drawn_to_its_neighbours():
    delay = np.full(GRID.shape, 1.0)
    delay[8, 8, 0] = 4.0
    alone, together = alone_and_together(delay)
    assert alone[8, 8, 0] > 2.5
    assert together[8, 8, 0] - 1.0 < 0.5 * (alone[8, 8, 0] - 1.0)


def test_a_smooth_ramp_stays_and_loses_its_noise():
    delay = np.broadcast_to(np.linspace(0.0, 5.0, 16)[:, None, None], GRID.shape)
    alone, together = (values - delay for values in alone_and_together(delay))
    inner = np.s_[3:-3]
    assert together[inner].std() < 0.6 * alone[inner].std()
    assert abs(together[inner].mean()) < 0.1
    slope = np.polyfit(delay[inner, 0, 0], (together + delay)[inner].mean(axis=(1, 2)), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_voxels_without_a_first_pass_hardly_count_for_their_neighbours(seed):
    """As if they were left out of the mask, but for their noise; with them neighbours still help."""
    curves, noise = of_delay(np.full(GRID.shape, 1.0), seed)
    silent = np.arange(16) < 8
    curves[np.broadcast_to(silent[:, None, None], GRID.shape).ravel()] = np.random.default_rng(5).normal(
        0, noise.mean(), (GRID.sum() // 2, len(FRAMES))
    )
    others = np.broadcast_to(~silent[:, None, None], GRID.shape)
    around = {"voxel_mm": VOXEL_MM, "neighbourhood_mm": 6.0}
    beside = np.s_[:32]  # of the others: the row that touches the silent ones
    with_silent = fit(curves, noise, mask=GRID, **around).delay[others.ravel()][beside]
    without = fit(curves[others.ravel()], noise[others.ravel()], mask=others, **around).delay[beside]
    alone = fit(curves, noise).delay[others.ravel()][beside]
    assert np.abs(with_silent - without).mean() < 0.3
    assert np.abs(with_silent - 1.0).mean() < 0.75 * np.abs(alone - 1.0).mean()


def test_neighbours_tell_a_dispersion_that_no_voxel_tells_alone():
    """Alone each voxel's dispersion is nearly that of the prior."""
    tissue = Perfusion(np.full((512, 1), 15.0), np.full((512, 1), 6.0), np.full(512, 2.0), np.full(512, 1.0))
    curves, noise = measured(curves_and_ttp(tissue)[0], snr=30)
    around = {"mask": GRID, "voxel_mm": VOXEL_MM, "neighbourhood_mm": 6.0}
    alone, together = (np.median(fit(curves, noise, **how).dispersion) for how in ({}, around))
    assert abs(together - 1.0) < 0.5 * abs(alone - 1.0)


def test_neighbours_that_share_nothing_are_left_alone():
    """MTT and Tmax are about as good as without neighbours; the pull alone would double their errors."""
    tissue = dispersed(512, seed=9, delay=(0.0, 6.0))
    curves, noise = measured(curves_and_ttp(tissue)[0])
    around = {"mask": np.ones((16, 16, 2), bool), "voxel_mm": VOXEL_MM, "neighbourhood_mm": 6.0}
    alone, together = (fit(curves, noise, **how).deconvolved() for how in ({}, around))
    for name in ("mtt", "tmax"):
        errors = (np.abs(getattr(found, name) - truth_of(tissue)[name]).mean() for found in (together, alone))
        assert next(errors) < 1.15 * next(errors), name


# -------------------------------------------------------------------------------------------------- its parts


def test_the_aif_between_its_frames():
    curve = dictionary.continuous_curve(ARTERY(FRAMES), TR)
    np.testing.assert_allclose(curve(FRAMES), ARTERY(FRAMES), atol=1e-12)
    between = FRAMES[:-1] + TR / 2
    np.testing.assert_allclose(
        curve(between), ARTERY(between), atol=0.03 * ARTERY.peak_mm
    )  # a spline swings before a bend
    assert curve(np.array([-0.1]))[0] == 0.0
    assert curve(np.array([500.0]))[0] == pytest.approx(ARTERY(FRAMES[-1:])[0])


@pytest.mark.slow
def test_what_is_compiled_beforehand_is_what_a_fit_with_neighbours_runs(caplog, monkeypatch):
    monkeypatch.setattr(parametric, "BLOCK", parametric.SHAPE_VOXELS)  # as they are outside these tests
    frames, mask = 37, np.ones((4, 4, 2), bool)
    arterial = np.interp(np.arange(frames), [10, 14, 20], [0.0, 4.0, 0.0])
    tissue = np.tile(np.interp(np.arange(frames), [12, 17, 25], [0.0, 0.4, 0.1]), (mask.sum(), 1))
    own = [name for name, one in vars(parametric).items() if isinstance(one, programs.Kept)]

    def compiled(work):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            work()
        return {name for name in own if any(f"Compiling jit({name})" in one.message for one in caplog.records)}

    noise, pulled = np.full(len(tissue), 0.02), {"voxel_mm": np.full(3, 2.0), "neighbourhood_mm": 4.0}
    assert "_refine" in compiled(lambda: parametric.compile_fit(frames))
    assert compiled(lambda: parametric.fit(tissue, arterial, TR, noise, mask=mask, **pulled)) == set()
