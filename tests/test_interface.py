"""The Python interface: its example works, its names are there, and nothing is imported before it is used."""

import doctest

import pytest

import dscgan_jax as dj


@pytest.mark.slow
def test_the_example_of_the_package_works():
    failed, tried = doctest.testmod(dj)
    assert (failed, tried) == (0, 5)


@pytest.mark.parametrize("name", dj.__all__)
def test_every_public_name_is_there_and_explained(name):
    value = getattr(dj, name)
    assert name in dir(dj) and value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'deconvolv'"):
        dj.deconvolv  # noqa: B018


def test_maps_save_themselves_on_the_axes_of_their_exam(tmp_path):
    phantom = dj.simulate("chronic", seed=1, size=32, slices=2)
    paths = phantom.truth.save(str(tmp_path / "out"), names=("tmax", "cbf"))
    assert [path.name for path in paths] == ["phantom-chronic-1_tmax.nii.gz", "phantom-chronic-1_cbf.nii.gz"]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".gz", ".gz", ".json", ".json"]
    assert phantom.truth.unit("cbf") == "mL/100 g/min"
    with pytest.raises(dj.InputError, match="has no map 'ttpp'"):
        phantom.truth["ttpp"]
