"""The page of physics quotes what its script computes, and the script's figures follow the package's equation."""

import pathlib

import numpy as np
import physics_figures as script
import pytest

from dscgan_jax.perfusion import kinetics

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
def test_the_page_quotes_the_numbers_of_the_script_and_shows_its_figures():
    page = " ".join((DOCS / "physics.md").read_text(encoding="utf-8").split())
    assert not {words: number for words, number in script.numbers().items() if number not in page}
    for name in script.FIGURES:
        assert f"(physics_{name}.png)" in page and (DOCS / f"physics_{name}.png").is_file()


@pytest.mark.parametrize(("mtt", "delay", "dispersion"), [(4.0, 0.0, 0.5), (9.0, 5.0, 0.5), (12.0, 4.0, 1.2)])
def test_the_drawn_response_peaks_at_tmax_and_its_area_is_the_volume(mtt, delay, dispersion):
    voxel = script.perfusion_of(240.0 / mtt, mtt, delay, dispersion)
    response = script.response_of(voxel)
    assert script.FINE_LAGS[response.argmax()] == pytest.approx(kinetics.residue_peak_seconds(voxel)[0], abs=0.05)
    seen = response.sum() * script.FINE_LAGS[1] / 60.0
    assert seen == pytest.approx(4.0, rel=0.08)  # mL/100 g; what is later than the last lag is not drawn


@pytest.mark.slow
def test_figures_are_drawn():
    for name, draw in script.FIGURES.items():
        figure = draw(copies=20) if name == "inversion" else draw()
        assert len(figure.axes) == 3 and all(axis.lines or axis.containers for axis in figure.axes)


def test_measured_curves_scatter_around_the_truth():
    voxels = script.perfusion_of(60.0, 4.0, 0.5, copies=400)
    truth = kinetics.tissue_concentration(script.ARTERY, voxels, script.FRAMES)[0]
    error = script.measured(voxels, seed=1).mean(axis=0) - truth
    noise = 1.0 / script.SNR / script.ECHO_SECONDS / kinetics.TISSUE_RELAXIVITY
    assert np.abs(error).max() < 5 * 1.4 * noise / np.sqrt(400)
