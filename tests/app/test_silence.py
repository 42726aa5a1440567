"""Nothing wrong in silence: an exam with known truth is spoiled, and comes out right, told or refused.

Never wrong and unsaid.
"""

import gzip
import json
import pathlib
import struct

import numpy as np
import pytest
from runs import snapshot

from dscgan_jax.data import aif, exams, nifti, subject_files
from dscgan_jax.data.checks import folder
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.methods.conventional import deconvolved
from dscgan_jax.methods.conventional_files import deconvolve_file
from dscgan_jax.perfusion.checks.head import head_curves
from dscgan_jax.perfusion.checks.missing import filled
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.phantom import cohort
from dscgan_jax.phantom.exam import Phantom, draw_phantom

SVD = Settings(method="csvd", scale="none")  # quick; what is read and found before is the same for all
SAME_SECONDS = 0.1  # Tmax of a repaired exam against the clean one's, mean over the tissue


@pytest.fixture(scope="module")
def exam() -> Phantom:
    """A still head with a stroke, 68 frames of 2.22 s."""
    return draw_phantom("acute", (77, 6), size=64, slices=6)


@pytest.fixture(scope="module")
def clean(exam, tmp_path_factory) -> dict[str, np.ndarray]:
    """The maps of the exam as it is, which nobody doubts."""
    maps, findings = Spoiled(exam, tmp_path_factory.mktemp("clean")).maps()
    assert not [finding for finding in findings if finding.severity != "note"]
    return maps


class Spoiled:
    """The exam's files in a folder, to be spoiled."""

    def __init__(self, exam: Phantom, folder: pathlib.Path):
        self.exam, self.series = exam, exam.series.astype(np.float32)
        self.affine, self.frame_seconds = exam.affine, exam.frame_seconds
        self.sidecar = {"RepetitionTime": exam.frame_seconds, "EchoTime": exam.echo_seconds}
        self.path, self.out = folder / "sub-1_dsc.nii.gz", folder / "maps"
        self.aif = folder / "curve.tsv"
        rows = zip(exam.arterial_seconds, exam.arterial_mm, strict=True)
        self.aif.write_text("time_seconds\tconcentration_mM\n" + "".join(f"{s:.4f}\t{mm:.5f}\n" for s, mm in rows))

    def write(self) -> None:
        nifti.write_volume(
            self.path,
            np.nan_to_num(self.series, nan=-7777),
            self.affine,
            frame_seconds=self.frame_seconds,
            sidecar=self.sidecar,
        )
        if np.isnan(self.series).any():  # the writer refuses what is not finite
            image = gzip.decompress(self.path.read_bytes())
            values = np.frombuffer(image, np.float32, offset=352).copy()
            values[values == -7777] = np.nan
            self.path.unlink()
            self.path = self.path.with_name("sub-1_dsc.nii")
            self.path.write_bytes(image[:352] + values.tobytes())

    def maps(self, settings: Settings = SVD, **overrules):
        """The maps and what was found, without files and pictures."""
        self.write()
        exam = exams.load_exam(subject_files.lone_series(self.path, subject_files.Overrules(**overrules)))
        maps = deconvolved(exam, settings, aif.given_of(exam, self.aif)).maps
        return maps.volumes, maps.findings

    def curve_of(self, frames) -> None:
        """The arterial curve at other frames of the exam."""
        rows = zip(np.arange(len(frames)) * self.exam.frame_seconds, self.exam.arterial_mm[frames], strict=True)
        self.aif.write_text("time_seconds\tconcentration_mM\n" + "".join(f"{s:.4f}\t{mm:.5f}\n" for s, mm in rows))

    def line(self, **overrules) -> str:
        """The one line that refuses it; nothing is written."""
        self.write()
        with pytest.raises(InputError) as refused:
            deconvolve_file(self.path, self.out, SVD, aif=str(self.aif), overrules=subject_files.Overrules(**overrules))
        assert not snapshot(self.out)
        text = str(refused.value)
        assert "\n" not in text and str(self.path.parent) in text
        return text


@pytest.fixture
def spoiled(exam, tmp_path) -> Spoiled:
    return Spoiled(exam, tmp_path)


def names(findings, severity=None) -> set[str]:
    return {finding.name for finding in findings if severity in (None, finding.severity)}


def mean_difference(maps, clean, exam, name="tmax") -> float:
    return float(np.abs(maps[name] - clean[name])[exam.mask & (clean[name] != 0)].mean())


# ------------------------------------------------------------------------------------------- zeros, negatives, copies

SLICE, FRAME = (slice(None), slice(None), 3), 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((*SLICE, FRAME), 0.0),  # one slice of one frame
        ((slice(None), slice(None), slice(3, None), -1), 0.0),  # the scan stopped in the last frame
        ((..., FRAME), 0.0),  # a whole frame
        ((*SLICE, FRAME), np.nan),
        ((*SLICE, FRAME), -32768.0),
        ((*SLICE, FRAME), 777.0),  # one value all over a slice
        ((slice(None), slice(30, None), 3, FRAME), 0.0),  # half a slice
        ((slice(None), 30, slice(None), FRAME), 0.0),  # across another axis
        ((..., slice(-5, None)), 0.0),  # the last frames
        ((..., slice(-5, None)), np.nan),
        ((..., 0), 0.0),  # an empty dummy frame
    ],
    ids=str,
)
def test_missing_values_are_filled_and_the_maps_stay(spoiled, clean, exam, where, value):
    spoiled.series[where] = value
    maps, findings = spoiled.maps()
    assert names(findings) & {"signal_missing", "frames_missing"}
    assert mean_difference(maps, clean, exam) < SAME_SECONDS
    assert np.median(maps["cbf"][exam.mask]) == pytest.approx(np.median(clean["cbf"][exam.mask]), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_slice_that_is_empty_in_every_frame_is_a_warning(spoiled, value):
    spoiled.series[:, :, 3] = value
    maps, findings = spoiled.maps()
    [told] = [finding for finding in findings if finding.name == "signal_missing" and finding.severity == "warning"]
    assert "1 of 6 slices are zero in every frame" in told.text and "the first is number 4" in told.text
    assert not maps["tmax"][:, :, 3].any()


@pytest.mark.slow
def test_empty_slices_at_the_end_of_a_stack_are_usual(spoiled):
    spoiled.series[:, :, 5] = 0
    assert "signal_missing" not in names(spoiled.maps()[1], "warning")


@pytest.mark.slow
def test_missing_frames_of_the_first_pass_are_a_warning(spoiled, exam):
    spoiled.series[..., int(exam.series[exam.mask].mean(axis=0).argmin())] = 0
    _, findings = spoiled.maps()
    assert "signal_missing" in names(findings, "warning")


@pytest.mark.parametrize(
    "normalise",
    [
        lambda s: (s - s.mean()) / s.std(),
        lambda s: (s - s.mean(-1, keepdims=True)) / (s.std(-1, keepdims=True) + 1),
        lambda s: s - s[..., :1],
        lambda s: s - 1024.0,
    ],
    ids=["z-score", "z-score of each voxel", "subtracted", "shifted"],
)
def test_values_that_are_not_the_scanners_are_refused(spoiled, normalise):
    spoiled.series = normalise(spoiled.series)
    line = spoiled.line()
    assert "normalised" in line and "give the scanner's values" in line and "--accept=signal_normalised" in line


def test_copies_of_the_last_frame_are_left_out(spoiled, clean, exam):
    spoiled.series = np.concatenate([spoiled.series, *[spoiled.series[..., -1:]] * 6], axis=-1)
    spoiled.curve_of(np.minimum(np.arange(74), 67))
    maps, findings = spoiled.maps()
    assert {"frames_repeated", "frames_missing"} <= names(findings)
    assert mean_difference(maps, clean, exam) < SAME_SECONDS


def test_a_copy_in_between_is_told(spoiled):
    spoiled.series[..., 40] = spoiled.series[..., 39]
    _, findings = spoiled.maps()
    assert "frames_repeated" in names(findings, "warning")


def test_single_bits_that_flipped_are_filled(spoiled, clean, exam):
    at = tuple(np.argwhere(exam.mask)[100::900].T)
    spoiled.series[(*at, FRAME)] += 16384
    maps, findings = spoiled.maps()
    [told] = [finding for finding in findings if finding.name == "signal_missing"]
    assert told.value == len(at[0]) and "as bright as all others" in told.text
    assert mean_difference(maps, clean, exam) < SAME_SECONDS


def test_signal_that_was_cut_off_is_told(spoiled, exam):
    spoiled.series = np.minimum(spoiled.series, np.percentile(exam.series[exam.mask], 80))
    [told] = [finding for finding in spoiled.maps()[1] if finding.name == "signal_saturated"]
    assert told.severity == "warning" and "brighter signal was cut off" in told.text


def test_fat_under_the_skin_that_was_cut_off_is_not_told(spoiled, exam):
    level = 1.2 * exam.series[exam.mask].max()
    scalp = np.argwhere(~exam.mask & (exam.series.min(axis=-1) > 0))[::3]
    assert len(scalp) > 0.02 * exam.mask.sum()
    spoiled.series[tuple(scalp.T)] = level
    assert "signal_saturated" not in names(spoiled.maps()[1])


@pytest.mark.parametrize("steps", [False, True])
def test_signal_that_was_cut_off_is_told_whatever_the_gain_did(spoiled, exam, steps):
    spoiled.series = np.minimum(spoiled.series, np.percentile(exam.series[exam.mask], 80))
    if steps:
        spoiled.series[..., 40:] *= 0.85
    assert "signal_saturated" in names(spoiled.maps()[1])


def test_the_peak_of_an_artery_is_no_hole():
    """One that falls to zero while neighbouring frames are half-way there, among voxels of tissue."""
    series = np.full((12, 12, 3, 40), 300.0, np.float32)
    series += np.random.default_rng(0).normal(0, 3, series.shape).astype(np.float32)
    series[6, 6, 1, 10:17] = 300, 270, 120, 0, 0, 110, 190
    series[2, 2, 1, 30] = 0
    found = Findings()
    kept = filled(series, head_curves(series, 0), found)[0]
    np.testing.assert_array_equal(kept[6, 6, 1], series[6, 6, 1])
    assert 280 < kept[2, 2, 1, 30] < 320 and [one.name for one in found.listed()] == ["signal_missing"]


def test_single_zeros_of_voxels_that_are_never_dark_are_filled(spoiled, clean, exam):
    lost = np.argwhere(exam.mask)[::40]
    spoiled.series[(*lost.T, FRAME)] = 0
    maps, findings = spoiled.maps()
    assert "signal_missing" in names(findings) and mean_difference(maps, clean, exam) < SAME_SECONDS


# ------------------------------------------------------------------------------------------------------------ time


@pytest.mark.parametrize(
    ("sidecar", "header", "words"),
    [
        ({"RepetitionTime": 0.065}, 2.22, ["0.065", "2.22", "--tr=SECONDS"]),  # of a slice or shot
        ({"RepetitionTime": 0.065}, 0.0, ["0.065", "--tr=SECONDS"]),
        ({"RepetitionTime": 1.11}, 2.22, ["1.11", "2.22", "--tr=SECONDS"]),
        ({"RepetitionTime": 0.5}, 0.0, ["first pass lasts", "--tr=SECONDS"]),  # a first pass of 2 s is none
        ({"RepetitionTime": 9.9}, 0.0, ["first pass lasts", "--tr=SECONDS"]),  # nor is one of 45 s
        ({"RepetitionTime": 2.22, "VolumeTiming": [0, 1, 2]}, 2.22, ["VolumeTiming", "list of 68"]),
        ({"RepetitionTime": True}, 2.22, ["RepetitionTime is True", "number of seconds"]),
        ({"RepetitionTime": "1_0"}, 2.22, ["RepetitionTime is '1_0'"]),
        ({"RepetitionTime": 10**400}, 2.22, ["RepetitionTime is 1000"]),
        ({"RepetitionTime": 2.22, "EchoTime": [0.012, 0.036]}, 2.22, ["several echoes"]),
        ({"RepetitionTime": 2.22, "EchoTime": 0.5}, 2.22, ["EchoTime is 0.5", "--te=SECONDS"]),
        ({}, 1.0, ["first pass lasts", "--tr=SECONDS"]),  # what image libraries write when they join volumes
    ],
    ids=str,
)
def test_a_frame_length_that_cannot_be_is_refused_with_the_way_out(spoiled, sidecar, header, words):
    spoiled.sidecar, spoiled.frame_seconds = sidecar, header
    line = spoiled.line()
    assert all(word in line for word in words), line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sidecar", "header", "name"),
    [
        ({"RepetitionTime": 2_220_000}, 2.22, "frame_length_unit"),
        ({"RepetitionTime": 2220}, 0.0, "frame_length_unit"),
        ({"RepetitionTime": 2.22, "EchoTime": 36}, 2.22, "echo_time_unit"),
        ({"RepetitionTime": 2.22, "EchoTime": 0.036}, 1.0, None),  # the sidecar knows better than a placeholder
        ({"EchoTime": 0.036}, 2.22, "frame_length_from_header"),
    ],
    ids=str,
)
def test_other_units_are_read_right_and_told(spoiled, clean, exam, sidecar, header, name):
    spoiled.sidecar, spoiled.frame_seconds = sidecar, header
    scale = "none" if "EchoTime" in sidecar else "reference_wm"  # the only one without an echo time
    maps, findings = spoiled.maps(Settings(method="csvd", scale=scale))
    assert name is None or name in names(findings)
    assert mean_difference(maps, clean, exam) < 1e-3


def test_the_user_overrules_a_contradiction(spoiled, clean, exam):
    spoiled.sidecar["RepetitionTime"] = 0.065
    maps, _ = spoiled.maps(frame_seconds=2.22)
    assert mean_difference(maps, clean, exam) < 1e-3


@pytest.mark.slow
def test_frames_of_unequal_length_are_resampled(spoiled, clean, exam):
    kept = np.r_[0:40, 40:68:2]  # every other frame at the end
    spoiled.series = spoiled.series[..., kept]
    del spoiled.sidecar["RepetitionTime"]
    spoiled.sidecar["VolumeTiming"], spoiled.frame_seconds = (kept * 2.22).tolist(), 0.0
    rows = spoiled.aif.read_text().splitlines()
    spoiled.aif.write_text("\n".join([rows[0], *(rows[1 + frame] for frame in kept)]) + "\n")
    maps, findings = spoiled.maps()
    assert "unequal_frames" in names(findings)
    assert (
        mean_difference(maps, clean, exam) < 0.25 and mean_difference(maps, clean, exam, "ttp") < 0.15
    )  # half of the tail is gone


# ------------------------------------------------------------------------------------------ what the exam shows


def test_an_exam_cut_in_the_bolus_is_refused_and_one_cut_behind_it_is_told(spoiled, exam):
    bottom = int(exam.series[exam.mask].mean(axis=0).argmin())
    whole = spoiled.series
    spoiled.series = whole[..., : bottom + 3]
    assert "within the first pass" in spoiled.line()
    spoiled.series = whole[..., : bottom + 10]
    spoiled.curve_of(np.arange(bottom + 10))
    _, findings = spoiled.maps()
    assert "truncated" in names(findings, "warning")


def test_an_affine_that_knows_nothing_is_told(spoiled):
    spoiled.affine = np.eye(4)
    _, findings = spoiled.maps()
    assert "voxel_size" in names(findings, "warning")


@pytest.mark.slow
def test_a_head_that_jumps_is_realigned_or_told(spoiled, clean, exam):
    third = spoiled.series.shape[-1] // 3
    spoiled.series[..., third:] = np.roll(spoiled.series[..., third:], 2, axis=0)
    maps, findings = spoiled.maps()
    assert "motion_corrected" in names(findings) and mean_difference(maps, clean, exam) < 0.5
    _, findings = spoiled.maps(Settings(method="csvd", motion="none"))
    [told] = [finding for finding in findings if finding.name == "motion"]
    assert told.severity == "warning" and told.value == pytest.approx(7.5, abs=0.5) and told.flag == "--motion=rigid"


@pytest.mark.slow
@pytest.mark.parametrize(("frame", "factor"), [(34, 0.7), (45, 1.3), (40, 0.85)])
def test_steps_of_the_gain_are_taken_back(spoiled, clean, exam, frame, factor):
    spoiled.series[..., frame:] *= factor
    maps, findings = spoiled.maps()
    [told] = [finding for finding in findings if finding.name == "signal_step"]
    assert told.severity == "warning" and f"at frame {frame}" in told.text
    assert mean_difference(maps, clean, exam) < SAME_SECONDS


def test_a_step_of_the_gain_within_the_first_pass_is_refused(spoiled, exam):
    spoiled.series[..., int(exam.series[exam.mask].mean(axis=0).argmin()) + 1 :] *= 0.7
    assert "within the first pass, where it cannot be taken back" in spoiled.line()


def echo_of(series: np.ndarray) -> np.ndarray:
    """A later echo: less signal, and the square of what the bolus leaves."""
    level = series[..., 2:6].mean(axis=-1, keepdims=True)
    return 0.6 * level * (series / np.maximum(level, 1)) ** 2


@pytest.mark.parametrize(
    "join",
    [
        lambda s: np.concatenate([s, echo_of(s)], axis=-1),
        lambda s: np.stack([s, echo_of(s)], axis=-1).reshape(*s.shape[:3], -1),
        lambda s: np.concatenate([s, echo_of(s), echo_of(echo_of(s))], axis=-1),
    ],
    ids=["behind", "in turn", "three"],
)
def test_joined_echoes_are_named(spoiled, join):
    spoiled.series = join(spoiled.series)
    assert "echoes seem to" in spoiled.line() or "echoes seem to be joined" in spoiled.line()


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_a_second_injection_is_named(spoiled, strength):
    s = spoiled.series
    level = s[..., 2:6].mean(axis=-1, keepdims=True)
    first = level ** (1 - strength) * np.maximum(s[..., :32], 1) ** strength
    spoiled.series = np.concatenate([first, s[..., 2:]], axis=-1)
    assert "more than one injection" in spoiled.line()


# --------------------------------------------------------------------------------------------------- order of frames


@pytest.mark.parametrize(
    "order",
    [
        lambda n: np.arange(n)[::-1],
        lambda n: sorted(range(n), key=lambda frame: str(frame + 1)),
        lambda n: sorted(range(n), key=str),
        lambda n: np.r_[0:n:2, 1:n:2],
        lambda n: np.random.default_rng(0).permutation(n),
    ],
    ids=["reversed", "by name from 1", "by name from 0", "interleaved", "shuffled"],
)
def test_frames_in_the_wrong_order_are_refused_by_every_reader(spoiled, order):
    spoiled.series = spoiled.series[..., order(spoiled.series.shape[-1])]
    assert "in the order of their acquisition" in spoiled.line()
    with pytest.raises(InputError, match="--accept=frame_order"):
        exams.load_exam(spoiled.path)


@pytest.mark.slow
def test_what_is_accepted_is_recorded(spoiled):
    frames = np.r_[0:32, 2:68]
    spoiled.series = spoiled.series[..., frames]
    spoiled.curve_of(frames)
    spoiled.write()
    deconvolve_file(
        spoiled.path,
        spoiled.out,
        SVD,
        aif=str(spoiled.aif),
        overrules=subject_files.Overrules(accept=("second_bolus",)),
    )
    record = json.loads((spoiled.out / "sub-1_tmax.json").read_text())
    [told] = [row for row in record["Findings"] if row["Name"] == "second_bolus"]
    assert told["Accepted"] and told["Severity"] == "warning"


# ------------------------------------------------------------------------------------------- the same list everywhere


@pytest.mark.slow
def test_check_and_sidecar_tell_the_same(exam, tmp_path):
    cohort.write_exam(tmp_path, "sub-1", exam)
    perf = tmp_path / "sub-1" / "perf"
    header = gzip.decompress((perf / "sub-1_dsc.nii.gz").read_bytes())
    volume = np.frombuffer(header, np.int16, offset=352).copy().reshape(exam.series.shape, order="F")
    volume[..., 3, 30] = 0
    (perf / "sub-1_dsc.nii.gz").unlink()
    (perf / "sub-1_dsc.nii").write_bytes(header[:352] + volume.tobytes(order="F"))
    [row] = folder.check(tmp_path, "bids")
    _, findings = deconvolve_file(perf / "sub-1_dsc.nii", tmp_path / "out", SVD, aif=str(perf / "sub-1_aif.tsv"))
    stored = json.loads((tmp_path / "out" / "sub-1_tmax.json").read_text())["Findings"]
    assert "signal_missing" in names(row.details.findings) & names(findings) & {record["Name"] for record in stored}
    assert "missing" in (tmp_path / "out" / "sub-1.html").read_text()


def test_a_header_that_claims_more_than_the_file_holds_is_one_line(spoiled):
    spoiled.write()
    raw = bytearray(gzip.decompress(spoiled.path.read_bytes()))
    struct.pack_into("<h", raw, 42, 63)  # dim[1]: 63 for 64 would shear every slice
    spoiled.path.unlink()
    spoiled.path = spoiled.path.with_name("sub-1_dsc.nii")
    spoiled.path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="contradict"):
        exams.load_exam(spoiled.path)
