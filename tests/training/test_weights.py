"""A network as a file: the same numbers come back, equal networks make equal files, and nothing else is read.

On a tiny network that learned nothing.
"""

import dataclasses
import json
import pickle
import zipfile

import jax
import numpy as np
import pytest
import runs
import safetensors.numpy

from dscgan_jax import provenance
from dscgan_jax.configs import temp_tmax
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.models import networks
from dscgan_jax.training import weights
from dscgan_jax.training.record import CheckpointRecord


class Executes:
    """What leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def network_of(source="phantom exams", seed=0):
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict({**runs.QUICK, "data.root": "/home/somebody/exams"})
    _, variables, _ = networks.build(config.model, config.data.frames, 1, seed)
    scaling = Scaling("relative", Limits(0.0, 2.0), ("tmax",), (Limits(0.0, 12.0),), True)
    splits = {"sub-jane": "train", "sub-john": "test"}
    data = DataRecord(source, "0123", splits, {"sub-jane": 5}, features={"frame_seconds": [1.0, 2.0]})
    record = CheckpointRecord(config, scaling, data, {"dscgan_jax": "0.0.1", "git": None})
    return weights.Weights("small", "0.1.0", 7, "best", record, variables, provenance.digest(variables))


@pytest.fixture(scope="module")
def network():
    return network_of()


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "small.safetensors"
    weights.write(network, path)
    return path


def rewritten(file, change_entry=lambda entry: entry, change_tensors=lambda tensors: tensors, seal=True):
    """The file with other metadata or tensors, well formed; `seal` gives the metadata a digest that fits."""
    with safetensors.safe_open(file, "numpy") as opened:
        entry = json.loads(opened.metadata()[weights.ENTRY])
    tensors, entry = change_tensors(safetensors.numpy.load_file(file)), change_entry(entry)
    if seal:
        entry[weights.ENTRY_DIGEST] = weights._entry_digest(entry)
    file.write_bytes(safetensors.numpy.save(tensors, {weights.ENTRY: json.dumps(entry)}))
    return file


def first_tensor(change):
    def changed(tensors):
        name = next(name for name, values in sorted(tensors.items()) if values.ndim > 1)
        return {**tensors, name: change(tensors[name])}

    return changed


def test_what_was_written_comes_back(network, file):
    back = weights.read(file)
    jax.tree.map(np.testing.assert_array_equal, back.variables, jax.device_get(network.variables))
    assert (back.name, back.version, back.step, back.sha256) == ("small", "0.1.0", 7, network.sha256)
    assert back.record.scaling == network.record.scaling
    assert back.record.config.model == network.record.config.model
    assert back.record.data.features == {"frame_seconds": [1.0, 2.0]}
    assert back.record.data.counts == network.record.data.counts
    assert back.networks == network.networks
    assert "trained on simulated exams only" in back.in_words


def test_what_is_usual_of_its_maps_travels_with_it(network, tmp_path):
    path, usual = tmp_path / "small.safetensors", {"tmax_disorder": 0.5}
    weights.write(dataclasses.replace(network, usual=usual), path)
    assert weights.read(path).usual == usual
    changed = rewritten(path, lambda entry: entry | {"usual": ["tmax_disorder"]})
    with pytest.raises(InputError, match="limits of what is usual"):
        weights.read(changed)


def test_equal_networks_make_equal_files(file, tmp_path):
    for number in range(3):  # the library writes its metadata in an order that changes
        weights.write(network_of(), tmp_path / f"{number}.safetensors")
        assert (tmp_path / f"{number}.safetensors").read_bytes() == file.read_bytes()
    weights.write(network_of(seed=1), tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() != file.read_bytes()


def test_folders_and_names_of_subjects_stay_at_home(tmp_path):
    path = tmp_path / "ours.safetensors"
    weights.write(network_of("/home/somebody/clinic"), path)
    content = path.read_bytes()
    assert not any(secret in content for secret in (b"somebody", b"jane", b"john"))
    assert weights.read(path).trained_on == "exams of clinic"


def truncated(file, tmp_path):
    file.write_bytes(file.read_bytes()[:-100])


def truncated_in_its_header(file, tmp_path):
    file.write_bytes(file.read_bytes()[:300])


def empty(file, tmp_path):
    file.write_bytes(b"")


def longer(file, tmp_path):
    file.write_bytes(file.read_bytes() + b"more")


def with_other_ranges(file, tmp_path):
    limits = [[0.0, 60.0]]
    rewritten(file, lambda entry: {**entry, "scaling": {**entry["scaling"], "limits": limits}}, seal=False)


def with_a_step_in_words(file, tmp_path):
    rewritten(file, lambda entry: {**entry, "step": "the last"})


def with_a_name_of_two_lines(file, tmp_path):
    rewritten(file, lambda entry: {**entry, "name": "one\ntwo"})


def of_a_later_format(file, tmp_path):
    rewritten(file, lambda entry: {**entry, "format_version": 2, "version": "9.9"})


def without_a_scaling(file, tmp_path):
    rewritten(file, lambda entry: {name: value for name, value in entry.items() if name != "scaling"})


def with_another_scaling(file, tmp_path):
    rewritten(file, lambda entry: {**entry, "scaling": {**entry["scaling"], "targets": ["cbf"]}})


def with_an_unknown_field(file, tmp_path):
    rewritten(file, lambda entry: {**entry, "config": {**entry["config"], "colour": 3}})


def with_an_impossible_config(file, tmp_path):
    model = {"generator": "none"}
    rewritten(file, lambda entry: {**entry, "config": {**entry["config"], "model": model}})


def wider_than_its_config(file, tmp_path):
    rewritten(file, change_tensors=first_tensor(lambda values: np.concatenate([values, values])))


def in_half_precision(file, tmp_path):
    rewritten(file, change_tensors=first_tensor(lambda values: values.astype(np.float16)))


def without_a_tensor(file, tmp_path):
    rewritten(file, change_tensors=lambda tensors: dict(sorted(tensors.items())[1:]))


def with_one_more_tensor(file, tmp_path):
    rewritten(file, change_tensors=lambda tensors: {**tensors, "more": np.zeros(3, np.float32)})


def with_another_number(file, tmp_path):
    rewritten(file, change_tensors=first_tensor(lambda values: values + np.float32(1e-3)))


def a_pickle(file, tmp_path):
    file.write_bytes(pickle.dumps(Executes(tmp_path / "executed")))


def an_old_pickle(file, tmp_path):
    file.write_bytes(pickle.dumps(Executes(tmp_path / "executed"), protocol=2))


def of_pytorch(file, tmp_path):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Executes(tmp_path / "executed")))


def of_something_else(file, tmp_path):
    file.write_bytes(safetensors.numpy.save({"a": np.zeros(3, np.float32)}, {"format": "pt"}))


def with_a_huge_header(file, tmp_path):
    file.write_bytes((2**40).to_bytes(8, "little") + b"{" + bytes(1000))


def with_a_header_that_is_no_json(file, tmp_path):
    file.write_bytes((1000).to_bytes(8, "little") + b"{" * 1000)


def a_folder(file, tmp_path):
    file.unlink()
    file.mkdir()


def gone(file, tmp_path):
    file.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, "its header says"),
        (truncated_in_its_header, "ends in its header"),
        (empty, "it is something else"),
        (longer, "its header says"),
        (with_other_ranges, "its metadata are not those that were written"),
        (with_a_step_in_words, "no name, version and step"),
        (with_a_name_of_two_lines, "no name, version and step"),
        (of_a_later_format, "use the package that wrote it (9.9)"),
        (without_a_scaling, "lack scaling"),
        (with_another_scaling, "its scaling is not that of its config"),
        (with_an_unknown_field, "config.colour"),
        (with_an_impossible_config, "config.model.generator"),
        (wider_than_its_config, "its config says F32"),
        (in_half_precision, "F16"),
        (without_a_tensor, "lacks the tensor"),
        (with_one_more_tensor, "has the tensor more"),
        (with_another_number, "digest"),
        (a_pickle, "a pickle"),
        (an_old_pickle, "a pickle"),
        (of_pytorch, "a zip archive"),
        (of_something_else, "not of a network of this package"),
        (with_a_huge_header, "its header would have 1,099,511,627,776 bytes"),
        (with_a_header_that_is_no_json, "its header is none"),
        (a_folder, "is not a file"),
        (gone, "cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_is_not_what_it_should_be_is_one_line_and_executes_nothing(file, tmp_path, spoil, words):
    spoil(file, tmp_path)
    with pytest.raises(InputError) as error:
        weights.read(file)
    assert words in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_a_config_with_fewer_fields_is_read_with_their_defaults(file):
    def older(entry):
        del entry["config"]["model"]["lean"]
        return entry

    assert weights.read(rewritten(file, older)).record.config.model.lean is False


def test_what_is_not_written_whole_leaves_the_file_that_was_there(network, file, monkeypatch):
    before = file.read_bytes()
    other = dataclasses.replace(network, name="other")
    monkeypatch.setattr(weights.safetensors.numpy, "save", lambda *_: "no bytes")
    with pytest.raises(TypeError):
        weights.write(other, file)
    assert file.read_bytes() == before and [one.name for one in file.parent.iterdir()] == [file.name]
