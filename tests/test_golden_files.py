"""The golden subset gives the numbers of the full files."""

import json

import golden_files
import numpy as np
import pytest


@pytest.fixture(scope="module")
def expanded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expanded")
    golden_files.expand(folder)
    return folder


@pytest.mark.parametrize("file", golden_files.KEPT)
def test_what_the_subset_holds_is_in_the_full_file(whole_golden, expanded, file):
    subset, full = np.load(expanded / file), np.load(whole_golden / file)
    assert subset.files
    for name in subset.files:
        assert subset[name].dtype == full[name].dtype
        np.testing.assert_array_equal(subset[name], full[name], err_msg=name)


def test_inputs_and_weights_are_whole(expanded):
    """No array of a start is left out: a network can be built from each file that holds one."""
    for file, arrays in (("temp_deconv_bn.npz", 100), ("unet_deconv_bn.npz", 58), ("patch_bn.npz", 16)):
        names = np.load(expanded / file).files
        assert "x" in names and sum(name.startswith("state/") for name in names) == arrays
    assert sum(name.startswith("init/") for name in np.load(expanded / "train_step_temp.npz").files) == 116


def test_an_array_that_is_drawn_otherwise_is_refused(tmp_path, monkeypatch):
    for path in golden_files.SUBSET.glob("patch_bn.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    recipes = json.loads((golden_files.SUBSET / golden_files.RECIPES).read_text())
    recipes["patch_bn.npz"]["x"]["seeds"] = [2]
    (tmp_path / golden_files.RECIPES).write_text(json.dumps(recipes))
    monkeypatch.setattr(golden_files, "SUBSET", tmp_path)
    with pytest.raises(ValueError, match=r"patch_bn\.npz: x is not drawn as it was"):
        golden_files.expand(tmp_path / "out")
