"""What a network learned by heart: exams are shown as training shows them, and a refused one is left out."""

import by_heart
import numpy as np
import pytest

from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.phantom.drawn import Drawing

SETTINGS = PreparationSettings(48, 0, 64, "seconds", 1.25, "hold", lead_seconds=12.0, outside_brain="zero")


@pytest.mark.slow
def test_slices_are_those_of_the_prepared_exam_in_order_with_their_truth():
    drawing = Drawing("varied", 3, 48, 3, SETTINGS, 10)
    batch, exam = by_heart.slices_of(drawing, 5), drawing.prepared(5)
    assert batch.dsc.shape == (by_heart.SLICES, 64, 48, 48) and batch.has_map.all()
    places = [int(np.flatnonzero([np.array_equal(one, dsc) for dsc in exam.dsc])[0]) for one in batch.dsc]
    assert places == sorted(places) and len(set(places)) > 1
    np.testing.assert_array_equal(batch.maps, exam.maps[places])
    np.testing.assert_array_equal(batch.mask, exam.mask[places])


def test_an_exam_that_the_program_refuses_is_left_out(monkeypatch):
    monkeypatch.setattr(Drawing, "prepared", lambda *_: None)
    assert by_heart.slices_of(Drawing("varied", 3, 48, 3, SETTINGS, 10), 5) is None
