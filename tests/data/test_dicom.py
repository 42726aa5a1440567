"""DICOM folders: what dcm2niix makes of invented series, and what is refused before or after it."""

import json
import sys

import dicoms
import numpy as np
import pytest
from exams import ECHO_SECONDS, FRAME_SECONDS, fake_arrays
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

from dscgan_jax.data import dicom, exams, inputs, nifti
from dscgan_jax.errors import InputError

ARRAY = fake_arrays()[0]


def _exam(folder, **changes):
    dicoms.write_series(folder, dicoms.Series(ARRAY), **changes)
    return folder


def _refused(folder, series=None):
    with pytest.raises(InputError) as error, inputs.lone_exam(folder, series=series) as files:
        exams.load_exam(files)
    return str(error.value)


def test_a_classic_series_has_the_voxels_place_and_times_that_were_written(tmp_path):
    written = dicoms.Series(ARRAY)
    dicoms.write_series(tmp_path / "Prüfung 3 (neu)", written)
    with dicom.converted(tmp_path / "Prüfung 3 (neu)") as (path, found):
        volume = nifti.read_volume(path, 4)
        assert found == () and path.name == "7.nii"
        kept = json.loads(nifti.sidecar_path(path).read_text())
    assert not path.exists()
    turn = ornt_transform(io_orientation(written.affine), io_orientation(volume.affine))
    np.testing.assert_array_equal(volume.data, apply_orientation(ARRAY, turn))
    corner = np.linalg.inv(written.affine) @ volume.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(np.sort(corner[:3]), [0, 0, 15], atol=1e-3)  # dcm2niix turns rows round
    np.testing.assert_allclose(np.abs(volume.affine[:3, :3]), np.abs(written.affine[:3, :3]), atol=1e-4)
    assert volume.frame_seconds == FRAME_SECONDS
    assert kept == {
        "Modality": "MR",
        "RepetitionTime": FRAME_SECONDS,
        "EchoTime": ECHO_SECONDS,
        "VolumeTiming": [FRAME_SECONDS * frame for frame in range(64)],
    }


def _read(folder):
    with dicom.converted(folder) as (path, _):
        return nifti.read_volume(path, 4)


def test_frames_of_a_series_with_times_of_triggers_stay_together(tmp_path):
    dicoms.write_series(tmp_path / "exam", dicoms.Series(ARRAY, vendor="Philips"))
    volume = _read(tmp_path / "exam")
    np.testing.assert_array_equal(volume.data, ARRAY[:, ::-1])


def test_an_enhanced_file_of_all_frames_is_read_like_a_classic_series(tmp_path):
    written = dicoms.Series(ARRAY, vendor="Philips")
    dicoms.write_series(tmp_path / "classic", written)
    dicoms.write_enhanced(tmp_path / "enhanced", written)
    classic, enhanced = _read(tmp_path / "classic"), _read(tmp_path / "enhanced")
    np.testing.assert_array_equal(enhanced.data, classic.data)
    np.testing.assert_allclose(enhanced.affine, classic.affine, atol=1e-4)
    assert enhanced.frame_seconds == FRAME_SECONDS


def test_an_enhanced_file_whose_images_are_put_elsewhere_is_refused(tmp_path):
    """dcm2niix sorts those of other vendors by position first, and then cuts them into frames."""
    dicoms.write_enhanced(tmp_path / "exam", dicoms.Series(ARRAY, vendor="SIEMENS"))
    assert "put the images of series 7 in another order than their header says" in _refused(tmp_path / "exam")


def test_an_exam_is_called_by_its_folder_and_holds_nothing_of_the_patient(tmp_path):
    folder = _exam(tmp_path / "Prüfung 3")
    with inputs.lone_exam(folder) as files:
        exam = exams.load_exam(files)
        text = " ".join(path.read_text(errors="replace") for path in files.series.parent.iterdir())
    assert exam.subject == "Prüfung 3" and exam.frame_seconds == FRAME_SECONDS and exam.echo_seconds == ECHO_SECONDS
    assert exam.series.shape == (*ARRAY.shape[:3], 64)
    assert not [secret for secret in dicoms.SECRETS if secret in text + str(exam.findings)]


def test_the_perfusion_series_is_found_among_others_which_are_named(tmp_path):
    folder = _exam(tmp_path / "exam")
    dicoms.write_series(folder / "t1", dicoms.Series(ARRAY[..., :1], number=2))
    dicoms.write_series(folder / "dwi", dicoms.Series(ARRAY[..., :4], number=5))
    (folder / "README").write_text("no DICOM")
    with inputs.lone_exam(folder) as files:
        [finding] = [one for one in exams.load_exam(files).findings if one.name == "series_chosen"]
    assert finding.line() == (
        "note: series 7 of the DICOM folder was taken as the perfusion series; left out: series 2 (1 frame of 3 slices)"
        ", series 5 (4 frames of 3 slices) [--series=NUMBER]"
    )


@pytest.mark.slow
def test_of_two_series_with_frames_the_user_says_which(tmp_path):
    folder = _exam(tmp_path / "exam")
    dicoms.write_series(folder, dicoms.Series(ARRAY[..., :40], number=9))
    assert "series 7 and series 9 have at least 10 frames each" in _refused(folder)
    assert "say which with --series=NUMBER" in _refused(folder)
    assert "there is no series 3; it holds series 7 (64 frames of 3 slices), series 9" in _refused(folder, 3)
    with inputs.lone_exam(folder, series=9) as files:
        assert nifti.read_shape(files.series)[3] == 40


def test_two_exams_mixed_are_refused(tmp_path):
    folder = _exam(tmp_path / "exam")
    other = dicoms.Series(ARRAY[..., :2], number=3, patient="PAT-2", study=dicoms.Series.study[:-1] + "2")
    dicoms.write_series(folder, other)
    message = _refused(folder)
    assert "one exam, these are of 2 patients: 192 files (series 7) and 6 files (series 3); put each" in message
    assert not [secret for secret in (*dicoms.SECRETS, "PAT-2") if secret in message]


def test_a_missing_slice_of_a_frame_is_refused(tmp_path):
    folder = _exam(tmp_path / "exam", left_out=((1, 20),))
    assert "series 7 is not whole: expected 64 frames of each of its 3 slices, 1 image is missing" in _refused(folder)


def test_a_whole_frame_that_is_missing_is_made_good_by_the_times_of_the_others(tmp_path):
    folder = _exam(tmp_path / "exam", left_out=tuple((index, 50) for index in range(3)))
    with inputs.lone_exam(folder) as files:
        exam = exams.load_exam(files)
    assert exam.series.shape[3] == 64 and "unequal_frames" in [finding.name for finding in exam.findings]


def test_dicom_without_perfusion_says_what_is_there(tmp_path):
    dicoms.write_series(tmp_path / "exam", dicoms.Series(ARRAY[..., :3], number=4))
    message = _refused(tmp_path / "exam")
    assert (
        "expected a perfusion series of at least 10 frames, the folder holds series 4 (3 frames of 3 slices)" in message
    )


def test_a_series_without_bolus_names_the_folder_not_a_temporary_file(tmp_path):
    dicoms.write_series(tmp_path / "exam", dicoms.Series(ARRAY[..., [5] * 20]))
    assert _refused(tmp_path / "exam").startswith(f"{tmp_path / 'exam'} (series 7): ")


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    folder = _exam(tmp_path / "exam")
    monkeypatch.setitem(sys.modules, "dcm2niix", None)
    assert "pip install 'dscgan_jax[dicom]'" in _refused(folder)


def test_kinds_of_inputs(tmp_path):
    dicoms.write_series(tmp_path / "one" / "deep", dicoms.Series(ARRAY[:, :, :1, :1]))
    (tmp_path / "cohort" / "sub-1").mkdir(parents=True)
    dicoms.write_series(tmp_path / "cohort" / "sourcedata", dicoms.Series(ARRAY[:, :, :1, :1]))
    (tmp_path / "file.nii").write_bytes(b"")
    kinds = {name: inputs.kind_of(tmp_path / name) for name in ("one", "cohort", "file.nii", "absent")}
    assert kinds == {"one": "dicom", "cohort": "exams", "file.nii": "file", "absent": "file"}
    [single] = (tmp_path / "one" / "deep").iterdir()
    assert "a single DICOM file; give the folder of its exam as --input" in _refused(single)
    assert "--series=7 chooses among the series of a DICOM folder" in _refused(tmp_path / "file.nii", 7)
