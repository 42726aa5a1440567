"""The first pass: an exam that ends before late tissue has been seen is told, one that does not is not."""

import numpy as np
import pytest

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import signal
from dscgan_jax.perfusion.checks.first_pass import FirstPass, check_first_pass, first_pass
from dscgan_jax.perfusion.kinetics import gamma_variate

FRAME, ARRIVAL = 1.5, 20.0


def told(seconds_after_arrival: float, late: int = 0, tail: float = 0.0, moved: float = 0.0) -> list[str]:
    """Severities of the finding, of an exam that ends so long after the arterial bolus arrives.

    Of its 500 voxels some may be 32 s late; what recirculates leaves a tail, of the peak; a head that moves after the
    first pass makes each voxel brighter or darker, by this share of the signal.
    """
    seconds = np.arange(0.0, ARRIVAL + seconds_after_arrival, FRAME)
    rng = np.random.default_rng(0)
    delay = np.where(np.arange(500) < late, 32.0, 0.0)[:, None]
    passing = gamma_variate(seconds - ARRIVAL - 1.0 - delay, 7.0, 3.0)
    passing = np.maximum(passing, tail * np.maximum.accumulate(passing, axis=1))
    curve = np.exp(-0.3 * passing) * (1 + moved * rng.standard_normal((500, 1)) * (seconds > ARRIVAL + 25))
    curves = np.float32(1000 * curve + rng.normal(0, 30 if tail else 5, curve.shape))
    found = Findings()
    check_first_pass(first_pass(curves, signal.find_bolus(curves.mean(axis=0)), FRAME), FRAME, found)
    return [finding.severity for finding in found.listed() if finding.name == "truncated"]


def test_an_exam_that_ends_before_late_tissue_could_be_seen_is_told():
    assert told(34.0) == ["warning"]


@pytest.mark.parametrize("seconds", [40.0, 45.0, 60.0, 90.0])
def test_a_whole_exam_is_not(seconds):
    assert told(seconds) == []


def test_an_exam_that_cuts_the_tissue_that_is_late_is_told():
    assert told(45.0, late=50) == ["warning"]
    assert told(90.0, late=50) == []


def test_neither_a_tail_under_noise_nor_a_head_that_moved_is_late_tissue():
    assert told(50.0, tail=0.4) == [] and told(50.0, moved=0.3) == []
    assert told(45.0, tail=0.4, late=50) == ["warning"] and told(45.0, moved=0.1, late=150) == ["warning"]


def test_an_exam_that_ends_within_the_first_pass_is_an_error():
    assert told(13.0) == ["error"]


@pytest.mark.parametrize(
    ("seconds", "severity"), [(3.0, "error"), (6.5, "warning"), (7.0, None), (21.0, "warning"), (46.0, "error")]
)
def test_a_first_pass_of_unusual_width_is_told_and_an_impossible_one_refused(seconds, severity):
    found = Findings()
    check_first_pass(FirstPass(seconds, 70.0, 0.0), FRAME, found)
    assert [one.severity for one in found.listed() if one.name == "first_pass_width"] == (
        [severity] if severity else []
    )


def test_a_frame_length_that_is_only_filled_in_is_refuted_below_six_seconds():
    for seconds, refuted in ((5.9, True), (6.1, False)):
        found = Findings()
        check_first_pass(FirstPass(seconds, 70.0, 0.0), FRAME, found, unsure_length=True)
        assert ("frame_length" in {one.name for one in found.listed()}) == refuted


def test_an_exam_that_is_cut_within_its_first_pass_is_mostly_unfinished():
    seconds = np.arange(0.0, ARRIVAL + 13.0, FRAME)
    curve = np.exp(-0.3 * gamma_variate(seconds - ARRIVAL - 1.0, 7.0, 3.0))
    curves = np.float32(1000 * curve + np.random.default_rng(0).normal(0, 5, (500, len(seconds))))
    assert first_pass(curves, signal.BolusTiming(0, 0, 13, int(curve.argmin())), FRAME).unfinished > 0.5
