"""NIfTI in and out: what was written comes back, what is damaged is refused by name, nothing is half-written."""

import errno
import gzip
import json
import time
import tracemalloc

import nibabel
import numpy as np
import pytest
from exams import fake_arrays

from dscgan_jax.data import nifti
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.phantom.exam import draw_phantom

OBLIQUE = np.array([[-1.9, 0.2, 0.1, 20.0], [0.2, 1.8, -0.6, -15.0], [0.1, 0.7, 4.9, 4.0], [0, 0, 0, 1]])


def _series(shape=(5, 4, 3, 12)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def _store(path, data, *, slope=1.0, inter=0.0, units=("mm", "sec"), zooms=None, affine=OBLIQUE):
    """Writes with NiBabel directly, as other tools would."""
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units(*units)
    if zooms:
        image.header.set_zooms(zooms)
    if slope != 1.0 or inter != 0.0:
        image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def test_a_series_comes_back_with_affine_and_frame_length(tmp_path):
    path = tmp_path / "sub-1_dsc.nii.gz"
    nifti.write_volume(path, _series(), OBLIQUE, frame_seconds=1.39)
    volume = nifti.read_volume(path, dims=4)
    np.testing.assert_array_equal(volume.data, _series())
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.frame_seconds == pytest.approx(1.39)
    assert nifti.read_shape(path) == (5, 4, 3, 12)


def test_header_says_millimetres_seconds_qform_and_sform(tmp_path):
    nifti.write_volume(tmp_path / "a.nii.gz", _series(), np.diag([2.0, 2, 5, 1]), frame_seconds=1.5, dtype=np.int16)
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert header.get_xyzt_units() == ("mm", "sec") and header.get_zooms()[3] == 1.5
    assert header["qform_code"] == 1 and header["sform_code"] == 1
    assert header.get_data_dtype() == np.int16 and header.get_slope_inter() == (None, None)


def test_the_same_volume_gives_the_same_bytes(tmp_path, monkeypatch):
    for year, name in enumerate(("a.nii.gz", "b.nii.gz")):
        monkeypatch.setattr(gzip.time, "time", lambda year=year: 1e9 + year * 3e7)
        nifti.write_volume(tmp_path / name, _series(), OBLIQUE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_integers_are_rounded_and_never_wrapped(tmp_path):
    nifti.write_volume(tmp_path / "a.nii", np.full((2, 2, 2), 2.6), OBLIQUE, dtype=np.int16)
    assert (nifti.read_volume(tmp_path / "a.nii", 3).data == 3).all()
    with pytest.raises(ValueError, match="do not fit int16"):
        nifti.write_volume(tmp_path / "b.nii", np.full((2, 2, 2), 40000.0), OBLIQUE, dtype=np.int16)
    assert not (tmp_path / "b.nii").exists()


def test_slope_and_intercept_are_applied(tmp_path):
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(stored, OBLIQUE)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([0.5, 10.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_array_equal(nifti.read_volume(tmp_path / "a.nii", 3).data, stored * 0.5 + 10)


def test_a_five_dimensional_series_loses_its_empty_axis(tmp_path):
    path = _store(tmp_path / "a.nii", _series((5, 4, 3, 1, 12)), zooms=(2, 2, 5, 1, 1.55))
    volume = nifti.read_volume(path, dims=4)
    assert volume.data.shape == (5, 4, 3, 12) and nifti.read_shape(path) == (5, 4, 3, 12)
    assert volume.frame_seconds == pytest.approx(1.55)


def test_a_map_stored_with_an_empty_time_axis_is_three_dimensional(tmp_path):
    assert nifti.read_volume(_store(tmp_path / "a.nii", _series((5, 4, 3, 1))), 3).data.shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("units", "zoom", "seconds"),
    [
        (("mm", "sec"), 2.0, 2.0),
        (("mm", "msec"), 1500.0, 1.5),
        (("mm", "sec"), 1500.0, 1500.0),
        (("mm", "usec"), 1.5e6, 1.5),
        (("unknown", "unknown"), 1390.0, 1390.0),
        (("mm", "hz"), 2.0, None),
        (("mm", "ppm"), 2.0, None),
        (("mm", "msec"), 1.0, None),
        (("mm", "sec"), 1.0, 1.0),
        (("unknown", "unknown"), 1.0, None),
        (("mm", "sec"), 0.0, None),
    ],
)
def test_frame_length_of_the_header(tmp_path, units, zoom, seconds):
    volume = nifti.read_volume(_store(tmp_path / "a.nii", _series(), units=units, zooms=(2, 2, 5, zoom)), 4)
    assert volume.frame_seconds == (None if seconds is None else pytest.approx(seconds))


def test_a_frame_length_that_nobody_gave_is_not_invented(tmp_path):
    nifti.write_volume(tmp_path / "a.nii", _series(), OBLIQUE)
    assert nifti.read_volume(tmp_path / "a.nii", 4).frame_seconds is None
    five = _store(tmp_path / "b.nii", _series((5, 4, 3, 1, 12)))
    assert nifti.read_volume(five, 4).frame_seconds is None


def _damaged_files(folder):
    good = folder / "good.nii.gz"
    nifti.write_volume(good, np.random.default_rng(0).normal(size=(8, 8, 4, 12)), OBLIQUE)
    packed, plain = good.read_bytes(), gzip.decompress(good.read_bytes())
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    return {
        "cut.nii.gz": packed[: len(packed) // 2],
        "cut_in_checksum.nii.gz": packed[:-4],
        "flipped.nii.gz": bytes(flipped),
        "cut.nii": plain[: len(plain) // 2],
        "empty.nii": b"",
        "text.nii.gz": b"these are words, not voxels" * 40,
        "no_header.nii": b"\x00" * 2000,
        "header_only.nii": plain[:352],
    }


@pytest.mark.parametrize(
    "name",
    [
        "cut.nii.gz",
        "cut_in_checksum.nii.gz",
        "flipped.nii.gz",
        "cut.nii",
        "empty.nii",
        "text.nii.gz",
        "no_header.nii",
        "header_only.nii",
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(_damaged_files(tmp_path)[name])
    with pytest.raises(InputError, match=name) as caught:
        nifti.read_volume(tmp_path / name, dims=4)
    assert "\n" not in str(caught.value)


def test_the_wrong_number_of_axes_and_a_missing_file_are_named(tmp_path):
    nifti.write_volume(tmp_path / "map.nii", np.ones((3, 3, 3)), OBLIQUE)
    with pytest.raises(InputError, match=r"map\.nii: expected a 4-D series .* has shape \(3, 3, 3\)"):
        nifti.read_volume(tmp_path / "map.nii", 4)
    nifti.write_volume(tmp_path / "series.nii", np.ones((3, 3, 3, 2)), OBLIQUE)
    with pytest.raises(InputError, match=r"series\.nii: expected a 3-D map"):
        nifti.read_volume(tmp_path / "series.nii", 3)
    with pytest.raises(InputError, match="no such file"):
        nifti.read_volume(tmp_path / "absent.nii.gz", 3)
    with pytest.raises(InputError, match="dcm2niix"):
        nifti.read_volume(tmp_path / "scan.dcm", 3)


def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    nifti.write_volume(path, np.ones((3, 3, 3)), OBLIQUE)
    before = path.read_bytes()

    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", full)
    with pytest.raises(InputError, match=r"a\.nii\.gz: the disk is full"):
        nifti.write_volume(path, np.zeros((3, 3, 3)), OBLIQUE)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_sidecar_is_written_beside_and_read_back(tmp_path):
    nifti.write_volume(tmp_path / "a_tmax.nii.gz", np.ones((2, 2, 2)), OBLIQUE, sidecar={"Units": "s"})
    assert read_sidecar(tmp_path / "a_tmax.json") == {"Units": "s"}
    assert read_sidecar(tmp_path / "absent.json") == {}
    for content in ("{", json.dumps([1])):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=r"bad\.json"):
            read_sidecar(tmp_path / "bad.json")


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
        path.with_name("good.nii"), _series() if data is None else data, affine, dtype=dtype, frame_seconds=1.5
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
    np.testing.assert_array_equal(nifti.read_volume(path, 4).data, _series())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_size_of_header_byte_order_and_type_is_read(tmp_path, kind, order, dtype):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    data = (_series((5, 4, 3)) * 2).astype(dtype)
    nibabel.save(kind(data, OBLIQUE, header), tmp_path / "a.nii")
    volume = nifti.read_volume(tmp_path / "a.nii", 3)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.data.dtype == np.float32 and volume.data.dtype.isnative and volume.data.flags.writeable


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
    np.testing.assert_array_equal(nifti.read_volume(_patched(tmp_path / "a.nii", vox_offset=offset), 4).data, _series())


def test_voxels_never_begin_inside_the_longer_header(tmp_path):
    for offset in (0, 352):
        content = bytearray(nibabel.Nifti2Image(_series((5, 4, 3)), OBLIQUE).to_bytes())
        content[168:176] = np.array(offset, "<i8").tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        np.testing.assert_array_equal(nifti.read_volume(tmp_path / "a.nii", 3).data, _series((5, 4, 3)))


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
    path = _patched(tmp_path / "a.nii", _series((5, 4, 1)), dim=[2, 5, 4], pixdim_3=0, sform_code=0)
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


@pytest.mark.parametrize("path_kind", [".nii", ".nii.gz"])
def test_what_we_write_has_no_findings(tmp_path, path_kind):
    nifti.write_volume(tmp_path / ("a" + path_kind), _series(), OBLIQUE, frame_seconds=1.5)
    volume = nifti.read_volume(tmp_path / ("a" + path_kind), 4)
    assert volume.findings == () and (volume.header_time, volume.time_unit) == (1.5, 1.0)


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
        np.testing.assert_array_equal(volume.data, _series())


def test_values_that_scaling_carries_beyond_float32_are_refused(tmp_path):
    _refused(
        _patched(tmp_path / "a.nii", dtype=np.float32, data=_series() * 1e20, scl_slope=1e20),
        "scl_slope 1e.20 .*beyond",
    )
    _refused(_patched(tmp_path / "b.nii", scl_slope=1e29), "scl_slope 1e.29 .*beyond 1e.30")
    _refused(_patched(tmp_path / "c.nii", scl_slope=1e-40), "scl_slope in the header is 9.99995e-41")
    volume = nifti.read_volume(_patched(tmp_path / "d.nii", scl_slope=1e26), 4)
    assert 0 < volume.data.max() < 1e30


def test_a_scaling_that_was_never_set_scales_nothing(tmp_path):
    volume = nifti.read_volume(_patched(tmp_path / "a.nii", scl_slope=np.nan, scl_inter=np.nan), 4)
    np.testing.assert_array_equal(volume.data, _series())


@pytest.mark.parametrize(
    ("code", "told"), [(0, "real numbers"), (32, "complex64"), (128, "real numbers"), (999, "datatype.*999")]
)
def test_a_datatype_that_is_no_real_number_is_refused(tmp_path, code, told):
    _refused(_patched(tmp_path / "a.nii", datatype=code), told)


@pytest.mark.parametrize("magic", [b"", b"nii", b"\xff\xff\xff"])
def test_another_kind_of_file_with_the_same_size_of_header_is_refused(tmp_path, magic):
    _refused(_patched(tmp_path / "a.nii", magic=magic), "magic is")


def _phantom(slices, seed=0):
    phantom = draw_phantom("acute", (1, seed), size=64, slices=slices)
    return phantom.series, phantom.affine


@pytest.fixture(scope="module")
def deep():
    """A series of 25 slices, and its affine."""
    return _phantom(25)


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


@pytest.mark.parametrize("slices", [1, 2, 3, 5, 8])
def test_time_as_last_axis_raises_no_alarm(tmp_path, slices):
    for seed in range(2):
        series, affine = _phantom(slices, seed)
        nifti.write_volume(tmp_path / "a.nii", series, affine)
        assert nifti.read_volume(tmp_path / "a.nii", 4).findings == ()


def test_many_slices_or_few_frames_raise_no_alarm(tmp_path, deep):
    series = deep[0]
    bolus = int(np.argmin(series.mean((0, 1, 2))))
    fake = fake_arrays((16, 16, 16))[0]
    alike = np.broadcast_to(fake[:, :, 8:9], fake.shape)
    in_turn = series * np.where(np.arange(series.shape[-1]) % 2, 0.3, 1.0)  # two echoes
    for data in (
        series,
        series[..., :10],
        series[..., :15],
        series[..., bolus - 5 : bolus + 6],
        fake,
        fake[..., :12],
        alike,
        in_turn,
        np.where(series < 50, np.nan, series),
        np.zeros((8, 8, 20, 20)),
    ):
        nifti._check_time_last("a.nii", np.asfortranarray(data, np.float32))


def test_the_real_exam_has_no_findings(real_exam):
    volume = nifti.read_volume(real_exam, 4)
    assert volume.findings == () and volume.data.shape == nifti.read_shape(real_exam)


def test_looking_for_time_takes_no_time():
    data = np.asfortranarray(np.random.default_rng(0).random((128, 128, 25, 60), np.float32))
    started = time.perf_counter()
    for _ in range(3):
        nifti._check_time_last("a.nii", data)
    assert (time.perf_counter() - started) / 3 < 0.3  # ten times what it takes


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


@pytest.mark.parametrize(("values", "n_lost"), [([np.nan], 1), ([np.inf, -np.inf, np.nan], 3), ([1e39], 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_what_is_not_finite_is_never_written(tmp_path, values, n_lost, dtype):
    data = np.ones((3, 3, 3))
    data.flat[: len(values)] = values
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: .*{n_lost} of 27 values|do not fit int16"):
        nifti.write_volume(tmp_path / "a.nii.gz", data, OBLIQUE, dtype=dtype, sidecar={"Units": "s"})
    assert not list(tmp_path.iterdir())


def test_an_affine_or_frame_length_that_is_not_finite_is_never_written(tmp_path):
    for affine, seconds in ((OBLIQUE * np.nan, 1.5), (OBLIQUE, np.inf)):
        with pytest.raises(InputError, match=r"a\.nii: expected a finite affine and frame length"):
            nifti.write_volume(tmp_path / "a.nii", _series(), affine, frame_seconds=seconds, sidecar={})
    assert not list(tmp_path.iterdir())


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
