"""Maps as DICOM parametric maps, read back with pydicom: values at their places, units, and nothing of a patient."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dscgan_jax import __version__
from dscgan_jax.data import dicom_maps
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAPS, MORE_MAPS

pytest.importorskip("highdicom")
import highdicom
import pydicom

SHAPE = (11, 13, 5)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(axes) -> np.ndarray:
    """Tilted; each stored axis lies near a RAS axis with a sign and an edge."""
    affine = np.eye(4)
    near = np.zeros((3, 3))
    for stored, (axis, step) in enumerate(axes):
        near[axis, stored] = step
    affine[:3, :3] = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix() @ near
    affine[:3, 3] = (31.5, -40.25, 12.0)
    return affine


def maps_of(affine, units=None) -> ExamMaps:
    stored = StoredGrid(SHAPE, affine)
    values = np.random.default_rng(0).normal(5, 2, SHAPE).astype(np.float32)
    units = units or {"tmax": "s"}
    volumes = dict.fromkeys(units, stored.to_ras(values))
    return ExamMaps("sub-1", volumes, units, stored, "by deconvolution")


def one(folder, maps):
    [path] = dicom_maps.write_dicom(folder, "sub-1", maps)
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    "axes",
    [
        ((0, -1.3), (1, 1.7), (2, 6.1)),
        ((1, 1.3), (0, 1.7), (2, -6.1)),
        ((0, 1.3), (2, 1.7), (1, 6.1)),
        ((1, -1.3), (2, -1.7), (0, 6.1)),
    ],
    ids=["axial", "axial, turned", "coronal", "sagittal"],
)
def test_every_value_lies_where_the_series_has_it(tmp_path, axes):
    maps = maps_of(affine_of(axes))
    found = one(tmp_path, maps)
    shared = found.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(
        float
    )
    by_row, by_column = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    to_voxel = np.linalg.inv(LPS @ maps.affine)
    assert found.pixel_array.shape[0] == 5  # frames are the slices of the series
    for frame, group in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.indices(frame.shape)
        places = corner + row[..., None] * by_row * along_column + column[..., None] * by_column * along_row
        voxel = places @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        np.testing.assert_allclose(voxel, np.rint(voxel), atol=1e-3)
        np.testing.assert_array_equal(frame, maps["tmax"][tuple(np.rint(voxel).astype(int).transpose(2, 0, 1))])


def test_axial_frames_lie_as_radiologists_have_them(tmp_path):
    found = one(tmp_path, maps_of(np.diag([-2.0, 2.0, 5.0, 1.0])))
    plane = found.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    np.testing.assert_allclose(np.array(plane.ImageOrientationPatient, float), [1, 0, 0, 0, 1, 0], atol=1e-9)


def test_another_reader_finds_the_same_volume(tmp_path):
    maps = maps_of(affine_of(((0, -1.3), (1, 1.7), (2, 6.1))))
    [path] = dicom_maps.write_dicom(tmp_path, "sub-1", maps)
    volume = highdicom.imread(path).get_volume()
    index = np.array([1, 2, 3])
    place = LPS @ volume.affine @ [*index, 1]
    voxel = np.rint(np.linalg.inv(maps.affine) @ place)[:3].astype(int)
    assert volume.array[tuple(index)] == pytest.approx(float(maps["tmax"][tuple(voxel)]))


def test_every_unit_is_in_ucum_and_every_map_says_what_it_is(tmp_path):
    units = {name: spec.unit for name, spec in (MAPS | MORE_MAPS).items()}
    paths = dicom_maps.write_dicom(tmp_path, "sub-1", maps_of(np.eye(4), units))
    assert [path.name for path in paths] == [f"sub-1_{name}.dcm" for name in units]
    mappings = {
        name: pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        for name, path in zip(units, paths, strict=True)
    }
    codes = {name: mapping.MeasurementUnitsCodeSequence[0] for name, mapping in mappings.items()}
    assert {code.CodingSchemeDesignator for code in codes.values()} == {"UCUM"}
    assert codes["cbf"].CodeValue == "mL/(100.g.min)" and codes["cbf"].CodeMeaning == "mL/100 g/min"
    assert (codes["tmax"].CodeValue, codes["k2"].CodeValue) == ("s", "/s")
    assert {mapping.RealWorldValueSlope for mapping in mappings.values()} == {1.0}
    tmax = mappings["tmax"].QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (tmax.CodingSchemeDesignator, tmax.CodeMeaning) == ("DCM", "Tmax")
    relative = one(tmp_path, maps_of(np.eye(4), {"cbv": "relative"})).SharedFunctionalGroupsSequence[0]
    assert relative.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "1"


def test_nothing_of_a_patient_and_no_reference_is_in_the_object(tmp_path):
    found = one(tmp_path, maps_of(np.eye(4)))
    assert (str(found.PatientName), found.PatientBirthDate, found.StudyDate) == ("", "", "")
    assert found.PatientID.startswith("exam-") and "sub-1" not in found.PatientID
    assert found.PatientIdentityRemoved == "YES" and found.ContentQualification == "RESEARCH"
    assert found.SeriesDescription == "Tmax by deconvolution (research use only)"
    assert found.SoftwareVersions == __version__
    assert not [element.keyword for element in found.iterall() if "Referenced" in element.keyword]


def test_without_the_extra_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(dicom_maps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--dicom needs highdicom.*pip install 'dscgan_jax\[dicom\]'"):
        dicom_maps.check_installed()
