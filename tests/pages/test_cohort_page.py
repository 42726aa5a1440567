"""The page of a cohort: what it says, what it links to, and its table under a user's hands, in headless Chromium."""

import dataclasses
import html.parser

import pytest

from dscgan_jax.evaluation.exam_rows import FAILED, ExamRow
from dscgan_jax.pages import cohort

BAD = 'sub-<script>alert("x")</script>'
MADE_OF = {"mode": "deconvolve", "settings": {"method": "parametric"}, "aif": "auto"}


def rows():
    """Twelve exams: number 11 failed, number 4 has a warning, number 7 a small brain."""
    found = [
        ExamRow(
            f"sub-{n:02d}",
            "train",
            brain_ml=1200.0 + n,
            tmax_over_6s_ml=float(10 * n),
            method="parametric",
            page=f"sub-{n:02d}/perf/sub-{n:02d}.html",
            thumbnail=f"sub-{n:02d}/perf/sub-{n:02d}_thumbnail.png",
        )
        for n in range(11)
    ]
    found[4] = dataclasses.replace(found[4], warnings=("leakage",))
    found[7] = dataclasses.replace(found[7], brain_ml=100.0)
    return [*found, ExamRow(BAD, None, FAILED, "cannot be read <b>at all</b>")]


def text(source="/exams & more"):
    return cohort.page(rows(), 13, source, MADE_OF)


class Elements(html.parser.HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, content):
        super().__init__()
        self.found = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_what_came_from_files_is_text_and_never_markup():
    content = text()
    assert "<script>alert" not in content and "<b>" not in content and "/exams &amp; more" in content
    tags = [tag for tag, _ in Elements(content).found]
    assert tags.count("script") == 1


def test_links_and_pictures_are_found_beside_the_page():
    found = Elements(text()).found
    links = [attrs["href"] for tag, attrs in found if tag == "a"]
    pictures = [attrs["src"] for tag, attrs in found if tag == "img"]
    assert len(links) == len(pictures) == 11
    assert "./sub-04/perf/sub-04.html" in links and "./sub-04/perf/sub-04_thumbnail.png" in pictures
    odd = [dataclasses.replace(rows()[0], page='sub-a b"#?/perf/x.html')]
    assert 'href="./sub-a%20b%22%23%3F/perf/x.html"' in cohort.page(odd, 1, "", MADE_OF)


def test_pictures_are_said_to_show_the_map_that_they_show():
    assert '<th scope="col" class="picture">Tmax</th>' in text() and "Tmax, 0 to 12 s, of the slice with most" in text()
    flows = [dataclasses.replace(row, tmax_over_6s_ml=None, cbf_median=40.0) for row in rows()]
    content = cohort.page(flows, 12, "", MADE_OF)
    assert '<th scope="col" class="picture">CBF</th>' in content and 'alt="CBF of sub-03"' in content
    assert "CBF, 0 to 80 mL/100 g/min, of the slice with most brain" in content
    mixed = cohort.page([rows()[0], flows[1]], 2, "", MADE_OF)
    assert '<th scope="col" class="picture">picture</th>' in mixed and "12 s, of the slice with most tissue" in mixed


def test_counts_are_on_top_and_outliers_come_first():
    content = text()
    assert "11 of 13 exams have maps; 1 failed." in content and "Still to be made: 1;" in content
    assert "With warnings: 1. Unlike the others: 1." in content
    assert "Research use only" in content
    kinds = [attrs["data-kind"] for tag, attrs in Elements(content).found if tag == "tr" and "data-kind" in attrs]
    assert kinds[:4] == ["failed", "warnings", "unlike", "unremarkable"] and len(kinds) == 12


def test_a_cohort_of_nobody_has_a_page():
    assert "0 of 0 exams have maps" in cohort.page([], 0, "x", MADE_OF)


# ------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def opened(browser, tmp_path):
    (tmp_path / "cohort.html").write_text(text())
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "cohort.html").as_uri())
    yield page
    page.close()
    assert not errors


def names(page):
    return [row.inner_text() for row in page.locator("tbody tr:visible th").all()]


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_the_undefined_last(opened):
    assert names(opened)[:3] == [BAD, "sub-04", "sub-07"]
    heading = opened.get_by_role("button", name="Tmax > 6 s [mL]")
    heading.click()
    assert names(opened) == [*[f"sub-{n:02d}" for n in reversed(range(11))], BAD]
    heading.click()
    assert names(opened) == [*[f"sub-{n:02d}" for n in range(11)], BAD]
    assert opened.locator("th[aria-sort=ascending]").count() == 1
    opened.get_by_role("button", name="exam", exact=True).click()
    assert opened.locator("th[aria-sort=descending]").count() == 0


def test_filters_show_who_fits_and_count_them(opened):
    status = opened.get_by_role("status")
    assert status.inner_text() == "12 of 12 exams shown"
    opened.get_by_label("Which exams").select_option("failed")
    assert names(opened) == [BAD] and status.inner_text() == "1 of 12 exams shown"
    opened.get_by_label("Which exams").select_option("")
    opened.get_by_label("at least").fill("85")
    assert sorted(names(opened)) == ["sub-09", "sub-10"]
    opened.get_by_label("at least").fill("")
    opened.get_by_label("Words").fill("LEAK")
    assert names(opened) == ["sub-04"]
    opened.get_by_role("button", name="All, outliers first").click()
    assert len(names(opened)) == 12 and names(opened)[0] == BAD


def test_the_keyboard_alone_sorts_and_filters(opened):
    opened.get_by_label("Words").focus()
    opened.keyboard.type("sub-1")
    assert names(opened) == ["sub-10"]
    for _ in range(3):
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # all again
    assert len(names(opened)) == 12
    for _ in range(2):
        opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "exam"
    opened.keyboard.press("Space")
    assert names(opened)[:3] == [BAD, "sub-00", "sub-01"]


def test_a_narrow_screen_needs_no_sideways_scrolling(opened):
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert len(names(opened)) == 12
    opened.get_by_label("Sorted by").select_option("brain [mL]")
    assert names(opened)[:2] == ["sub-10", "sub-09"]
    opened.get_by_label("Sorted by").select_option("outliers first")
    assert names(opened)[0] == BAD
