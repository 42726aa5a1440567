"""Maps as DICOM parametric maps, through highdicom (extra `dicom`): one object for each map, floats with their unit.

The objects stand alone: a study of their own, no reference to source images and nothing of a patient but the exam's
identifier. Frames lie as radiologists have them: columns to the patient's left, rows to the back (or downwards), and a
viewer places them by position and orientation.
"""

import hashlib
import importlib.util
import pathlib
from typing import Any

import numpy as np

from dscgan_jax import __version__
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.errors import InputError
from dscgan_jax.files import replacing
from dscgan_jax.maps import spec_of

PURPOSE = "research use only"
# In UCUM; the unit as it is written everywhere else is its meaning.
UCUM = {"mL/100 g/min": "mL/(100.g.min)", "mL/100 g": "mL/(100.g)", "s": "s", "1/s": "/s", "1": "1", "relative": "1"}
# Keywords of DICOM's own concepts for the quantities (CID 7180); the other maps have none.
QUANTITIES = {
    "cbf": "RegionalCerebralBloodFlow",
    "cbv": "RegionalCerebralBloodVolume",
    "mtt": "MeanTransitTime",
    "tmax": "Tmax",
    "ttp": "TimeToPeak",
}
# RAS axis along frames -> RAS axes along rows and columns of a frame, each with the direction in which it counts.
FRAME_AXES = {2: ((1, -1), (0, -1)), 1: ((2, -1), (0, -1)), 0: ((2, -1), (1, -1))}


def check_installed() -> None:
    """Refuses, before anything slow begins, where highdicom is missing.

    Raises:
      InputError: says how to install it.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise InputError("--dicom needs highdicom, which is not installed; python -m pip install 'dscgan_jax[dicom]'.")


def write_dicom(folder: pathlib.Path, stem: str, maps: ExamMaps) -> list[pathlib.Path]:
    """Writes `<stem>_<map>.dcm` for each map, each a series of one study; returns the paths.

    Args:
      folder: exists.
      stem: first part of the names.
      maps: of the exam.

    Raises:
      InputError: the folder cannot be written.
    """
    study = _study(maps)
    paths = []
    for number, name in enumerate(maps.volumes, 1):
        paths.append(folder / f"{stem}_{name}.dcm")
        with replacing(paths[-1]) as file:
            _parametric_map(maps, name, number, study).save_as(file)
    return paths


def _parametric_map(maps: ExamMaps, name: str, number: int, study: Any) -> Any:
    """A `highdicom.pm.ParametricMap` without references."""
    import highdicom
    from highdicom.pm import ParametricMap

    spec, volume = spec_of(name), _frames(maps, name, study.FrameOfReferenceUID)
    low, high = spec.window_of(maps.quality.bolus_seconds if maps.quality else None)
    made = ParametricMap(
        [study],
        volume,
        series_instance_uid=highdicom.UID(),
        series_number=number,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="dscgan_jax",
        manufacturer_model_name="dscgan_jax",
        software_versions=__version__,
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(maps, name, volume.array)],
        voi_lut_transformations=[highdicom.VOILUTTransformation(0.5 * (low + high), high - low)],
        content_label=name.upper(),
        content_description=f"{spec.title}, {PURPOSE}",
        series_description=f"{spec.title} {maps.how} ({PURPOSE})"[:64],  # the longest text of this kind
    )
    return _alone(made)


def _frames(maps: ExamMaps, name: str, frame_of_reference: str) -> Any:
    """A `highdicom.Volume` (frame, row, column)."""
    import highdicom

    axis = maps.stored.slice_axis
    axes = ((axis, 1), *FRAME_AXES[axis])
    volume, affine = maps[name], maps.affine.copy()
    for one, direction in axes:
        if direction < 0:
            volume = np.flip(volume, one)
            affine[:3, 3] += affine[:3, one] * (volume.shape[one] - 1)
            affine[:3, one] *= -1
    order = [one for one, _ in axes]
    return highdicom.Volume(
        np.ascontiguousarray(volume.transpose(order), np.float32),
        affine[:, [*order, 3]],
        "PATIENT",
        frame_of_reference,
        from_reference_convention="RAS",
    )


def _mapping(maps: ExamMaps, name: str, values: np.ndarray) -> Any:
    """Stored values are the real ones; their unit, and what they are."""
    from highdicom.pm import RealWorldValueMapping
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    unit = maps.unit(name)
    quantity = getattr(codes.DCM, QUANTITIES[name]) if name in QUANTITIES else None
    return RealWorldValueMapping(
        lut_label=name.upper(),
        lut_explanation=spec_of(name).description[:64],
        unit=Code(UCUM[unit], "UCUM", unit),
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=quantity,
    )


def _study(maps: ExamMaps) -> Any:
    """What highdicom copies of source images: of a study that has none, with empty fields for the patient."""
    import highdicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    study = Dataset()
    study.file_meta = FileMetaDataset()
    study.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    study.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    study.SOPClassUID, study.SOPInstanceUID = MRImageStorage, highdicom.UID()
    study.StudyInstanceUID, study.SeriesInstanceUID = highdicom.UID(), highdicom.UID()
    study.FrameOfReferenceUID, study.PositionReferenceIndicator = highdicom.UID(), ""
    # The exam's name may be that of its folder, and a folder that of a patient: here it cannot be read.
    study.PatientID = f"exam-{hashlib.sha256(maps.subject.encode()).hexdigest()[:12]}"
    for name in (
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        setattr(study, name, "")
    study.StudyDescription = f"perfusion maps ({PURPOSE})"
    study.PatientIdentityRemoved = "YES"
    study.DeidentificationMethod = "made from NIfTI; no patient data"
    study.Modality = "MR"
    study.Rows, study.Columns = 1, 1
    study.ImageOrientationPatient, study.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    study.PixelSpacing, study.SliceThickness = [1, 1], 1
    return study


def _alone(made: Any) -> Any:
    """Without the references to source images, which do not exist."""
    for name in ("ReferencedSeriesSequence", "SourceImageSequence", "ContributingEquipmentSequence"):
        if name in made:
            delattr(made, name)
    for group in (*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence):
        if "DerivationImageSequence" in group:
            del group.DerivationImageSequence
    return made
