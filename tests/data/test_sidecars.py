"""JSON sidecars: written beside a file, read in any encoding, refused in one line."""

import json

import numpy as np
import pytest
from volumes import OBLIQUE

from dscgan_jax.data import nifti
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings


def test_a_sidecar_is_written_beside_and_read_back(tmp_path):
    nifti.write_volume(tmp_path / "a_tmax.nii.gz", np.ones((2, 2, 2)), OBLIQUE, sidecar={"Units": "s"})
    assert read_sidecar(tmp_path / "a_tmax.json") == {"Units": "s"}
    assert read_sidecar(tmp_path / "absent.json") == {}
    for content in ("{", json.dumps([1])):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=r"bad\.json"):
            read_sidecar(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "content",
    [
        '\ufeff{"Site": "Zürich", "RepetitionTime": 1.5}'.encode(),
        '{"Site": "Zürich", "RepetitionTime": 1.5}'.encode("utf-16"),
        '{"Site": "Zürich", "RepetitionTime": 1.5}'.encode("latin-1"),
    ],
)
def test_a_sidecar_in_another_encoding_is_read(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert read_sidecar(tmp_path / "a.json") == {"Site": "Zürich", "RepetitionTime": 1.5}
    found = Findings()
    read_sidecar(tmp_path / "a.json", found)
    assert [finding.name for finding in found.listed()] == ["sidecar_encoding"] * content.startswith(b'{"Site": "Z\xfc')


def test_a_pointer_in_place_of_a_sidecar_is_named(tmp_path):
    (tmp_path / "a.json").write_text("/annex/objects/MD5E-s1.json\n")
    with pytest.raises(InputError, match=r"a\.json: a pointer, its data were not fetched.*git annex get"):
        read_sidecar(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"RepetitionTime": 1' + b"0" * 5000 + b"}",
        b"",
        b"NaN",
        b"\xff\xfe{",
        bytes(100),
    ],
)
def test_a_sidecar_that_cannot_be_read_is_named_in_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json") as caught:
        read_sidecar(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_odd_numbers_in_a_sidecar_are_left_to_those_who_use_them(tmp_path):
    (tmp_path / "a.json").write_text('{"RepetitionTime": 1' + "0" * 400 + ', "EchoTime": NaN, "Other": -Infinity}')
    sidecar = read_sidecar(tmp_path / "a.json")
    assert sidecar["RepetitionTime"] == 10**400 and np.isnan(sidecar["EchoTime"])


def test_a_link_whose_data_were_not_fetched_is_named_with_its_target(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(".git/annex/objects/x/MD5E-s1.nii.gz")
    (tmp_path / "a.json").symlink_to(".git/annex/objects/x/MD5E-s1.json")
    (tmp_path / "b.nii.gz").symlink_to("b.nii.gz")
    for read in (nifti.present, nifti.read_shape, lambda path: nifti.read_volume(path, 4)):
        for name in ("a.nii.gz", "b.nii.gz"):
            with pytest.raises(
                InputError, match=rf"{name}: a symbolic link to .*gz, .*not fetched.*datalad get.*annex get"
            ):
                read(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.json: a symbolic link to .*datalad get"):
        read_sidecar(tmp_path / "a.json")


def test_a_field_that_decides_maps_is_refused_where_it_is_there_twice_and_no_value_is_told(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"EchoTime": 0.031, "EchoTime": "DOE^JANE", "Site": 1}')
    with pytest.raises(InputError, match=r"a\.json: the field EchoTime is there twice, with two values") as refused:
        read_sidecar(path)
    assert "DOE" not in str(refused.value) and "0.031" not in str(refused.value)
    assert "not a JSON file" not in str(refused.value)
    path.write_text('{"EchoTime": 0.031, "EchoTime": 0.031, "PatientName": "DOE^JANE", "PatientName": "ROE^RICHARD"}')
    assert read_sidecar(path)["EchoTime"] == 0.031
