"""NIfTI files in and out: values, axes, times, and what is damaged."""

import errno
import gzip

import nibabel
import numpy as np
import pytest
from exams import fake_arrays
from isal import igzip
from volumes import OBLIQUE, phantom, series

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError


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
    nifti.write_volume(path, series(), OBLIQUE, frame_seconds=1.39)
    volume = nifti.read_volume(path, dims=4)
    np.testing.assert_array_equal(volume.data, series())
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.frame_seconds == pytest.approx(1.39)
    assert nifti.read_shape(path) == (5, 4, 3, 12)


def test_header_says_millimetres_seconds_qform_and_sform(tmp_path):
    nifti.write_volume(tmp_path / "a.nii.gz", series(), np.diag([2.0, 2, 5, 1]), frame_seconds=1.5, dtype=np.int16)
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert header.get_xyzt_units() == ("mm", "sec") and header.get_zooms()[3] == 1.5
    assert header["qform_code"] == 1 and header["sform_code"] == 1
    assert header.get_data_dtype() == np.int16 and header.get_slope_inter() == (None, None)


def test_the_same_volume_gives_the_same_bytes(tmp_path, monkeypatch):
    for year, name in enumerate(("a.nii.gz", "b.nii.gz")):
        monkeypatch.setattr(gzip.time, "time", lambda year=year: 1e9 + year * 3e7)
        nifti.write_volume(tmp_path / name, series(), OBLIQUE)
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
    path = _store(tmp_path / "a.nii", series((5, 4, 3, 1, 12)), zooms=(2, 2, 5, 1, 1.55))
    volume = nifti.read_volume(path, dims=4)
    assert volume.data.shape == (5, 4, 3, 12) and nifti.read_shape(path) == (5, 4, 3, 12)
    assert volume.frame_seconds == pytest.approx(1.55)


def test_a_map_stored_with_an_empty_time_axis_is_three_dimensional(tmp_path):
    assert nifti.read_volume(_store(tmp_path / "a.nii", series((5, 4, 3, 1))), 3).data.shape == (5, 4, 3)


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
    volume = nifti.read_volume(_store(tmp_path / "a.nii", series(), units=units, zooms=(2, 2, 5, zoom)), 4)
    assert volume.frame_seconds == (None if seconds is None else pytest.approx(seconds))


def test_a_frame_length_that_nobody_gave_is_not_invented(tmp_path):
    nifti.write_volume(tmp_path / "a.nii", series(), OBLIQUE)
    assert nifti.read_volume(tmp_path / "a.nii", 4).frame_seconds is None
    five = _store(tmp_path / "b.nii", series((5, 4, 3, 1, 12)))
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

    monkeypatch.setattr(igzip.IGzipFile, "write", full)
    with pytest.raises(InputError, match=r"a\.nii\.gz: the disk is full"):
        nifti.write_volume(path, np.zeros((3, 3, 3)), OBLIQUE)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_size_of_header_byte_order_and_type_is_read(tmp_path, kind, order, dtype):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    data = (series((5, 4, 3)) * 2).astype(dtype)
    nibabel.save(kind(data, OBLIQUE, header), tmp_path / "a.nii")
    volume = nifti.read_volume(tmp_path / "a.nii", 3)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.data.dtype == np.float32 and volume.data.dtype.isnative and volume.data.flags.writeable


def test_voxels_never_begin_inside_the_longer_header(tmp_path):
    for offset in (0, 352):
        content = bytearray(nibabel.Nifti2Image(series((5, 4, 3)), OBLIQUE).to_bytes())
        content[168:176] = np.array(offset, "<i8").tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        np.testing.assert_array_equal(nifti.read_volume(tmp_path / "a.nii", 3).data, series((5, 4, 3)))


@pytest.mark.parametrize("path_kind", [".nii", ".nii.gz"])
def test_what_we_write_has_no_findings(tmp_path, path_kind):
    nifti.write_volume(tmp_path / ("a" + path_kind), series(), OBLIQUE, frame_seconds=1.5)
    volume = nifti.read_volume(tmp_path / ("a" + path_kind), 4)
    assert volume.findings == () and (volume.header_time, volume.time_unit) == (1.5, 1.0)


@pytest.mark.parametrize("slices", [1, 2, 3, 5, 8])
def test_time_as_last_axis_raises_no_alarm(tmp_path, slices):
    for seed in range(2):
        series, affine = phantom(slices, seed)
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
            nifti.write_volume(tmp_path / "a.nii", series(), affine, frame_seconds=seconds, sidecar={})
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_replaced_since_it_was_read_ahead_is_read_anew(tmp_path):
    path = tmp_path / "series.nii.gz"
    nifti.write_volume(path, np.zeros((4, 4, 2, 8), np.float32), np.eye(4), frame_seconds=1.5)
    nifti.read_ahead(path, 4)
    nifti.write_volume(path, np.ones((4, 4, 3, 8), np.float32), np.eye(4), frame_seconds=1.5)

    assert nifti.read_volume(path, 4).data.shape == (4, 4, 3, 8)
