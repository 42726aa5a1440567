"""Invented DICOM series for tests: classic MR, one file for each slice and frame, as scanners write perfusion."""

import dataclasses
import pathlib

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SECRETS = ("Mustermann", "PAT-4711", "19450823", "Klinikum Geheim", "Dr. Rätsel", "ACC-0815", "20240229")


@dataclasses.dataclass(frozen=True)
class Series:
    """What a fake series is.

    Attributes:
      array: (column, row, slice, frame) int, the first axis along the row cosine of `orientation`.
      number: SeriesNumber.
      frame_seconds, echo_seconds: RepetitionTime and EchoTime.
      voxel_mm: column and row spacing, and from slice to slice.
      tilt_degrees: about the patient's left-right axis.
      patient, study: two exams differ in them.
    """

    array: np.ndarray
    number: int = 7
    frame_seconds: float = 1.5
    echo_seconds: float = 0.03
    voxel_mm: tuple[float, float, float] = (8.0, 8.0, 5.0)
    tilt_degrees: float = 15.0
    patient: str = "PAT-4711"
    study: str = "1.2.826.0.1.3680043.8.498.1"
    vendor: str = "SIEMENS"

    @property
    def cosines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along a row, along a column, from slice to slice; LPS."""
        angle = np.deg2rad(self.tilt_degrees)
        row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)])
        return row, column, np.cross(row, column)

    @property
    def origin(self) -> np.ndarray:
        """Of the first voxel, LPS mm."""
        return np.array([-60.0, -50.0, -10.0])

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) index of `array` -> mm, RAS+."""
        affine = np.eye(4)
        for axis, (cosine, size) in enumerate(zip(self.cosines, self.voxel_mm, strict=True)):
            affine[:3, axis] = cosine * size
        affine[:3, 3] = self.origin
        return np.diag([-1.0, -1, 1, 1]) @ affine


def write_series(folder: pathlib.Path, series: Series, left_out: tuple[tuple[int, int], ...] = ()) -> None:
    """One file for each (slice, frame) of `left_out` not."""
    folder.mkdir(parents=True, exist_ok=True)
    series_uid, frame_uid = generate_uid(), generate_uid()
    columns, rows, slices, frames = series.array.shape
    row, column, through = series.cosines
    for frame in range(frames):
        for index in range(slices):
            if (index, frame) in left_out:
                continue
            image = _header(series, series_uid, frame_uid)
            seconds = frame * series.frame_seconds
            image.InstanceNumber = frame * slices + index + 1
            image.AcquisitionNumber = frame + 1
            image.TemporalPositionIdentifier = frame + 1
            image.NumberOfTemporalPositions = frames
            image.TriggerTime = f"{1000 * seconds:.1f}"
            minutes, rest = divmod(30 * 60 + seconds, 60)
            image.AcquisitionTime = image.ContentTime = f"10{minutes:02.0f}{rest:09.6f}"
            place = series.origin + through * series.voxel_mm[2] * index
            image.ImagePositionPatient = [f"{value:.6f}" for value in place]
            image.ImageOrientationPatient = [f"{value:.8f}" for value in (*row, *column)]
            image.SliceLocation = f"{place @ through:.4f}"
            image.Rows, image.Columns = rows, columns
            pixels = series.array[:, :, index, frame].T.astype(np.uint16)
            image.PixelData = np.ascontiguousarray(pixels).tobytes()
            name = f"IM{series.number:03d}{frame:04d}{index:03d}{series.study[-1]}"
            image.save_as(folder / name, enforce_file_format=True)


STACK, POSITION, TIME = 0x00209056, 0x00209057, 0x00209128


def write_enhanced(folder: pathlib.Path, series: Series, order: tuple[int, ...] = (STACK, TIME, POSITION)) -> None:
    """One file that holds every slice of every frame; `order` of its dimensions, the fastest last."""
    folder.mkdir(parents=True, exist_ok=True)
    columns, rows, slices, frames = series.array.shape
    image = _header(series, generate_uid(), generate_uid())
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for name in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RepetitionTime", "EchoTime", "FlipAngle"):
        delattr(image, name)
    image.InstanceNumber, image.NumberOfFrames = 1, frames * slices
    image.ContentTime, image.AcquisitionDateTime = "103000", "20240229103000.000000"
    image.Rows, image.Columns = rows, columns
    organisation = generate_uid()
    image.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organisation)]
    image.DimensionIndexSequence = [
        _item(DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111, DimensionOrganizationUID=organisation)
        for tag in order
    ]
    row, column, _ = series.cosines
    image.SharedFunctionalGroupsSequence = [
        _item(
            PixelMeasuresSequence=[
                _item(
                    PixelSpacing=[series.voxel_mm[1], series.voxel_mm[0]],
                    SliceThickness=series.voxel_mm[2],
                    SpacingBetweenSlices=series.voxel_mm[2],
                )
            ],
            PlaneOrientationSequence=[_item(ImageOrientationPatient=[f"{value:.8f}" for value in (*row, *column)])],
            MRTimingAndRelatedParametersSequence=[
                _item(RepetitionTime=1000 * series.frame_seconds, FlipAngle=90.0, EchoTrainLength=1)
            ],
            MREchoSequence=[_item(EffectiveEchoTime=1000 * series.echo_seconds)],
            PixelValueTransformationSequence=[_item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")],
        )
    ]
    image.PerFrameFunctionalGroupsSequence = [
        _enhanced_frame(series, index, frame, order) for frame in range(frames) for index in range(slices)
    ]
    image.PixelData = np.ascontiguousarray(series.array.astype(np.uint16).transpose(3, 2, 1, 0)).tobytes()
    image.save_as(folder / "IM0001", enforce_file_format=True)


def _enhanced_frame(series: Series, index: int, frame: int, order: tuple[int, ...]) -> Dataset:
    minutes, rest = divmod(30 * 60 + frame * series.frame_seconds, 60)
    content = _item(
        StackID="1",
        InStackPositionNumber=index + 1,
        TemporalPositionIndex=frame + 1,
        DimensionIndexValues=[{STACK: 1, POSITION: index + 1, TIME: frame + 1}[one] for one in order],
        FrameAcquisitionNumber=1,
        FrameAcquisitionDateTime=f"2024022910{minutes:02.0f}{rest:09.6f}",
        FrameReferenceDateTime=f"2024022910{minutes:02.0f}{rest:09.6f}",
        FrameAcquisitionDuration=1000 * series.frame_seconds,
    )
    place = series.origin + series.cosines[2] * series.voxel_mm[2] * index
    position = _item(ImagePositionPatient=[f"{value:.6f}" for value in place])
    offset = _item(TemporalPositionTimeOffset=frame * series.frame_seconds)
    return _item(FrameContentSequence=[content], PlanePositionSequence=[position], TemporalPositionSequence=[offset])


def _item(**elements) -> Dataset:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def _header(series: Series, series_uid: str, frame_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID, image.PatientBirthDate = "Mustermann^Erika", series.patient, "19450823"
    image.InstitutionName, image.ReferringPhysicianName = "Klinikum Geheim", "Dr. Rätsel"
    image.AccessionNumber, image.StudyID = "ACC-0815", "1"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = "20240229"
    image.StudyTime = image.SeriesTime = f"10{int(series.study[-1]):02d}00"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = series.study, series_uid, frame_uid
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "MR", series.vendor, "Invented"
    image.MagneticFieldStrength = "3"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    image.SeriesNumber, image.SeriesDescription = series.number, "ep2d_perf Mustermann"
    image.ProtocolName, image.SequenceName, image.ScanningSequence = "ep2d_perf", "*epfid2d1_128", "EP"
    image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = "SK", "", "2D"
    image.RepetitionTime, image.EchoTime = 1000 * series.frame_seconds, 1000 * series.echo_seconds
    image.FlipAngle, image.PatientPosition = "90", "HFS"
    image.PixelSpacing = [series.voxel_mm[1], series.voxel_mm[0]]
    image.SliceThickness = image.SpacingBetweenSlices = series.voxel_mm[2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    return image
