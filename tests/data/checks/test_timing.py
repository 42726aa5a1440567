"""Where the frame length comes from: sources compared, units recognised, nothing out of bounds."""

import nibabel
import numpy as np
import pytest
from exams import rewrite_sidecar, write_fake_exam

from dscgan_jax.data import nifti
from dscgan_jax.data.checks import timing
from dscgan_jax.data.exams import load_exam
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings

SERIES = "/exams/sub-1_dsc.nii.gz"
EQUAL = [1.5 * frame for frame in range(12)]
UNEQUAL = np.cumsum([0.0] + [1.0] * 6 + [3.0] * 5).tolist()


def volume(header_time=None, time_unit=1.0) -> nifti.Volume:
    """A series whose header says so much."""
    known = header_time is not None and not (header_time == 1.0 and time_unit is None)
    seconds = header_time * (time_unit or 1.0) if known else None
    return nifti.Volume(np.zeros((2, 2, 2, 12), np.float32), np.eye(4), seconds, (), header_time, time_unit)


def read(sidecar=None, header=None, **given) -> tuple[timing.Timing, Findings]:
    found = Findings()
    return timing.read_timing(
        header or volume(), sidecar or {}, found, n_frames=12, series=SERIES, sidecar_name="sub-1_dsc.json", **given
    ), found


def told(found: Findings, severity: str) -> list[str]:
    return [finding.name for finding in found.listed() if finding.severity == severity]


@pytest.mark.parametrize(
    ("value", "seconds", "name"),
    [
        (1.5, 1.5, None),
        ("1.5", 1.5, None),
        (" 1.5 ", 1.5, None),
        (0.2, 0.2, None),
        (10.0, 10.0, None),
        (1500, 1.5, "frame_length_unit"),
        (1_500_000, 1.5, "frame_length_unit"),
    ],
)
def test_a_repetition_time_is_read_in_the_unit_that_makes_it_one(value, seconds, name):
    found_timing, found = read({"RepetitionTime": value})
    assert found_timing.frame_seconds == pytest.approx(seconds)
    assert [finding.name for finding in found.listed()] == ([name] if name else [])


@pytest.mark.parametrize("value", [0, -1.5, 0.065, 15.0, 3e7, 1e-300])
def test_what_no_unit_makes_a_frame_length_is_an_error(value):
    _, found = read({"RepetitionTime": value})
    assert told(found, "error") == ["frame_length"] and found.listed()[0].flag == "--tr=SECONDS"


@pytest.mark.parametrize("value", [True, None, [1.5], {"a": 1}, "1_0", "true", "1,5", "nan", "", float("inf"), 10**400])
def test_what_is_no_number_is_refused_by_field_and_value(value):
    with pytest.raises(InputError, match=r"sub-1_dsc.json: RepetitionTime is "):
        read({"RepetitionTime": value})


@pytest.mark.parametrize(
    ("sidecar", "header", "refused"),
    [
        (1.5, volume(1.5), False),
        (1.5, volume(1500.0, 1e-3), False),
        (1.5, volume(1.52), False),
        (1.5, volume(2.0), True),
        (1.5, volume(3.0), True),
        (0.75, volume(1.5), True),
        (1.5, volume(1.0), False),
        (1.5, volume(1.0, None), False),
        (1.5, volume(), False),  # placeholders say nothing
    ],
)
def test_sidecar_and_header_must_agree(sidecar, header, refused):
    found_timing, found = read({"RepetitionTime": sidecar}, header)
    assert found_timing.frame_seconds == sidecar and (told(found, "error") == ["frame_length"]) == refused


def test_what_the_user_gives_wins_and_the_others_are_told():
    found_timing, found = read({"RepetitionTime": 0.065}, volume(3.0), frame_seconds=1.5, echo_seconds=0.03)
    assert (found_timing.frame_seconds, found_timing.echo_seconds) == (1.5, 0.03) and told(found, "error") == []
    assert "3 s" in found.listed()[0].text


def test_a_header_alone_is_noted_and_a_placeholder_alone_doubted():
    assert told(read(header=volume(1.5))[1], "note") == ["frame_length_from_header"]
    assert told(read(header=volume(1.0))[1], "warning") == ["frame_length"]
    for header in (volume(), volume(1.0, None)):
        with pytest.raises(InputError, match=r"frame length is unknown.*--tr="):
            read(header=header)


@pytest.mark.parametrize(("value", "seconds"), [(0.03, 0.03), (30, 0.03), ("0.03", 0.03), (30_000, 0.03)])
def test_an_echo_time_is_read_in_the_unit_that_makes_it_one(value, seconds):
    assert read({"RepetitionTime": 1.5, "EchoTime": value})[0].echo_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("value", [0, -0.03, 0.5, 1e9])
def test_an_impossible_echo_time_is_an_error(value):
    assert told(read({"RepetitionTime": 1.5, "EchoTime": value})[1], "error") == ["echo_time"]


def test_no_echo_time_is_nan():
    assert np.isnan(read({"RepetitionTime": 1.5})[0].echo_seconds)


def test_equal_volume_timing_is_a_frame_length():
    found_timing, found = read({"VolumeTiming": (4.0 + 1.5 * np.arange(12)).tolist()})
    assert found_timing.frame_seconds == pytest.approx(1.5) and found_timing.equal and found.listed() == ()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([0, 1, 2], "list of 12 times"),
        ("0 1 2", "list of 12 times"),
        ([0.0] * 12, "does not increase"),
        ([*range(11), 5], "does not increase"),
        ([*range(11), "x"], "VolumeTiming is 'x'"),
    ],
)
def test_a_volume_timing_that_is_none_is_refused(times, words):
    with pytest.raises(InputError, match=words):
        read({"VolumeTiming": times})


def test_unequal_frames_are_resampled_to_where_a_straight_line_says():
    times = np.r_[np.arange(8) * 1.5, 12.0 + np.arange(4) * 3.0]
    found_timing, found = read({"VolumeTiming": times.tolist()})
    assert told(found, "note") == ["unequal_frames"] and found_timing.frame_seconds == pytest.approx(1.5)
    series = np.broadcast_to(np.float32(100 + 2 * times), (2, 2, 2, 12))
    even = timing.resampled(series, found_timing)
    np.testing.assert_allclose(even[0, 0, 0], 100 + 3.0 * np.arange(even.shape[-1]), rtol=1e-6)
    assert even.shape[-1] == 15


def test_a_lost_frame_in_the_timing_is_filled_by_its_neighbours():
    times = np.delete(np.arange(13) * 1.5, 6)
    found_timing, _ = read({"VolumeTiming": times.tolist()})
    even = timing.resampled(np.float32(times)[None, None, None], found_timing)
    np.testing.assert_allclose(even.ravel(), np.arange(13) * 1.5, rtol=1e-6)


def test_a_series_with_equal_frames_is_the_same_array():
    series = np.zeros((1, 1, 1, 12), np.float32)
    assert timing.resampled(series, read({"RepetitionTime": 1.5})[0]) is series


# ------------------------------------------------------------------------------------------------ more of each kind


@pytest.mark.parametrize(
    ("sidecar", "header", "values"),
    [
        ({"RepetitionTime": 0.065}, 2.22, ("0.065", "of one slice or shot?", "2.22")),
        ({"RepetitionTime": 0.3}, 2.22, ("0.3", "of one slice or shot?", "2.22")),
        ({"RepetitionTime": 2.22}, 0.065, ("2.22", "0.065")),
        ({"RepetitionTime": 2.22}, 1e8, ("2.22", "1e+08")),
        ({"RepetitionTime": 1500}, 3.0, ("1.5", "3")),
        ({"VolumeTiming": EQUAL}, 2.0, ("VolumeTiming", "1.5", "2")),
        ({"VolumeTiming": EQUAL, "RepetitionTime": 2.0}, None, ("VolumeTiming", "1.5", "RepetitionTime", "2")),
        ({"VolumeTiming": UNEQUAL}, 4.5, ("VolumeTiming", "4.5")),
    ],
)
def test_a_contradiction_is_one_error_with_both_values_and_the_way_out(sidecar, header, values):
    (error,) = [finding for finding in read(sidecar, volume(header))[1].listed() if finding.severity == "error"]
    assert (error.name, error.flag) == ("frame_length", "--tr=SECONDS") and all(value in error.text for value in values)


@pytest.mark.parametrize(
    "sidecar",
    [
        {"RepetitionTime": 0.065},
        {"RepetitionTime": 1.5},
        {"RepetitionTime": True},
        {"RepetitionTime": 1e30},
        {"VolumeTiming": [1]},
        {"VolumeTiming": EQUAL},
    ],
)
def test_whatever_the_files_hold_the_given_frame_length_counts_with_a_note_where_nothing_agrees(sidecar):
    when, found = read(sidecar, volume(2.22), frame_seconds=2.0)
    assert when.frame_seconds == 2.0 and when.equal
    assert [finding.short() for finding in found.listed()] == ["frame_length=2"] and "2.22" in found.listed()[0].text
    assert read(sidecar, volume(2.0), frame_seconds=2.0)[1].listed() == ()


@pytest.mark.parametrize(
    ("value", "severity"), [(200, "note"), (10_000, "note"), (1390, "note"), (2_220_000, "warning")]
)
def test_another_unit_is_told_wherever_it_stands(value, severity):
    for when, found in (read({"RepetitionTime": value}), read(frame_seconds=value), read(header=volume(float(value)))):
        assert 0.2 <= when.frame_seconds <= 10 and told(found, severity)[0] == "frame_length_unit"


def test_the_unit_of_the_header_is_no_finding():
    assert read({"RepetitionTime": 1.5}, volume(1.5e6, 1e-6))[1].listed() == ()
    assert told(read(header=volume(1390.0, None))[1], "note") == ["frame_length_unit", "frame_length_from_header"]
    with pytest.raises(InputError, match="frame length is unknown"):
        read(header=volume(1.0, 1e-3))  # the placeholder, and no millisecond
    assert read({"RepetitionTime": 1.5}, volume(1.0, 1e-3))[1].listed() == ()


@pytest.mark.parametrize(
    ("name", "sidecar", "value"),
    [
        ("frame_length", {"RepetitionTime": 0.065}, 0.065),
        ("frame_length", {"RepetitionTime": 25}, 25),
        ("echo_time", {"RepetitionTime": 1.5, "EchoTime": 0.5}, 0.5),
        ("frame_length", {"RepetitionTime": 1e30}, None),
        ("frame_length", {"RepetitionTime": -1}, None),
        ("echo_time", {"RepetitionTime": 1.5, "EchoTime": 0}, None),
    ],
)
def test_an_accepted_error_is_taken_unless_nothing_can_be_computed_with_it(name, sidecar, value):
    found = Findings((name,))
    arguments = dict(n_frames=12, series=SERIES, sidecar_name="sub-1_dsc.json")
    if value is None:
        with pytest.raises(InputError, match=rf"nothing can be computed with that, --accept={name} or not"):
            timing.read_timing(volume(), sidecar, found, **arguments)
    else:
        when = timing.read_timing(volume(), sidecar, found, **arguments)
        assert value in (when.frame_seconds, when.echo_seconds) and found.listed()[0].accepted


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0x2", "1e999", "２", [0.01, 0.03], None, True, 10**400])
def test_an_echo_time_that_is_no_number_is_refused_in_one_line(value):
    with pytest.raises(InputError, match=r"sub-1_dsc\.json: EchoTime is .*--te=SECONDS") as caught:
        read({"RepetitionTime": 1.5, "EchoTime": value})
    assert len(str(caught.value)) < 200 and ("several echoes" in str(caught.value)) == isinstance(value, list)
    assert read({"RepetitionTime": 1.5, "EchoTime": value}, echo_seconds=0.03)[1].listed() == ()


def test_a_given_echo_time_unlike_the_files_is_told_and_one_in_microseconds_doubted():
    assert told(read({"RepetitionTime": 1.5, "EchoTime": 0.03}, echo_seconds=0.045)[1], "note") == ["echo_time"]
    assert told(read({"RepetitionTime": 1.5, "EchoTime": 36})[1], "note") == ["echo_time_unit"]
    assert told(read({"RepetitionTime": 1.5, "EchoTime": 36_000})[1], "warning") == ["echo_time_unit"]


def test_steps_that_jitter_are_equal_and_their_mean_counts():
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 12)
    when, found = read({"VolumeTiming": (1.5 * np.arange(12) + jitter).tolist()}, volume(1.5))
    assert when.frame_seconds == pytest.approx(1.5, abs=2e-3) and when.equal and found.listed() == ()


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (UNEQUAL, 1.0),
        ([1000 * time for time in UNEQUAL], 1.0),  # milliseconds
        (np.cumsum([7.0] + [2.0] * 6 + [4.0] * 5).tolist(), 2.0),
    ],
)
def test_unequal_frames_begin_at_zero_end_within_the_exam_and_agree_with_any_step_in_the_header(times, step):
    for header in (None, 1.0, step, 1.5 * step, 3.0 if step == 1 else 4.0):
        when, found = read({"VolumeTiming": times}, volume(header))
        assert when.frame_seconds == pytest.approx(step) and not when.equal and not told(found, "error")
    seconds = when.acquired_seconds
    equal = timing.resampled(np.float32(seconds)[None, None, None], when).ravel()
    assert equal[0] == 0 and equal.dtype == np.float32 and seconds[-1] - step < equal[-1] <= seconds[-1] + 1e-4


def test_a_series_whose_last_frames_were_left_out_is_resampled_as_far_as_it_goes():
    when, _ = read({"VolumeTiming": UNEQUAL})
    short = np.float32(when.acquired_seconds)[None, None, None, :-2]
    np.testing.assert_allclose(timing.resampled(short, when).ravel(), np.arange(short.max() + 1), rtol=1e-6)


@pytest.mark.parametrize("steps", [[0.2] + [9.9] * 10, [0.01] * 2 + [1.5] * 9])
def test_unequal_frames_do_not_become_very_many(steps):
    when, _ = read({"VolumeTiming": np.cumsum([0.0, *steps]).tolist()})
    assert timing.resampled(np.zeros((1, 1, 1, 12), np.float32), when).shape[-1] <= 4 * 12 and when.frame_seconds >= 0.2


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([*range(11), None], "VolumeTiming is None"),
        ([*range(11), 10**400], "expected a number"),
        ([*range(11), 1e6], "a gap of"),
        ({"a": 1}, "list of 12 times"),
        ([*range(11), True], "VolumeTiming is True"),
    ],
)
def test_a_volume_timing_with_other_things_in_it_is_refused(times, words):
    with pytest.raises(InputError, match=rf"sub-1_dsc\.json: VolumeTiming.*{words}|{words}"):
        read({"VolumeTiming": times})


def test_unequal_frames_called_equal_by_the_user_are_a_warning():
    when, found = read({"VolumeTiming": UNEQUAL}, frame_seconds=1.5)
    assert when.equal and when.frame_seconds == 1.5 and told(found, "warning") == ["unequal_frames"]


def test_an_exam_with_unequal_frames_is_loaded_at_equal_ones(tmp_path):
    path = write_fake_exam(tmp_path, transient=0.0) / "sub-0001_dsc.nii.gz"
    whole = load_exam(path)
    stored = nifti.read_volume(path, 4)
    kept = np.r_[0:40, 40:64:2]  # every other frame after the bolus
    nifti.write_volume(path, stored.data[..., kept], stored.affine, dtype=np.int16, frame_seconds=1.0)
    rewrite_sidecar(nifti.sidecar_path(path), RepetitionTime=None, VolumeTiming=[float(k * 1.5) for k in kept])
    exam = load_exam(path)
    assert exam.frame_seconds == pytest.approx(1.5) and exam.series.shape[-1] == 63
    assert "unequal_frames" in [finding.name for finding in exam.findings]
    np.testing.assert_array_equal(exam.series[..., :40], whole.series[..., :40])
    assert np.abs(exam.series - whole.series[..., :63])[exam.mask].mean() < 10


def test_an_exam_whose_files_contradict_each_other_is_refused_unless_the_frame_length_is_given(tmp_path):
    path = write_fake_exam(tmp_path) / "sub-0001_dsc.nii.gz"
    rewrite_sidecar(nifti.sidecar_path(path), RepetitionTime=0.065)
    with pytest.raises(InputError, match=r"dsc\.nii\.gz: .*0\.065.*slice or shot.*1\.5 s.*--tr=SECONDS"):
        load_exam(path)
    assert load_exam(path, repetition_time=1.5).frame_seconds == 1.5


def test_a_series_of_five_axes_may_tell_its_frame_length_for_either(tmp_path):
    for zooms in ((2, 2, 5, 1.0, 1.55), (2, 2, 5, 1.55, 1.0)):
        image = nibabel.Nifti1Image(np.zeros((5, 4, 3, 1, 12), np.float32), np.diag([2.0, 2, 5, 1]))
        image.header.set_zooms(zooms)
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, tmp_path / "a.nii")
        when, found = read(header=nifti.read_volume(tmp_path / "a.nii", 4))
        assert when.frame_seconds == pytest.approx(1.55) and told(found, "note") == ["frame_length_from_header"]
