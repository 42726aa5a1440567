"""Which subjects are shown, and what of them."""

import numpy as np
from exams import exam_of, fake_arrays

from dscgan_jax.pages import subjects
from dscgan_jax.pages.subjects import Gallery, notable_subjects, slices_to_show


def row(source, subject, error):
    return {"source": source, "map": "tmax", "subject": subject, "brain_mae": error}


def exam(subject):
    series, maps, mask = fake_arrays()
    return exam_of(series, mask, maps={"tmax": maps["tmax"]}, subject=subject)


def test_notable_subjects_are_ordered_by_their_error():
    rows = [row("a", f"sub-{i}", error) for i, error in enumerate((3.0, 1.0, 2.0, 5.0, 4.0))]
    assert notable_subjects(rows, "a", "tmax") == {"best": "sub-1", "median": "sub-0", "worst": "sub-3"}
    assert notable_subjects(rows[:2], "a", "tmax") == {"best": "sub-1", "worst": "sub-0"}
    assert notable_subjects(rows[:1], "a", "tmax") == {"best": "sub-0"}


def test_the_slice_with_most_hypoperfused_tissue_is_shown():
    brain = np.ones((4, 4, 9), bool)
    tall = np.zeros((4, 4, 9))
    assert slices_to_show(tall, brain & (np.arange(9) == 5), "tmax", 1) == [5]
    tall[:, :, 6] = 8
    assert slices_to_show(tall, brain, "tmax", 1) == [6]
    assert slices_to_show(tall, brain, "tmax", 3) == [4, 6, 8]


def test_pictures_of_best_and_worst_are_beside_the_records_and_old_ones_go(tmp_path):
    gallery = Gallery({"mine": ("tmax",), "other": ("tmax",)})
    for subject in ("sub-1", "sub-2"):
        shown = exam(subject)
        gallery.add(shown, {"mine": shown.maps, "other": shown.maps, "blank": shown.maps})
    (tmp_path / "median_subject.png").touch()
    gallery.draw(tmp_path, [row("mine", "sub-1", 2.0), row("mine", "sub-2", 1.0), row("blank", "sub-1", 0.0)])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["best_subject.png", "worst_subject.png"]


def test_a_source_that_refused_the_exam_is_left_out_of_its_picture():
    gallery, shown = Gallery({"mine": ("tmax",), "csvd": ("tmax",)}), exam("sub-1")
    gallery.add(shown, {"mine": shown.maps})
    [*rows] = gallery._pictures["sub-1"].rows
    assert len(rows) == subjects.N_SLICES - 1 and all(list(one.predictions) == ["mine"] for one in rows)


def test_a_picture_holds_slices_not_volumes():
    picture = subjects.picture_of(shown := exam("sub-1"), ["tmax"], {"mine": shown.maps})
    assert all(one.reference.base is None and one.reference.shape == (16, 16) for one in picture.rows)
