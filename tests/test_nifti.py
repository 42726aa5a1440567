"""NIfTI in and out: what was written comes back, what is damaged is refused by name, nothing is half-written."""

import errno
import gzip
import itertools
import json

import nibabel
import numpy as np
import pytest

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError

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


@pytest.mark.parametrize(("units", "zoom", "seconds"), [
    (("mm", "sec"), 2.0, 2.0), (("mm", "msec"), 1500.0, 1.5), (("mm", "sec"), 1500.0, 1.5), (("mm", "usec"), 1.5e6, 1.5),
    (("unknown", "unknown"), 1390.0, 1.39), (("mm", "sec"), 1.0, 1.0),
    (("unknown", "unknown"), 1.0, None), (("mm", "sec"), 0.0, None)])  # 1 without a unit is what fills an empty field
def test_frame_length_of_the_header(tmp_path, units, zoom, seconds):
    volume = nifti.read_volume(_store(tmp_path / "a.nii", _series(), units=units, zooms=(2, 2, 5, zoom)), 4)
    assert volume.frame_seconds == (None if seconds is None else pytest.approx(seconds))


def test_a_frame_length_that_nobody_gave_is_not_invented(tmp_path):
    nifti.write_volume(tmp_path / "a.nii", _series(), OBLIQUE)
    assert nifti.read_volume(tmp_path / "a.nii", 4).frame_seconds is None
    five = _store(tmp_path / "b.nii", _series((5, 4, 3, 1, 12)))
    assert nifti.read_volume(five, 4).frame_seconds is None


def test_frame_length_is_the_flag_then_the_sidecar_then_the_header():
    volume = nifti.Volume(_series(), OBLIQUE, 1.1)
    assert nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": 1.2}, 1.3) == 1.3
    assert nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": 1.2}) == 1.2
    assert nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": 2220}) == pytest.approx(2.22)
    assert nifti.frame_seconds_of("a.nii", volume, {}) == 1.1
    with pytest.raises(InputError, match=r"a\.nii.*--tr=.*RepetitionTime in a\.json"):
        nifti.frame_seconds_of("a.nii", nifti.Volume(_series(), OBLIQUE, None), {})
    with pytest.raises(InputError, match=r"a\.json: RepetitionTime must be a positive number.*-1"):
        nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": -1})


def test_a_frame_length_that_is_no_number_of_seconds_is_refused():
    volume = nifti.Volume(_series(), OBLIQUE, 0.0015)  # seconds that call themselves milliseconds
    with pytest.raises(InputError, match=r"a\.nii: the header's frame length is 0\.0015 s, expected seconds.*ms or minutes"):
        nifti.frame_seconds_of("a.nii", volume, {})
    for given in (0.025, 25):
        with pytest.raises(InputError, match=rf"a\.json: RepetitionTime is {given}, expected seconds.*ms or minutes"):
            nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": given})
        with pytest.raises(InputError, match=rf"a\.nii: the given frame length is {given}, expected seconds"):
            nifti.frame_seconds_of("a.nii", volume, {}, given)
    assert nifti.frame_seconds_of("a.nii", volume, {"RepetitionTime": 0.05}) == 0.05


def test_echo_time_in_milliseconds_is_recognised():
    assert nifti.echo_seconds_of("a.nii", {"EchoTime": 36}) == pytest.approx(0.036)
    assert nifti.echo_seconds_of("a.nii", {"EchoTime": 0.029}, 30) == pytest.approx(0.03)
    assert np.isnan(nifti.echo_seconds_of("a.nii", {}))


def _damaged_files(folder):
    good = folder / "good.nii.gz"
    nifti.write_volume(good, np.random.default_rng(0).normal(size=(8, 8, 4, 12)), OBLIQUE)
    packed, plain = good.read_bytes(), gzip.decompress(good.read_bytes())
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    return {
        "cut.nii.gz": packed[: len(packed) // 2], "cut_in_checksum.nii.gz": packed[:-4], "flipped.nii.gz": bytes(flipped),
        "cut.nii": plain[: len(plain) // 2], "empty.nii": b"", "text.nii.gz": b"these are words, not voxels" * 40,
        "no_header.nii": b"\x00" * 2000, "header_only.nii": plain[:352],
    }


@pytest.mark.parametrize("name", ["cut.nii.gz", "cut_in_checksum.nii.gz", "flipped.nii.gz", "cut.nii", "empty.nii",
                                  "text.nii.gz", "no_header.nii", "header_only.nii"])
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
    assert nifti.read_sidecar(tmp_path / "a_tmax.json") == {"Units": "s"}
    assert nifti.read_sidecar(tmp_path / "absent.json") == {}
    for content in ("{", json.dumps([1])):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=r"bad\.json"):
            nifti.read_sidecar(tmp_path / "bad.json")


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_canonical_order_and_back_for_every_orientation(axes):
    data = _series((2, 3, 4, 2))
    for signs in itertools.product((1, -1), repeat=3):
        affine = np.eye(4)
        affine[:3, :3] = (np.diag([2.0, 3.0, 5.0]) @ np.eye(3)[list(axes)]) * np.array(signs)
        affine[:3, 3] = 7, -8, 9
        canonical, canonical_affine, orientation = nifti.to_canonical(data, affine)
        np.testing.assert_array_equal(canonical_affine[:3, :3], np.diag([2.0, 3.0, 5.0]))
        np.testing.assert_array_equal(nifti.from_canonical(canonical, orientation), data)
        # A voxel keeps its place in the world.
        index = np.argwhere(canonical[..., 0] == data[1, 2, 3, 0])[0]
        np.testing.assert_allclose(canonical_affine @ [*index, 1], affine @ [1, 2, 3, 1])


def test_an_oblique_affine_keeps_its_angles():
    _, affine, _ = nifti.to_canonical(_series(), OBLIQUE)
    np.testing.assert_array_equal(affine[:3, :3], OBLIQUE[:3, :3] * [-1, 1, 1])
