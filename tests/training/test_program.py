"""A network as a program: the same maps for any number of slices and from either way, and a file that says what it is.

On tiny networks that learned nothing, and one with published weights.
"""

import dataclasses
import json
import zipfile

import jax
import numpy as np
import pytest
import runs
from jax import export

from dscgan_jax import platforms, provenance
from dscgan_jax.configs import default, temp_tmax
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.models import networks, published, time_passes
from dscgan_jax.training import program
from dscgan_jax.training.inference import predict_step
from dscgan_jax.training.record import CheckpointRecord
from dscgan_jax.training.weights import Weights, tensors_of

SIZE = 16
SCALING = Scaling("delta_r2star", Limits(-5.0, 40.0), ("cbf", "tmax"), (Limits(0.0, 80.0), Limits(0.0, 12.0)), True)
RANGES = {"cbf": 80.0, "tmax": 12.0}


def built(generator, frames=64, **fields):
    model = default.get_config().model
    model.update({"generator": generator, "width": 4, "unet_width": 4, "depth": 2, **fields})
    structure, variables, _ = networks.build(model, frames, 2, 0, exam_slices=4)
    return structure, variables


def inputs_of(n_slices, frames=64):
    random = np.random.default_rng(n_slices)
    series = 100 + 50 * random.random((n_slices, frames, SIZE, SIZE), dtype=np.float32)
    series[:, 20:30] *= 0.6
    brain = random.random((n_slices, SIZE, SIZE)) < 0.7
    return program.ProgramInputs(series, brain, np.int32(2), np.int32(18), np.float32(125), np.float32(0.03))


def directly(structure, variables, norm, inputs):
    """{map: (slice, row, col)} by the code that `predict` uses, everywhere."""
    n = len(inputs.series)
    same = {
        name: np.full(n, getattr(inputs, name))
        for name in ("baseline_begin", "baseline_end", "brain_signal", "echo_seconds")
    }
    batch = Batch(inputs.series, np.ones(n, np.float32), **same)
    step = jax.jit(
        lambda variables, batch: predict_step(variables, batch, networks=structure, scaling=SCALING, mode=norm)
    )
    maps = SCALING.physical_maps(step(variables, batch))
    return {name: np.asarray(maps[..., channel]) for channel, name in enumerate(SCALING.targets)}


def read_back(structure, variables, norm, frames=64):
    made = program.exported(structure, variables, SCALING, norm, frames, SIZE)
    return export.deserialize(made.serialize())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "norm"),
    [("temporal", "running"), ("temporal", "per_slice"), ("unet", "running")]
    + [(generator, "per_slice") for generator in ("light", "voxel", "patch", "stunet")],
)
def test_the_program_gives_the_maps_of_the_package(generator, norm):
    structure, variables = built(generator)
    inputs = inputs_of(3)
    maps = read_back(structure, variables, norm).call(tensors_of(variables), **inputs.to_dict())
    assert_same(maps, directly(structure, variables, norm, inputs), inputs.brain)


def assert_same(maps, expected, brain):
    assert maps.keys() == expected.keys()
    for name, values in expected.items():
        assert np.ptp(values) > 1e-3 * RANGES[name]
        np.testing.assert_allclose(maps[name], np.where(brain, values, 0), rtol=0, atol=1e-5 * RANGES[name])


@pytest.mark.slow
def test_it_takes_any_number_of_slices():
    structure, variables = built("unet")
    call = read_back(structure, variables, "per_slice").call
    for n_slices in (1, 9, 64):
        inputs = inputs_of(n_slices)
        maps = call(tensors_of(variables), **inputs.to_dict())
        assert_same(maps, directly(structure, variables, "per_slice", inputs), inputs.brain)


def test_on_a_cpu_it_computes_in_float32_whatever_the_network_does_elsewhere():
    structure, variables = built("unet")
    inputs = inputs_of(2)
    of_16_bits = dataclasses.replace(structure, compute="bfloat16")
    maps = read_back(of_16_bits, variables, "running").call(tensors_of(variables), **inputs.to_dict())
    assert_same(maps, directly(structure, variables, "running", inputs), inputs.brain)
    rounded = directly(of_16_bits, variables, "running", inputs)
    assert np.abs(rounded["tmax"] - directly(structure, variables, "running", inputs)["tmax"]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["running", "per_slice"])
def test_the_way_of_accelerators_gives_the_same_maps_and_takes_no_tiles(norm, monkeypatch):
    monkeypatch.setattr(time_passes, "TILE_VALUES", 256)  # so that a CPU takes tiles of this small image
    structure, variables = built("temporal")
    inputs = inputs_of(3)
    taken = {name: getattr(inputs, name) for name in ("baseline_begin", "baseline_end", "brain_signal", "echo_seconds")}
    maps, loops = {}, {}
    for platform in (platforms.CPU, platforms.ACCELERATOR):
        of_series = program.in_parts(structure, variables, SCALING, norm, platform)
        arguments = (tensors_of(variables), inputs.series, taken)
        loops[platform] = str(jax.make_jaxpr(of_series)(*arguments)).count("scan[")
        maps[platform] = jax.jit(of_series)(*arguments)
    assert loops[platforms.ACCELERATOR] == 1  # over the parts
    assert loops[platforms.CPU] == (2 if norm == "running" else 1)
    np.testing.assert_allclose(maps[platforms.CPU], maps[platforms.ACCELERATOR], rtol=0, atol=1e-4)
    assert platforms.traced_for() == jax.default_backend()


@pytest.mark.slow
def test_it_gives_the_published_maps_with_published_weights(golden):
    archive = np.load(golden / "temp_deconv_bn.npz")
    state = {name.removeprefix("state/"): archive[name] for name in archive.files if name.startswith("state/")}
    found = published.infer_model_settings(state)
    model = default.get_config().model
    model.update(found.settings)
    structure, _, _ = networks.build(model, 80, found.n_targets, None)
    variables = published.from_published(state, published.generator_entries(model))
    # Of scaled values, as published: raw signal in [-1, 1], and a map of that range.
    scaling = Scaling("raw", Limits(-1.0, 1.0), ("tmax",), (Limits(-1.0, 1.0),), False)
    series = archive["x"]
    made = program.exported(structure, variables, scaling, "running", series.shape[1], series.shape[2])
    call = export.deserialize(made.serialize()).call
    brain = np.ones((len(series), *series.shape[2:]), bool)
    of_exam = {"baseline_begin": 0, "baseline_end": 1, "brain_signal": 1.0, "echo_seconds": 0.03}
    maps = call(tensors_of(variables), series=series, brain=brain, **of_exam)
    expected = archive["out_eval"][:, 0]
    assert np.abs(maps["tmax"] - expected).max() <= 1e-5 * np.abs(expected).max()


# ------------------------------------------------------------------------------------------------------------ the file


def network_of(**fields):
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict({**runs.QUICK, "data.root": "/home/somebody/exams", **fields})
    _, variables, _ = networks.build(config.model, config.data.frames, 1, 0, config.data.slices)
    scaling = Scaling("relative", Limits(0.0, 2.0), ("tmax",), (Limits(0.0, 12.0),), True)
    data = DataRecord("phantom exams", "0123", {"sub-jane": "train", "sub-john": "test"}, {"sub-jane": 5})
    record = CheckpointRecord(config, scaling, data, {"dscgan_jax": "0.0.1", "git": None})
    return Weights("small", "0.1.0", 7, "best", record, variables, provenance.digest(variables))


def test_equal_networks_make_equal_files_that_say_what_they_are_and_nothing_of_this_machine(tmp_path):
    network = network_of()
    beside = program.write(network, "running", tmp_path / "a.stablehlo")
    program.write(network, "running", tmp_path / "b.stablehlo")
    assert (tmp_path / "a.stablehlo").read_bytes() == (tmp_path / "b.stablehlo").read_bytes()
    assert 5_000 < beside < 1_000_000
    with zipfile.ZipFile(tmp_path / "a.stablehlo") as file:
        about = json.loads(file.read("metadata.json"))
        parts = b"".join(file.read(name) for name in file.namelist())
        weights = {name: np.load(file.open(f"weights/{name}.npy")) for name in about["weights"]}
    assert not any(
        word in parts for word in (b"somebody", b"sub-j", str(tmp_path).encode(), b"program.py", b"/models/")
    )
    assert (about["name"], about["version"], about["sha256"]) == ("small", "0.1.0", network.sha256)
    assert about["intended_use"].startswith("research use only") and about["norm"] == "running"
    assert about["maps"]["tmax"]["unit"] == "s" and about["maps"]["tmax"]["range"] == [0.0, 12.0]
    assert about["inputs"]["series"]["shape"] == ["any", network.record.config.data.frames, 16, 16]
    assert about["inputs"].keys() == {field.name for field in dataclasses.fields(program.ProgramInputs)}
    for name, tensor in tensors_of(network.variables).items():
        np.testing.assert_array_equal(weights[name], tensor)


def test_it_says_where_a_network_saw_simulated_exams_alone(tmp_path):
    network = network_of()
    of_people = dataclasses.replace(network.record.data, source="/home/somebody/hospital")
    for data, words in ((network.record.data, "simulated exams only"), (of_people, "exams of hospital")):
        record = dataclasses.replace(network.record, data=data)
        program.write(dataclasses.replace(network, record=record), "running", tmp_path / "a.stablehlo")
        with zipfile.ZipFile(tmp_path / "a.stablehlo") as file:
            assert json.loads(file.read("metadata.json"))["trained_on"] == words


def test_a_network_that_sees_neighbours_is_refused_and_nothing_is_written(tmp_path):
    network = network_of(**{"model.neighbours": 1, "data.slices": 4})
    with pytest.raises(InputError, match="sees the slices beside each one"):
        program.write(network, "per_slice", tmp_path / "a.stablehlo")
    assert not list(tmp_path.iterdir())
