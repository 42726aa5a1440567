"""Ranges of the training split: those of the signal that the device computes, sampled without surprise."""

import numpy as np
import pytest
from exams import prepared_of, rewrite_sidecar, write_fake_cohort, write_fake_exam

from dscgan_jax.data import exams, layouts, preparation
from dscgan_jax.data.ranges import RangeGatherer
from dscgan_jax.data.scaling import SIGNALS, Scaling, convert_signal
from dscgan_jax.errors import InputError


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """One training subject's prepared data."""
    folder = tmp_path_factory.mktemp("ranges")
    return prepared_of(write_fake_cohort(folder / "root", 2, ("train", "validation")), folder / "cache")


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_measured_signal_is_the_one_the_device_computes(built, signal):
    slices = [dict(example) for example in built.as_data_source("train")]
    series = np.stack([one["dsc"] * np.float32(one["dsc_scale"]) for one in slices])
    fields = ("baseline_begin", "baseline_end", "brain_signal", "echo_seconds")
    converted = np.asarray(
        convert_signal(series, *(np.array([one[name] for one in slices]) for name in fields), signal)
    )
    low, high = built.info.metadata["ranges"]["published"][signal]
    np.testing.assert_allclose([converted.min(), converted.max()], [low, high], rtol=2e-5, atol=1e-5)
    inside = np.moveaxis(converted, 1, -1)[np.stack([one["mask"] for one in slices]).astype(bool)]
    np.testing.assert_allclose(
        np.percentile(inside, (0.1, 99.9)), built.info.metadata["ranges"]["percentile"][signal], rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_the_median_ttp_counts_from_the_first_acquired_frame_though_the_range_does_not(tmp_path):
    write_fake_exam(tmp_path, shape=(24, 24, 3))
    exam = exams.load_exam(layouts.find_subjects(tmp_path, "bids")[0])
    gathered = []
    for lead in (0.0, 6.0):
        settings = preparation.PreparationSettings(24, 0, 64, "seconds", 1.5, "keep", lead_seconds=lead)
        gatherer = RangeGatherer(1)
        gatherer.add(preparation.prepare(exam, settings))
        gathered.append(gatherer.metadata())
    plain, moved = gathered
    assert moved["medians"]["ttp"] == pytest.approx(plain["medians"]["ttp"], abs=1e-4)
    assert moved["ranges"]["percentile"]["ttp"][1] < plain["ranges"]["percentile"]["ttp"][1] - 1.0


@pytest.mark.slow
def test_a_large_cohort_is_sampled_and_the_sample_is_close(monkeypatch, tmp_path):
    monkeypatch.setattr("dscgan_jax.data.ranges.SAMPLES", 6000)
    write_fake_exam(tmp_path, shape=(24, 24, 3))
    exam = exams.load_exam(layouts.find_subjects(tmp_path, "bids")[0])
    prepared = preparation.prepare(exam, preparation.PreparationSettings(24, 0, 64, "stretch", 1.5, "keep"))
    gatherer = RangeGatherer(3)
    gatherer.add(prepared)
    sampled = gatherer.metadata()
    exact = np.percentile(exam.series[exam.mask], (0.1, 99.9))
    np.testing.assert_allclose(sampled["ranges"]["percentile"]["raw"], exact, rtol=0.05)
    assert sampled["medians"]["mtt"] == pytest.approx(np.median(exam.maps["mtt"][exam.mask]), abs=0.05)
    again = RangeGatherer(3)
    again.add(prepared)
    assert again.metadata() == sampled


def test_without_an_echo_time_there_is_no_range_of_delta_r2star(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    rewrite_sidecar(root / "sub-0001" / "perf" / "sub-0001_dsc.json", EchoTime=None)
    ranges = prepared_of(root, tmp_path / "cache").info.metadata["ranges"]
    assert ranges["percentile"]["delta_r2star"] is None and ranges["percentile"]["relative"] is not None
    with pytest.raises(InputError, match="EchoTime"):
        Scaling.from_ranges(ranges, "delta_r2star", ("tmax",), "percentile")
