"""The validation error by hand, and which slices a panel shows."""

import dataclasses

import numpy as np
import pytest

from dscgan_jax.data.batch import Batch
from dscgan_jax.data.batches import EvaluationBatch
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.training import sharding, validation

SCALING = Scaling("raw", Limits(0.0, 100.0), ("tmax",), (Limits(0.0, 10.0),), True)
TMAX = MAP_NAMES.index("tmax")


def evaluation_batch(tmax, subjects, padding=None, has_map=True):
    """Slices of 2 x 2 with one Tmax value each; the brain is the first row."""
    n = len(tmax)
    maps = np.zeros((n, 2, 2, len(MAP_NAMES)), np.float32)
    maps[..., TMAX] = np.float32(tmax)[:, None, None]
    mask = np.zeros((n, 2, 2), bool)
    mask[:, 0] = True
    one = np.ones(n, np.float32)
    batch = Batch(
        np.zeros((n, 3, 2, 2), np.int16),
        *(one, np.zeros(n, np.int32), np.ones(n, np.int32), one, one),
        maps=maps,
        has_map=np.full((n, len(MAP_NAMES)), has_map),
        mask=mask,
    )
    return EvaluationBatch(batch, subjects, np.arange(n, dtype=np.int32), np.array(padding or [False] * n))


def six_seconds(_, inputs):
    """A network that says 6 s everywhere, scaled."""
    assert inputs.maps is None
    return inputs.dsc[:, 0, :, :, None] * 0 + np.float32(0.2)


def test_the_error_counts_each_brain_voxel_once_and_no_padding():
    batches = [
        evaluation_batch([6.0, 3.0, 5.0, 6.0], ["a"] * 4),
        evaluation_batch([2.0, 9.0, 9.0, 9.0], ["b"] * 4, [False, True, True, True]),
    ]
    errors = validation.validate(six_seconds, {}, batches, SCALING, sharding.data_mesh())
    assert errors["brain_mae_tmax"] == pytest.approx(8 / 5) and errors["error"] == pytest.approx(8 / 50)


def test_values_at_the_ends_of_the_range_are_counted_in_the_brain():
    """The range ends at 0 and 10 s: of five slices the network leaves none there, the reference two."""
    batches = [
        evaluation_batch([0.0, 3.0, 5.0, 12.0], ["a"] * 4),
        evaluation_batch([9.99, 0.0, 0.0, 0.0], ["b"] * 4, [False, True, True, True]),
    ]
    errors = validation.validate(six_seconds, {}, batches, SCALING, sharding.data_mesh())
    assert errors["saturated_tmax"] == 0 and errors["saturated_reference_tmax"] == pytest.approx(2 / 5)
    assert validation.saturation_warnings(errors, ["tmax"]) == []
    at_the_end = lambda _, inputs: inputs.dsc[:, 0, :, :, None] * 0 + np.float32(0.9999)  # noqa: E731
    errors = validation.validate(at_the_end, {}, batches, SCALING, sharding.data_mesh())
    assert errors["saturated_tmax"] == 1
    (line,) = validation.saturation_warnings(errors, ["tmax"])
    assert line.startswith("warning: on validation 100% of Tmax in the brain") and "40% of the reference" in line


def test_a_target_that_no_validation_subject_has_is_named():
    batches = [evaluation_batch([6.0] * 4, ["a"] * 4, has_map=False)]
    with pytest.raises(InputError, match="no validation subject has tmax"):
        validation.validate(six_seconds, {}, batches, SCALING, sharding.data_mesh())


def test_a_panel_shows_the_fullest_slice_of_each_of_the_first_subjects():
    batches = [
        evaluation_batch([1.0, 7.0, 2.0, 3.0], ["a", "a", "b", "c"]),
        evaluation_batch([9.0, 5.0, 4.0, 9.0], ["d", "b", "c", "a"], [False, False, False, True]),
    ]
    samples = validation.choose_samples(batches, SCALING)
    assert samples.subject == ["a", "b", "c"] and samples.slice_index.tolist() == [1, 1, 2]
    assert samples.batch.maps[:, 0, 0, TMAX].tolist() == [7.0, 5.0, 4.0]


def test_a_panel_of_a_network_that_sees_whole_exams_keeps_them_whole_and_shows_one_slice_of_each(monkeypatch):
    together = evaluation_batch([1.0, 7.0, 3.0, 2.0], ["a", "a", "b", "b"])
    samples = validation.choose_samples([dataclasses.replace(together, slice_index=np.arange(4) % 2)], SCALING, 2)
    assert samples.subject == ["a", "b"] and samples.slice_index.tolist() == [1, 0]
    assert samples.batch.maps[:, 0, 0, TMAX].tolist() == [1.0, 7.0, 3.0, 2.0]
    monkeypatch.setattr(validation.panels, "sample_panel", lambda path, **shown: shown)
    numbered = lambda _, inputs: np.arange(len(inputs.dsc), dtype=np.float32)[:, None, None, None] / 10  # noqa: E731
    shown = validation.draw_samples(numbered, {}, samples, SCALING, None, 2)
    assert shown["reference"][:, 0, 0, 0].tolist() == [7.0, 3.0] and shown["titles"] == ["a, slice 1", "b, slice 0"]
    np.testing.assert_allclose(shown["predicted"][:, 0, 0, 0], [5.5, 6.0])
