"""The viewer of an exam in a real browser: what one clicks and what one sees. On 12 x 10 x 3 voxels of known values."""

import dataclasses
import json
import re

import numpy as np
import pytest

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.evaluation.readout import read_out
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import exam
from dscgan_jax.pages.viewer.view import Curves, ExamView, viewer

SHAPE, FRAMES = (12, 10, 3), 20
AFFINE = np.array(
    [[-8.0, 0, 0, 44], [0, 8.0, 0, -36], [0, 0, 5.0, 0], [0, 0, 0, 1]]
)  # LAS: the file counts from the left
X, Y, Z = np.indices(SHAPE)
TISSUE = (X >= 2) & (X < 10) & (Y >= 1) & (Y < 9)


def maps(**changes):
    """Tmax is 1 s for each voxel from left to right, and 8 s in the middle of the upper slice; CBF is 10 y."""
    tmax = np.where((Z == 2) & (X == 5) & (Y == 5), 8.0, 0.5 * X)
    volumes = {"cbf": 10.0 * Y, "tmax": tmax}
    volumes = {name: np.where(TISSUE, values, 0).astype(np.float32) for name, values in volumes.items()}
    made = ExamMaps(
        "sub-1", volumes, {name: MAPS[name].unit for name in volumes}, StoredGrid(SHAPE, AFFINE), mask=TISSUE
    )
    return dataclasses.replace(made, **changes)


def view(methods=None):
    curve = np.exp(-((np.arange(FRAMES) - 8.0) ** 2) / 8)
    measured = (X + 1)[TISSUE][:, None] * curve
    series = 500.0 * np.exp(-0.1 * (X + 1)[..., None] * curve)
    arteries = np.zeros(SHAPE, bool)
    arteries[4, 4, 2] = True
    curves = Curves(TISSUE, measured, "mM", measured, 50 * curve, arteries, 1)
    return ExamView(methods or {"fit": maps()}, series, 2.0, 10.0, curves)


def test_what_comes_from_files_cannot_leave_its_element():
    text = viewer(view({"</script><script>alert(1)</script>": maps()}))
    assert "<script>alert" not in text
    data = re.search(r'id="viewer-exam">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data)["maps"][0]["method"] == "</script><script>alert(1)</script>"


def test_an_exam_without_late_tissue_and_without_aif_is_shown_too():
    calm = maps(volumes={"cbf": maps()["cbf"]}, units={"cbf": "relative"})
    shown = dataclasses.replace(view({"network": calm}), curves=Curves(TISSUE, view().curves.measured))
    text = viewer(shown)
    data = json.loads(re.search(r'id="viewer-exam">(.*?)</script>', text, re.DOTALL)[1])
    assert data["aif"] is None and data["arteries"] == [] and data["maps"][0]["unit"] == ""
    assert "fitted" not in dict(data["arrays"]) and data["curve_text"] == "concentration, no unit"


@pytest.fixture
def page(browser, tmp_path):
    """The page, open; whatever the script complains about fails the test."""
    methods = {"fit": maps(), "network": maps()}
    read_outs = {title: read_out(made) for title, made in methods.items()}
    exam.write(tmp_path, exam.ExamPage("sub-1", "maps", view(methods), read_outs, ["brief"], ()))
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    complaints = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    opened.goto((tmp_path / "sub-1.html").as_uri())
    opened.wait_for_selector(".viewer.ready")
    yield opened
    opened.close()
    assert complaints == []


def text_of(page, part):
    return page.inner_text(f'[data-part="{part}"]')


def value_of(page, number):
    return page.inner_text(f'[data-map="{number}"] output')


def click(page, selector, x, y):
    """Clicks the voxel (x, y), RAS, of what the page shows of a slice: all of it, for the margin is wide."""
    canvas = page.query_selector(selector)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    column, row = SHAPE[0] - 1 - x, SHAPE[1] - 1 - y
    across, down = (column + 0.5) / SHAPE[0], (row + 0.5) / SHAPE[1]
    page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)


def test_late_tissue_is_shown_first_and_a_click_shows_the_values_of_its_voxel(page):
    assert text_of(page, "slice-text") == "slice 3 of 3" and value_of(page, 1) == "8.00 s"
    click(page, '[data-map="0"] canvas.slice', 7, 3)
    assert value_of(page, 0) == "30.00 mL/100 g/min" and value_of(page, 1) == "3.50 s" == value_of(page, 3)
    assert text_of(page, "voxel").startswith("voxel 4, 3, 2 of the file · 12.0, -12.0, 10.0 mm")
    click(page, '[data-part="film"]', 0, 0)
    assert value_of(page, 0) == "–" and "outside the tissue" in page.inner_html('[data-part="chart"]')


def test_slider_wheel_and_keys_move_all_maps(page):
    before = page.query_selector('[data-map="1"] canvas.slice').screenshot()
    page.fill('[data-part="slice"]', "0")
    assert text_of(page, "slice-text") == "slice 1 of 3"
    assert page.query_selector('[data-map="1"] canvas.slice').screenshot() != before
    page.focus("#viewer")
    page.keyboard.press("ArrowUp")
    assert text_of(page, "slice-text") == "slice 2 of 3"
    box = page.query_selector('[data-map="0"] canvas.slice').bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.wheel(0, 100)
    page.wait_for_function("document.querySelector('[data-part=slice-text]').textContent === 'slice 3 of 3'")
    page.keyboard.press("ArrowUp")  # there is no further one
    assert text_of(page, "slice-text") == "slice 3 of 3"


def test_everything_can_be_done_with_a_keyboard(page):
    page.focus("#viewer")
    click(page, '[data-map="0"] canvas.slice', 7, 3)
    page.keyboard.press("Shift+ArrowLeft")  # to the patient's right
    page.keyboard.press("Shift+ArrowUp")  # to the front
    assert value_of(page, 0) == "40.00 mL/100 g/min" and value_of(page, 1) == "4.00 s"
    frame = text_of(page, "frame-text")
    page.keyboard.press("ArrowRight")
    assert text_of(page, "frame-text") != frame
    page.keyboard.press("o")
    assert not page.is_checked('[data-part="overlay"]')
    page.keyboard.press("Space")
    assert text_of(page, "play") == "Stop"
    page.keyboard.press("Space")
    assert text_of(page, "play") == "Play"


def test_a_window_changes_the_picture_and_nonsense_changes_nothing(page):
    canvas = page.query_selector('[data-map="0"] canvas.slice')
    upper = page.query_selector('[data-map="0"] input >> nth=1')
    before = canvas.screenshot()
    upper.fill("40")
    upper.press("Enter")
    changed = canvas.screenshot()
    assert changed != before
    upper.fill("-5")
    upper.press("Enter")
    assert upper.input_value() == "40" and canvas.screenshot() == changed
    page.click('[data-part="windows"]')
    assert upper.input_value() == "80" and canvas.screenshot() == before


def test_overlay_threshold_and_palette_change_the_picture(page):
    film = page.query_selector('[data-part="film"]')
    seen = {film.screenshot()}
    page.select_option('[data-part="threshold"]', "4")
    seen.add(film.screenshot())
    page.fill('[data-part="opacity"]', "100")
    seen.add(film.screenshot())
    page.uncheck('[data-part="overlay"]')
    seen.add(film.screenshot())
    page.uncheck('[data-part="arteries"]')
    seen.add(film.screenshot())
    assert len(seen) == 5
    tmax = page.query_selector('[data-map="1"] canvas.slice')
    pictures = set()
    for palette in ("clinical", "perceptual", "grey"):
        page.select_option('[data-part="palette"]', palette)
        pictures.add(tmax.screenshot())
    assert len(pictures) == 3


def test_the_chart_shows_tissue_fit_and_aif_of_the_voxel(page):
    click(page, '[data-map="0"] canvas.slice', 7, 3)
    chart = page.inner_html('[data-part="chart"]')
    assert chart.count("<polyline") == 3 and "AIF × 0.16" in chart and "concentration [mM]" in chart


def test_on_a_narrow_screen_nothing_is_wider_than_the_screen(page):
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    left = {round(pane.bounding_box()["x"]) for pane in page.query_selector_all("[data-map]")}
    assert len(left) == 2  # columns


def test_without_scripts_the_page_says_where_the_maps_are():
    assert "<noscript>" in viewer(view())
