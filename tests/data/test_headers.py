"""What a header says, held against its file: sizes, places, units, scaling, types."""

import gzip
import tracemalloc

import numpy as np
import pytest
from exams import fake_arrays
from volumes import OBLIQUE, series

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError

FIELDS = {
    "dim": (40, "<i2"),
    "datatype": (70, "<i2"),
    "pixdim": (76, "<f4"),
    "vox_offset": (108, "<f4"),
    "scl_slope": (112, "<f4"),
    "scl_inter": (116, "<f4"),
    "xyzt_units": (123, "<u1"),
    "qform_code": (252, "<i2"),
    "sform_code": (254, "<i2"),
    "quatern_b": (256, "<f4"),
    "qoffset_x": (268, "<f4"),
    "srow_x": (280, "<f4"),
    "srow_y": (296, "<f4"),
    "srow_z": (312, "<f4"),
    "magic": (344, "S4"),
}  # where NIfTI-1 keeps what


def _patched(path, data=None, *, affine=OBLIQUE, dtype=np.int16, tail=b"", cut=0, **fields):
    """A small good file with fields of its header overwritten byte by byte.

    `pixdim_3=0` is the fourth number of pixdim.
    """
    nifti.write_volume(
        path.with_name("good.nii"), series() if data is None else data, affine, dtype=dtype, frame_seconds=1.5
    )
    content = bytearray(path.with_name("good.nii").read_bytes())
    for field, value in fields.items():
        name, _, index = (field, "", "0") if field in FIELDS else field.rpartition("_")
        start, kind = FIELDS[name]
        stored = np.array(value).astype(kind)
        start += int(index) * stored.dtype.itemsize
        content[start : start + stored.nbytes] = stored.tobytes()
    content = bytes(content[: len(content) - cut]) + tail
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def _refused(path, match, dims=4):
    """Reading fails in one line that names the file."""
    with pytest.raises(InputError, match=match) as caught:
        nifti.read_volume(path, dims)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def _names(volume):
    return [(finding.name, finding.severity) for finding in volume.findings]


def _padded(content, n_bytes):
    """Puts an extension of n_bytes between header and voxels."""
    content = bytearray(content)
    content[108:112] = np.array(352 + n_bytes, "<f4").tobytes()
    extension = np.array([n_bytes, 6], "<i4").tobytes() + b"x" * (n_bytes - 8)
    return bytes(content[:348]) + b"\1\0\0\0" + extension + bytes(content[352:])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("n_bytes", [16, 12000, 100000])
def test_an_extension_of_any_length_is_skipped(tmp_path, ending, n_bytes):
    content = _padded(_patched(tmp_path / "a.nii").read_bytes(), n_bytes)
    path = tmp_path / ("b" + ending)
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert nifti.read_shape(path) == (5, 4, 3, 12) == nifti.read_outline(path).data.shape
    np.testing.assert_array_equal(nifti.read_volume(path, 4).data, series())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_fewer_voxels_than_there_are_is_refused(tmp_path, ending):
    surplus = 4 * 3 * 12 * 2
    _refused(
        _patched(tmp_path / ("a" + ending), dim_1=4),
        rf"says 4 x 4 x 3 x 12 voxels of 2 bytes, the file holds {surplus} bytes more than that: header and data "
        r"contradict",
    )
    _refused(_patched(tmp_path / ("b" + ending), dim_4=11), f"holds {5 * 4 * 3 * 2} bytes more")
    _refused(
        _patched(tmp_path / ("c" + ending), datatype=2),
        f"voxels of 1 bytes, the file holds {5 * 4 * 3 * 12} bytes more",
    )
    _refused(_patched(tmp_path / ("d" + ending), tail=b"\n"), "holds 1 bytes more")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_more_voxels_than_there_are_is_refused(tmp_path, ending):
    for name, fields in {"a": {"dim_1": 6}, "b": {"dim_4": 13}, "c": {"datatype": 16}, "d": {"cut": 1}}.items():
        _refused(_patched(tmp_path / (name + ending), **fields), "ends before its last voxel.* x .* voxels of")


def test_sizes_that_no_file_of_this_length_can_hold_cost_no_memory(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("memory was allocated")

    monkeypatch.setattr(nifti.np, "empty", never)
    for ending in (".nii", ".nii.gz"):
        for name, fields in {"a": {"dim_3": 32767}, "b": {"dim_1": [32767] * 4}}.items():
            path = _patched(tmp_path / (name + ending), **fields)
            _refused(path, "ends before its last voxel.*32767")
            with pytest.raises(InputError, match="32767"):
                nifti.read_shape(path)


def test_a_packed_file_is_unpacked_no_further_than_its_header_says(tmp_path):
    path = _patched(tmp_path / "a.nii.gz", tail=bytes(200_000_000))
    tracemalloc.start()
    _refused(path, "holds 200000000 bytes more")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_memory_bytes", lambda: 4000.0)
    _refused(_patched(tmp_path / "a.nii"), "takes 0.0 GB of memory, this machine has")
    monkeypatch.setattr(nifti, "_memory_bytes", lambda: 1e9)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(nifti, "_stored", full)
    _refused(_patched(tmp_path / "b.nii.gz"), "does not fit into memory")


def test_the_checksum_of_a_packed_file_is_verified(tmp_path):
    path = _patched(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    _refused(path, "cut off or damaged.*CRC")


@pytest.mark.parametrize("n_axes", [0, 8, -1, 1000])
def test_a_number_of_axes_that_nifti_does_not_have_is_refused(tmp_path, n_axes):
    _refused(_patched(tmp_path / "a.nii", dim=n_axes), rf"dim\[0\] in the header is {n_axes}, expected 1 to 7")


@pytest.mark.parametrize("axis", [1, 3, 4])
@pytest.mark.parametrize("length", [0, -5])
def test_an_axis_without_entries_is_refused(tmp_path, axis, length):
    _refused(_patched(tmp_path / "a.nii", **{f"dim_{axis}": length}), f"dimensions are .*{length}.*at least 1 each")


def test_empty_axes_behind_the_fifth_are_left_out(tmp_path):
    path = _patched(tmp_path / "a.nii", dim=[7, 5, 4, 3, 1, 12, 1, 1])
    assert nifti.read_shape(path) == (5, 4, 3, 12) == nifti.read_volume(path, 4).data.shape
    path = _patched(tmp_path / "b.nii", dim=[5, 5, 4, 3, 12, 1])
    assert nifti.read_shape(path) == (5, 4, 3, 12) and nifti.read_volume(path, 4).header_time == 1.5


@pytest.mark.parametrize("offset", [0, 1, 300, 348, 351])
def test_voxels_never_begin_inside_the_header(tmp_path, offset):
    np.testing.assert_array_equal(nifti.read_volume(_patched(tmp_path / "a.nii", vox_offset=offset), 4).data, series())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, -1, 1e30, 5e7, 352.5])
def test_an_offset_that_leads_nowhere_is_refused(tmp_path, ending, offset):
    _refused(_patched(tmp_path / ("a" + ending), vox_offset=offset), r"vox_offset in the header is .*expected 352")


@pytest.mark.parametrize(("code", "factor", "unit"), [(1, 1e-3, "metre"), (3, 1e3, "micron")])
def test_metres_and_microns_become_millimetres(tmp_path, code, factor, unit):
    affine = OBLIQUE.copy()
    affine[:3] *= factor
    for name, fields in {"sform.nii": {}, "qform.nii": {"sform_code": 0}}.items():
        volume = nifti.read_volume(_patched(tmp_path / name, affine=affine, xyzt_units=code | 8, **fields), 4)
        np.testing.assert_allclose(volume.affine[:3, 3], OBLIQUE[:3, 3], rtol=1e-5)
        np.testing.assert_allclose(
            np.linalg.norm(volume.affine, axis=0)[:3], np.linalg.norm(OBLIQUE, axis=0)[:3], rtol=1e-5
        )
        assert _names(volume)[-1] == ("spatial_unit", "note") and volume.findings[-1].value == unit


def test_a_unit_that_makes_impossible_voxels_is_refused(tmp_path):
    _refused(_patched(tmp_path / "a.nii", affine=np.diag([2.0, 2, 5, 1]), xyzt_units=9), "edge of 2000 mm .unit: metre")
    _refused(
        _patched(tmp_path / "b.nii", affine=np.diag([2.0, 2, 5, 1]), xyzt_units=11), "edge of 0.002 mm .unit: micron"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": 1e20},
        {"srow_z_2": 1e20},
        {"srow_y_3": 1e20},
        {"srow_y_3": np.nan},
        {"srow_x_1": np.inf},
        {"pixdim_3": 1e-6},
        {"pixdim_3": 1e10},
        {"pixdim_1": np.inf},
        {"srow_x": [0, 0, 0]},
        {"srow_y": [1e-4, 1e-4, 1e-4]},
    ],
)
def test_voxels_of_an_impossible_size_or_place_are_refused(tmp_path, fields):
    _refused(_patched(tmp_path / "a.nii", affine=np.diag([2.0, 2, 5, 1]), **fields), "affine|pixdim")


@pytest.mark.parametrize("codes", [{"sform_code": 0}, {"sform_code": 0, "qform_code": 0}])
@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("edge", [0, -5, np.nan, 1e-6, 1e10])
def test_an_edge_that_decides_must_be_one(tmp_path, codes, axis, edge):
    _refused(_patched(tmp_path / "a.nii", **{f"pixdim_{axis}": edge}, **codes), rf"pixdim\[{axis}\] in the header")


@pytest.mark.parametrize("edge", [0, -5, np.nan])
def test_an_edge_that_is_missing_beside_an_sform_is_ignored(tmp_path, edge):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", pixdim_3=edge), 4)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.findings == ()


def test_a_map_of_one_slice_needs_no_third_edge(tmp_path):
    path = _patched(tmp_path / "a.nii", series((5, 4, 1)), dim=[2, 5, 4], pixdim_3=0, sform_code=0)
    volume = nifti.read_volume(path, 3)
    assert volume.data.shape == (5, 4, 1) and np.linalg.norm(volume.affine[:3, 2]) == pytest.approx(1.0)


def test_edges_that_contradict_the_sform_are_found(tmp_path):
    affine = np.diag([2.0, 2, 5, 1])
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", affine=affine, pixdim_3=6, qform_code=0), 4)
    assert _names(volume) == [("voxel_size", "warning")]
    assert "2 x 2 x 5 mm" in volume.findings[0].text and "2 x 2 x 6 mm" in volume.findings[0].text
    assert _names(nifti.read_volume(_patched(tmp_path / "b.nii", affine=affine, pixdim_1=1, qform_code=0), 4)) == [
        ("voxel_size", "warning")
    ]
    assert not nifti.read_volume(_patched(tmp_path / "c.nii", affine=affine, pixdim_3=5.2, qform_code=0), 4).findings


@pytest.mark.parametrize("fields", [{"qoffset_x": 27.0}, {"quatern_b": [1.0, 0.0, 0.0]}, {"srow_x": [1.9, 0.2, 0.1]}])
def test_two_places_for_the_same_voxel_are_found(tmp_path, fields):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", **fields), 4)
    assert (
        _names(volume) == [("orientation_unknown", "warning")]
        and "sform and qform place a corner" in volume.findings[0].text
    )


def test_places_within_one_voxel_are_the_same(tmp_path):
    assert not nifti.read_volume(_patched(tmp_path / "a.nii", qoffset_x=21.0), 4).findings
    assert not nifti.read_volume(_patched(tmp_path / "b.nii", qoffset_x=27.0, qform_code=0), 4).findings


@pytest.mark.parametrize("codes", [(0, 0), (-1, 0)])
def test_no_orientation_is_found(tmp_path, codes):
    path = _patched(tmp_path / "a.nii", affine=np.diag([2.0, 2, 5, 1]), qform_code=codes[0], sform_code=codes[1])
    volume = nifti.read_volume(path, 4)
    assert (
        _names(volume) == [("orientation_unknown", "warning")]
        and "left and right are not known" in volume.findings[0].text
    )
    np.testing.assert_array_equal(
        volume.affine, [[-2, 0, 0, 4], [0, 2, 0, -3], [0, 0, 5, -5], [0, 0, 0, 1]]
    )  # as NiBabel's


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1, 1, 1])])
def test_an_affine_that_says_nothing_is_found(tmp_path, affine):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", affine=affine), 4)
    assert (
        _names(volume) == [("voxel_size", "warning")] and "1 x 1 x 1 mm without a position" in volume.findings[0].text
    )


def test_a_qform_without_its_sign_is_right_handed(tmp_path):
    affine = np.diag([2.0, 2, 5, 1])
    for sign, third in ((0, 5), (1, 5), (-1, -5)):
        read = nifti.read_volume(_patched(tmp_path / "a.nii", affine=affine, sform_code=0, pixdim=sign), 4).affine
        np.testing.assert_allclose(read, np.diag([2.0, 2, third, 1]), atol=1e-6)


@pytest.mark.parametrize("value", [5.0, np.nan, 1e30])
def test_a_rotation_that_is_none_is_refused_where_it_decides(tmp_path, value):
    _refused(_patched(tmp_path / "a.nii", sform_code=0, quatern_b=value), "quatern_b, c, d in the header")
    assert not nifti.read_volume(_patched(tmp_path / "b.nii", quatern_b=value), 4).findings


def test_no_byte_of_units_stops_reading(tmp_path):
    for code in range(256):
        affine = np.diag([2.0, 2, 5, 1]) * {1: 1e-3, 3: 1e3}.get(code & 7, 1.0)
        affine[3, 3] = 1
        volume = nifti.read_volume(_patched(tmp_path / "a.nii", affine=affine, xyzt_units=code), 4)
        assert volume.time_unit == {8: 1.0, 16: 1e-3, 24: 1e-6}.get(code & 56) and volume.header_time == 1.5
        np.testing.assert_allclose(volume.affine, np.diag([2.0, 2, 5, 1]), rtol=1e-6)


@pytest.mark.parametrize("time", [0, -2, np.nan, np.inf, -np.inf, 1e30])
def test_a_time_that_is_none_is_unknown(tmp_path, time):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", pixdim_4=time), 4)
    assert volume.header_time is None and volume.frame_seconds is None and volume.findings == ()


def test_time_of_the_header_is_given_as_stored(tmp_path):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", pixdim_4=1500, xyzt_units=18), 4)
    assert (volume.header_time, volume.time_unit, volume.frame_seconds) == (1500, 1e-3, 1.5)
    volume = nifti.read_volume(
        _patched(tmp_path / "b.nii", dim=[5, 5, 4, 3, 1, 12], pixdim_4=[1, 2.5], xyzt_units=2), 4
    )
    assert (volume.header_time, volume.time_unit) == (2.5, None)
    nifti.write_volume(tmp_path / "c.nii", np.ones((3, 3, 3)), OBLIQUE)
    assert nifti.read_volume(tmp_path / "c.nii", 3).header_time is None


@pytest.mark.parametrize("field", ["scl_slope", "scl_inter"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e35])
def test_a_scaling_that_is_none_is_refused(tmp_path, field, value):
    _refused(_patched(tmp_path / "a.nii", **{field: value}), f"{field} in the header is")


def test_a_slope_of_zero_scales_nothing(tmp_path):
    for inter in (0, 7):
        volume = nifti.read_volume(_patched(tmp_path / "a.nii", scl_slope=0, scl_inter=inter), 4)
        np.testing.assert_array_equal(volume.data, series())


def test_values_that_scaling_carries_beyond_float32_are_refused(tmp_path):
    _refused(
        _patched(tmp_path / "a.nii", dtype=np.float32, data=series() * 1e20, scl_slope=1e20),
        "scl_slope 1e.20 .*beyond",
    )
    _refused(_patched(tmp_path / "b.nii", scl_slope=1e29), "scl_slope 1e.29 .*beyond 1e.30")
    _refused(_patched(tmp_path / "c.nii", scl_slope=1e-40), "scl_slope in the header is 9.99995e-41")
    volume = nifti.read_volume(_patched(tmp_path / "d.nii", scl_slope=1e26), 4)
    assert 0 < volume.data.max() < 1e30


def test_a_scaling_that_was_never_set_scales_nothing(tmp_path):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", scl_slope=np.nan, scl_inter=np.nan), 4)
    np.testing.assert_array_equal(volume.data, series())


@pytest.mark.parametrize(
    ("code", "told"), [(0, "real numbers"), (32, "complex64"), (128, "real numbers"), (999, "datatype.*999")]
)
def test_a_datatype_that_is_no_real_number_is_refused(tmp_path, code, told):
    _refused(_patched(tmp_path / "a.nii", datatype=code), told)


@pytest.mark.parametrize("magic", [b"", b"nii", b"\xff\xff\xff"])
def test_another_kind_of_file_with_the_same_size_of_header_is_refused(tmp_path, magic):
    _refused(_patched(tmp_path / "a.nii", magic=magic), "magic is")


def test_time_as_third_axis_is_refused(tmp_path, deep):
    for name, part in {
        "all": np.s_[:],
        "first": np.s_[..., :12],
        "slices": np.s_[:, :, ::2],
        "few": np.s_[:, :, 8:14],
    }.items():
        nifti.write_volume(tmp_path / f"{name}.nii", np.swapaxes(deep[0][part], 2, 3), deep[1])
        _refused(tmp_path / f"{name}.nii", r"third axis seems to be time \(x, y, time, slice\).*reorder")


def test_a_last_axis_of_few_entries_is_no_time_whatever_the_third_is(tmp_path):
    for slices in (1, 3, 9):
        nifti.write_volume(tmp_path / "a.nii", np.swapaxes(fake_arrays((16, 16, slices))[0], 2, 3), OBLIQUE)
        _refused(tmp_path / "a.nii", "third axis seems to be time|if the third one is time")
        with pytest.raises(InputError, match="if the third one is time"):
            nifti.read_outline(tmp_path / "a.nii")


def test_present_is_a_file_or_a_link_to_one(tmp_path):
    path = _patched(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to(path)
    assert nifti.present(path) and nifti.present(tmp_path / "b.nii")
    assert not nifti.present(tmp_path) and not nifti.present(tmp_path / "absent.nii")


@pytest.mark.parametrize(
    "content", [b"/annex/objects/MD5E-s1.nii.gz\n", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"]
)
def test_a_pointer_in_place_of_the_data_is_named(tmp_path, content):
    (tmp_path / "a.nii.gz").write_bytes(content)
    _refused(tmp_path / "a.nii.gz", "a pointer, its data were not fetched")
