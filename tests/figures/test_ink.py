"""Titles, and what they cost."""

import subprocess
import sys

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.perfusion import conventional


def test_every_method_has_a_title_and_a_folder_keeps_its_name():
    assert ink.METHOD_TITLES.keys() == set(conventional.METHODS)
    assert ink.source_title("osvd") == ink.METHOD_TITLES["osvd"] == "oSVD"
    assert ink.source_title("blank") == "null: blank"
    assert ink.source_title("mine") == "mine"


def test_matplotlib_is_imported_with_the_first_picture():
    script = (
        "import sys; from dscgan_jax.figures import curves, ink, panels; assert 'matplotlib' not in sys.modules; "
        "ink.to_png(ink.new_figure(1, 1)); assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_white_is_a_little_above_the_brain_and_never_zero():
    frame = np.arange(100.0).reshape(10, 10)
    brain = frame < 50
    assert 49 < ink.white_level(frame, brain) < ink.white_level(frame, None) < 110
    assert ink.white_level(np.zeros((2, 2)), None) > 0
    assert ink.white_level(np.full((2, 2), np.nan), None) == 1.0


def test_a_figure_becomes_a_png_or_an_image(tmp_path):
    figure = ink.new_figure(2, 1)
    ink.save_png(figure, tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")
    rgb = ink.to_rgb(figure, dpi=50)
    assert rgb.shape == (50, 100, 3) and rgb.dtype == np.uint8
