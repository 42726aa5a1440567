"""What is compiled is what trains and predicts, as a GPU would be given it; compiled for one where the packages are."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import chip
import jax
import numpy as np
import programs
import pytest

from dscgan_jax import platforms
from dscgan_jax.configs import default
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.errors import InputError
from dscgan_jax.methods import network
from dscgan_jax.speed.inputs import with_fields
from dscgan_jax.training.inference import compiler_options

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {
    "data.size": 32,
    "model.width": 4,
    "model.unet_width": 2,
    "model.depth": 5,
    "model.discriminator_width": 4,
}


def config(**fields):
    return with_fields(default.get_config(), **SMALL | fields)


def text_of(row, given):
    return programs.lowered(row, programs.config_of(row, given), jax.devices()[: row.devices]).as_text()


def test_a_row_takes_from_the_config_what_is_not_given():
    given = config(**{"train.batch_size": 6, "model.compute": "bfloat16", "model.lean": True})
    assert programs.row_of(given, "train") == programs.Row("train", 6, "bfloat16", lean=True)
    assert programs.row_of(given, "predict").batch == network.SLICES_PER_CALL
    assert programs.row_of(given, "predict", norm="running").norm == "running"
    assert programs.config_of(programs.row_of(given, "train", devices=2), given).train.batch_size == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"what": "predict", "devices": 8}, "--devices=8: an exam is predicted on one device"),
        ({"what": "train", "norm": "running"}, "--norm=running: a training step has its own"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        programs.row_of(config(), **words)


def test_a_norm_is_refused_where_the_network_has_none():
    with pytest.raises(InputError, match="no batch norm"):
        programs.row_of(config(**{"model.norm": "instance"}), "predict", norm="running")


def test_a_config_that_could_not_train_is_refused():
    given = config(**{"train.accumulate": 4})
    with pytest.raises(InputError, match="must divide config"):
        programs.config_of(programs.Row("train", 2, "float32"), given)


def test_rows_of_the_page_are_all_different_and_can_be_typed():
    assert len(set(programs.ROWS)) == len(programs.ROWS)
    assert programs.ROWS[-1].flags() == [
        "--what=train",
        "--batch=4",
        "--devices=8",
        "--config.model.compute=bfloat16",
        "--config.model.lean=False",
    ]


@pytest.mark.slow
def test_what_is_traced_is_the_path_of_a_gpu():
    """The library's convolution forward and backward: a CPU's derivative would be products over windows."""
    row = programs.Row("train", 2, "float32")
    assert compiler_options() != {}
    with platforms.tracing_for(platforms.ACCELERATOR):
        assert compiler_options() == {}
    assert "lhs_dilate = [2]" in text_of(row, config())


def test_the_step_splits_its_batch_and_takes_the_state_over():
    text = text_of(programs.Row("train", 2, "float32", devices=2), config())
    assert "jit_train_step" in text and "tensor<4x80x32x32xi16>" in text
    assert "jax.buffer_donor" in text or "tf.aliasing_output" in text
    assert '"data"=2' in text


def test_prediction_takes_the_batch_that_a_predictor_gives_it():
    row = programs.Row("predict", 8, "float32", norm="per_slice")
    ours = programs.batch_of(programs.config_of(row, config())).inputs
    theirs = network._one_call(PreparationSettings(32, 0, 80, "stretch", 1.5, "keep"), 8)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(ours)] == [
        (leaf.shape, np.dtype(leaf.dtype)) for leaf in jax.tree.leaves(theirs)
    ]


def test_the_chip_is_written_with_every_figure():
    text = chip.target_config(chip.H100)
    assert "core_count: 132" in text and "device_memory_size: 85899345920" in text
    assert text.count("{") == text.count("}") == 3


def test_without_the_packages_it_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(programs, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r"\(the extra gpu_program\): in an environment of its own, pip install"):
        programs.described_h100s(1)


def test_a_small_config_compiles_for_an_h100(tmp_path):
    if importlib.util.find_spec(programs.PACKAGE) is None:
        pytest.skip(programs.ABSENT)
    fields = [f"--config.{name}={value}" for name, value in SMALL.items()]
    line = [sys.executable, "benchmarks/gpu_program.py", "--batch=2", *fields, f"--output={tmp_path / 'row.json'}"]
    subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    [row] = json.loads((tmp_path / "row.json").read_text())["rows"]
    kinds = {kind["kind"]: kind for kind in row["kernels"]}
    assert kinds["matrix product"]["flops"] > kinds["convolution"]["flops"] > 0
    assert row["memory"]["temporary_bytes"] > 0 < row["moved_bytes"] and row["collectives"] == []
    assert any(one["place"].startswith("models/") for one in row["largest"])
