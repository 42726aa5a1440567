"""The figures of docs/physics.md, drawn with the equation that the package simulates and inverts exams with.

    python studies/physics_figures.py                # docs/physics_*.png, in a minute

It prints the numbers that the page quotes.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.perfusion import deconvolution, kinetics, parametric, signal
from dscgan_jax.perfusion.kinetics import Perfusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARTERY = kinetics.ArterialCurve(arrival_seconds=14.0, peak_mm=3.0, rise_seconds=4.5)
ECHO_SECONDS, FRAME_SECONDS, LAST_SECONDS = 0.03, 1.5, 75.0
SNR = 50.0  # of a voxel: baseline signal over the noise of one frame
DISPERSION = 0.5  # s, scale of the vascular transport function that the tissues share
# CBF in mL/100 g/min, MTT in s, delay in s: values in the usual range of each tissue
TISSUES = {"grey matter": (60.0, 4.0, 0.5), "white matter": (22.0, 5.0, 1.0), "behind an occlusion": (20.0, 9.0, 5.0)}
FINE = np.arange(0.0, LAST_SECONDS, 0.05)
FRAMES = np.arange(0.0, LAST_SECONDS, FRAME_SECONDS)
FINE_LAGS = np.arange(0.0, 40.0, 0.02)
SHORT, MIDDLE, LONG = ink.ACCENTS[0], ink.ACCENTS[2], ink.ACCENTS[1]
DELAYED = [(delay, 5.0) for delay in (0.0, 2.0, 4.0, 6.0, 8.0)]  # delay and MTT, s
SLOWED = [(3.0, mtt) for mtt in (2.5, 4.0, 6.0, 8.0, 12.0)]
COLOURS = dict(zip(TISSUES, (SHORT, MIDDLE, LONG), strict=True))


class Inverted(NamedTuple):
    """What a method found, (case, voxel): Tmax in s, CBF in mL/100 g/min."""

    tmax: np.ndarray
    cbf: np.ndarray


def perfusion_of(cbf: float, mtt: float, delay: float, dispersion: float = DISPERSION, copies: int = 1) -> Perfusion:
    """Equal voxels of one tissue."""
    ones = np.ones(copies)
    return Perfusion(cbf * ones[:, None], mtt * ones[:, None], delay * ones, dispersion * ones)


def response_of(perfusion: Perfusion) -> np.ndarray:
    """CBF (h (*) R) delayed, of the first voxel, in mL/100 g/min at `FINE_LAGS`."""
    step = FINE_LAGS[1]
    travel = kinetics.vascular_transport_function(FINE_LAGS, perfusion.dispersion[0])
    stay = kinetics.residue(FINE_LAGS, perfusion.mtt[0])
    response = perfusion.cbf[0, 0] * step * np.convolve(travel, stay)[: len(FINE_LAGS)]
    return np.interp(FINE_LAGS - perfusion.delay[0], FINE_LAGS, response, left=0.0)


def measured(perfusion: Perfusion, seed: int) -> np.ndarray:
    """Concentration (voxel, time) as it is measured: through a signal with noise, back to mM."""
    truth = kinetics.delta_r2star_of(kinetics.tissue_concentration(ARTERY, perfusion, FRAMES))
    noise = np.random.default_rng(seed).standard_normal(truth.shape) / SNR
    series = signal.signal_after(1.0, truth, ECHO_SECONDS) + noise
    baseline = series[:, : int(ARTERY.arrival_seconds / FRAME_SECONDS)].mean(axis=1)
    return kinetics.concentration_of(signal.delta_r2star(series, baseline, ECHO_SECONDS))


def signal_figure() -> "Figure":
    """One voxel of each tissue from signal over ΔR2* to concentration."""
    figure = ink.new_figure(10.5, 2.9)
    axes = figure.subplots(1, 3)
    for number, (name, (cbf, mtt, delay)) in enumerate(TISSUES.items()):
        voxel = perfusion_of(cbf, mtt, delay)
        truth = kinetics.tissue_concentration(ARTERY, voxel, FINE)[0]
        frames = measured(voxel, seed=number)[0]
        for axis, change in zip(axes, (_signal_of, kinetics.delta_r2star_of, lambda one: one), strict=True):
            axis.plot(FINE, change(truth), color=COLOURS[name], linewidth=1.4, label=name)
            axis.plot(FRAMES, change(frames), ".", color=COLOURS[name], markersize=3.5)
    titles = ("signal S / S0", "ΔR2* = −ln(S / S0) / TE  [1/s]", "concentration = ΔR2* / k  [mM]")
    for axis, title in zip(axes, titles, strict=True):
        _finish(axis, title, "time from the first frame [s]")
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def _signal_of(concentration: np.ndarray) -> np.ndarray:
    return signal.signal_after(1.0, kinetics.delta_r2star_of(concentration), ECHO_SECONDS)


def model_figure() -> "Figure":
    """AIF, residue functions, and the tissue curves that they make together."""
    figure = ink.new_figure(10.5, 2.9)
    axes = figure.subplots(1, 3)
    axes[0].plot(FINE, ARTERY(FINE), color=ink.INK)
    axes[0].annotate("first pass", (21.5, 2.5), fontsize=8, color=ink.MUTED)
    axes[0].annotate("recirculation", (34.0, 0.75), fontsize=8, color=ink.MUTED)
    _finish(axes[0], "AIF  $C_a$  [mM]", "time from the first frame [s]")
    for shape, style, words in ((1.0, ":", "exponential"), (2.0, "-", "gamma, shape 2"), (np.inf, "--", "box")):
        for mtt, colour in ((4.0, SHORT), (9.0, LONG)):
            label = f"{words}, MTT {mtt:g} s" if style == "-" or mtt == 4.0 else None
            axes[1].plot(
                FINE_LAGS, kinetics.residue(FINE_LAGS, np.array(mtt), shape), color=colour, linestyle=style, label=label
            )
    axes[1].set_xlim(0.0, 25.0)
    axes[1].legend(fontsize=8, frameon=False)
    _finish(axes[1], "residue function R", "time since entry [s]")
    for name, (cbf, mtt, delay) in TISSUES.items():
        curve = kinetics.tissue_concentration(ARTERY, perfusion_of(cbf, mtt, delay), FINE)[0]
        label = f"{name}: CBF {cbf:g}, MTT {mtt:g} s"
        axes[2].plot(FINE, curve, color=COLOURS[name], label=label)
    axes[2].set_ylim(0.0, 1.45 * axes[2].get_ylim()[1])
    axes[2].legend(fontsize=8, frameon=False, loc="upper right")
    _finish(axes[2], "tissue  $C_t$  [mM]", "time from the first frame [s]")
    return figure


def delay_figure() -> "Figure":
    """What Tmax is made of: delay, dispersion and transit time."""
    figure = ink.new_figure(10.5, 2.9)
    axes = figure.subplots(1, 3)
    cases = ((4.0, 0.0, 0.1), (4.0, 4.0, 0.1), (4.0, 4.0, 1.2), (12.0, 4.0, 1.2))
    words = ("healthy", "+ delay of 4 s", "+ dispersion", "+ longer transit")
    for (mtt, delay, dispersion), colour, label in zip(cases, ink.ACCENTS, words, strict=False):
        voxel = perfusion_of(240.0 / mtt, mtt, delay, dispersion)
        response, tmax = response_of(voxel), kinetics.residue_peak_seconds(voxel)[0]
        axes[0].plot(FINE_LAGS, response, color=colour, label=f"{label}: Tmax {tmax:.1f} s")
        axes[0].plot(tmax, np.interp(tmax, FINE_LAGS, response), "o", color=colour, markersize=5)
        axes[1].plot(FINE, kinetics.tissue_concentration(ARTERY, voxel, FINE)[0], color=colour)
    axes[0].set_xlim(0.0, 25.0)
    axes[0].legend(fontsize=8, frameon=False)
    _finish(axes[0], "impulse response [mL/100 g/min]", "lag behind the AIF [s]")
    _finish(axes[1], "tissue  $C_t$  [mM], at equal CBV", "time from the first frame [s]")
    mtts = np.linspace(2.0, 16.0, 57)
    for dispersion, style in ((0.1, ":"), (0.5, "-"), (1.2, "--")):
        ones = np.ones(len(mtts))
        voxels = Perfusion(ones[:, None], mtts[:, None], 0.0 * ones, dispersion * ones)
        label = f"mean travelling time {kinetics.DISPERSION_SHAPE * dispersion:.1f} s"
        axes[2].plot(mtts, kinetics.residue_peak_seconds(voxels), color=ink.INK, linestyle=style, label=label)
    axes[2].set_ylim(0.0, 10.0)
    axes[2].legend(fontsize=8, frameon=False)
    _finish(axes[2], "Tmax without any delay [s]", "MTT [s]")
    return figure


def inverted(cases: list[tuple[float, float]], copies: int, seed: int) -> tuple[dict[str, Inverted], np.ndarray]:
    """{method: maps of noisy voxels of CBV 4 mL/100 g, the AIF being known}, and the true Tmax.

    Args:
      cases: delay and MTT, s; all of them are one exam.
      copies: voxels of each.
      seed: of the noise.

    Returns:
      maps as (case, voxel), and Tmax (case,) in s.
    """
    voxels = [perfusion_of(240.0 / mtt, mtt, delay, copies=copies) for delay, mtt in cases]
    tissue = np.concatenate([measured(one, seed + number) for number, one in enumerate(voxels)]).astype(np.float32)
    arterial = ARTERY(FRAMES)
    noise = np.full(len(tissue), 1.0 / SNR / ECHO_SECONDS / kinetics.TISSUE_RELAXIVITY, np.float32)
    found = {
        "csvd": deconvolution.deconvolve_svd(tissue, arterial, FRAME_SECONDS, "csvd"),
        "parametric": parametric.fit(tissue, arterial, FRAME_SECONDS, noise).deconvolved(),
    }
    shape = (len(cases), copies)
    maps = {method: Inverted(one.tmax.reshape(shape), one.cbf.reshape(shape)) for method, one in found.items()}
    return maps, np.array([kinetics.residue_peak_seconds(one)[0] for one in voxels])


def inversion_figure(copies: int = 300) -> "Figure":
    """The same noisy curves inverted by cSVD and by the parametric fit."""
    figure = ink.new_figure(10.5, 2.9)
    axes = figure.subplots(1, 3)
    voxel = perfusion_of(240.0 / 5.0, 5.0, 3.0)
    axes[0].plot(FINE_LAGS, response_of(voxel), color=ink.INK, label="truth")
    lags = np.arange(2 * len(FRAMES) * 4) * FRAME_SECONDS / 4
    inverse = deconvolution.circulant_inverse(
        ARTERY(FRAMES), FRAME_SECONDS, deconvolution.TRUNCATION_THRESHOLD["csvd"], 4
    )
    to_flow = 6000.0 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR
    for seed in range(4):
        response = to_flow * inverse @ measured(voxel, seed)[0]
        shown = {"label": "cSVD of noisy curves"} if seed == 0 else {}
        axes[0].plot(lags, response, color=ink.ACCENTS[0], linewidth=0.9, alpha=0.8, **shown)
    axes[0].set_xlim(0.0, 30.0)
    axes[0].legend(fontsize=8, frameon=False)
    _finish(axes[0], "impulse response [mL/100 g/min]", "lag behind the AIF [s]")
    late, true_tmax = inverted(DELAYED, copies, seed=0)
    slow, _ = inverted(SLOWED, copies, seed=10)
    true_cbf = np.array([240.0 / mtt for _, mtt in SLOWED])
    for method, colour in (("csvd", ink.ACCENTS[0]), ("parametric", ink.ACCENTS[1])):
        _with_spread(axes[1], true_tmax, late[method].tmax, colour, ink.METHOD_TITLES[method])
        _with_spread(axes[2], true_cbf, slow[method].cbf, colour, ink.METHOD_TITLES[method])
    for axis in axes[1:]:
        axis.axline((0.0, 0.0), slope=1.0, color=ink.MUTED, linewidth=0.8)
    _finish(axes[1], "estimated Tmax [s], MTT 5 s", "true Tmax [s]")
    _finish(axes[2], "estimated CBF [mL/100 g/min], CBV 4", "true CBF [mL/100 g/min]")
    axes[1].legend(fontsize=8, frameon=False)
    return figure


def _with_spread(axis: "Axes", true: np.ndarray, found: np.ndarray, colour: str, label: str) -> None:
    """Median and the range of two thirds of the voxels, over the truth of each case."""
    low, middle, high = np.percentile(found, (16, 50, 84), axis=1)
    style = {"fmt": "o", "markersize": 4, "color": colour, "linewidth": 1.2}
    axis.errorbar(true, middle, [middle - low, high - middle], label=label, **style)


def _finish(axis: "Axes", title: str, below: str) -> None:
    axis.set_title(title, fontsize=10, color=ink.INK, loc="left")
    axis.set_xlabel(below, fontsize=9, color=ink.INK)
    ink.with_quiet_grid(axis)


def numbers() -> dict[str, str]:
    """What docs/physics.md quotes, as it quotes it."""
    healthy = kinetics.residue_peak_seconds(perfusion_of(60.0, 4.0, 0.0))[0]
    slow = kinetics.residue_peak_seconds(perfusion_of(20.0, 12.0, 0.0))[0]
    late, true_tmax = inverted(DELAYED, 300, seed=0)
    bias = {method: float(np.mean(np.median(one.tmax, axis=1) - true_tmax)) for method, one in late.items()}
    share = {method: float(np.median(one.cbf)) / 48.0 for method, one in late.items()}
    return {
        "Tmax without delay, MTT 4 s": f"{healthy:.1f} s",
        "Tmax without delay, MTT 12 s": f"{slow:.1f} s",
        "cSVD, bias of Tmax": f"{bias['csvd']:.1f} s",
        "cSVD, share of CBF": f"{100 * share['csvd']:.0f} %",
        "parametric, bias of Tmax": f"{bias['parametric']:.1f} s",
        "parametric, share of CBF": f"{100 * share['parametric']:.0f} %",
        "relaxivity of tissue": f"{kinetics.TISSUE_RELAXIVITY:g}",
        "relaxivity of blood": f"{kinetics.BLOOD_RELAXIVITY:g}",
        "haematocrit factor": f"{kinetics.HAEMATOCRIT_FACTOR:.2f}",
        "density": f"{kinetics.CONSTANTS['tissue_density'].value:g} g/mL",
    }


FIGURES = {
    "signal": signal_figure,
    "model": model_figure,
    "delay": delay_figure,
    "inversion": inversion_figure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="The figures of docs/physics.md.")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs"), help="Folder of the figures.")
    folder = parser.parse_args().output
    for name, draw in FIGURES.items():
        path = folder / f"physics_{name}.png"
        ink.save_png(draw(), path)
        print(path)
    for words, number in numbers().items():
        print(f"{words}: {number}")


if __name__ == "__main__":
    main()
