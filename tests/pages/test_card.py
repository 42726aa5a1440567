"""The model card says whose network it is, what it learned from, how good it was and what it is not for.

Of a tiny network that learned nothing, with invented records.
"""

import pytest
import runs

from dscgan_jax import provenance
from dscgan_jax.configs import physics, temp_tmax
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.evaluation import records
from dscgan_jax.models import networks
from dscgan_jax.pages import card
from dscgan_jax.training.record import CheckpointRecord
from dscgan_jax.training.weights import Weights

LIMITS = {"tmax": Limits(0.0, 12.5), "ttp": Limits(2.0, 40.0)}
SPLITS = {"a": "train", "b": "train", "c": "test"}
SMALL = {name: runs.QUICK[name] for name in ("model.generator", "model.width", "model.depth", "data.size")}
FEATURES = {"frame_seconds": [0.875, 2.91], "of_a_later_version": [1.0, 2.0]}


def network(config=None, *, source="phantom exams", targets=("tmax",), features=FEATURES, small=SMALL):
    """A network of a few numbers, with the record of a training on two exams."""
    config = config or temp_tmax.get_config("demo")
    config.update_from_flattened_dict(small)
    _, variables, _ = networks.build(config.model, config.data.frames, len(targets), 0)
    scaling = Scaling("relative", Limits(0.0, 2.0), targets, tuple(LIMITS[name] for name in targets), True)
    record = CheckpointRecord(config, scaling, DataRecord(source, "f00d", SPLITS, features=features), {})
    return Weights("small", "0.1.0", 7, "best", record, variables, provenance.digest(variables))


def with_fields(**fields):
    """The demo's config with other values, `data__size` for `data.size`."""
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def section(text, title):
    """What stands below a heading."""
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def summary():
    """Of an evaluation of two subjects by a network and the null."""
    rows = []
    for subject in ("sub-1", "sub-2"):
        for source, mae in (("network_per_slice", 0.37), ("null_median", 1.0)):
            row = dict.fromkeys(records.COLUMNS) | {"subject": subject, "split": "test", "source": source}
            row |= {"map": "tmax", "unit": "s", "n_slices": 1, "n_brain_voxels": 9, "mask_source": "file"}
            rows.append(row | {"brain_mae": mae, "brain_bias": -0.125})
    told = ("created", "software", "split", "checkpoint", "config_sha256", "data", "protocol", "wall_seconds")
    return records.summarise(rows, {name: {} for name in told} | {"excluded": []})


def test_the_card_opens_with_name_maps_and_intended_use():
    text = card.text(network(), {}, 1_234_567)
    assert text.startswith("# small: Tmax from DSC-MRI\n\nResearch use only.") and text.endswith("\n")
    assert "Trained on simulated exams only." in text and "predict exam.nii.gz maps/ --model=small.safetensors" in text


def test_the_network_is_described_so_that_it_can_be_told_from_others():
    whose = network()
    told = section(card.text(whose, {}, 1_234_567), "The network")
    assert f"`{whose.sha256}`" in told and "- checkpoint: step 7, best" in told and "dscgan_jax 0.1.0" in told
    assert f"- learned values: {networks.parameter_count(whose.variables):,} (1.2 MB)" in told
    assert "- generator: unet, width 2, depth 2" in told and "16 x 16 pixels, relative signal" in told


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"data__outside_brain": "zero"}, "0 outside the brain"),
        ({"data__outside_brain": "keep"}, "with what is outside the brain"),
        ({"data__time_mode": "stretch", "data__frames": 20}, "- time: the whole series as 20 frames"),
        (
            {"data__time_mode": "seconds", "data__frames": 20, "data__frame_seconds": 1.5, "data__lead_seconds": 9.0},
            "- time: 20 frames of 1.5 s, from 9 s before the bolus arrives",
        ),
        ({"evaluate__norm_at_test": "running"}, "- batch norm: running"),
        ({"model__peak_time": True}, ", told when signal is lowest"),
        ({"model__arterial_input": True}, ", the exam's AIF and its brain's mean curve in the corners"),
    ],
)
def test_its_input_is_told_as_the_config_has_it(fields, words):
    assert words in section(card.text(network(with_fields(**fields)), {}, 1), "The network")


def test_a_network_without_batch_norm_has_no_line_about_it():
    light = network(physics.get_config("demo"), small={"model.width": 8, "model.depth": 2})
    assert "batch norm" in card.text(network(), {}, 1) and "generator: light" in card.text(light, {}, 1)
    assert "batch norm" not in card.text(light, {}, 1)


def test_exams_are_counted_and_their_ranges_listed_by_readable_names():
    told = section(card.text(network(), {}, 1), "Training exams")
    assert "- subjects: 2 train, 0 validation, 1 test" in told and "- fingerprint: f00d" in told
    assert "| frame length in s | 0.875 | 2.91 |" in told and "| of_a_later_version | 1 | 2 |" in told
    assert "percentile" not in card.text(network(features={}), {}, 1)


def test_only_a_network_of_phantoms_has_a_preset_and_the_limit_of_phantoms():
    simulated, real = (card.text(network(source=source), {}, 1) for source in ("phantom exams", "exams_of_a_clinic"))
    assert "- preset: acute, 64 x 64, seed 0" in simulated and "It learned from simulated exams alone" in simulated
    assert "preset" not in real and "simulated" not in real and "- source: exams_of_a_clinic" in real
    assert "during training" not in simulated
    drawn = card.text(network(with_fields(phantom__drawn_beside=1)), {}, 1)
    assert "- simulated during training: 1 exam\n" in drawn


def test_ranges_of_all_maps_are_there_and_ttp_is_explained_where_its_time_zero_moves():
    moved = network(with_fields(data__lead_seconds=9.0), targets=("tmax", "ttp"))
    text = card.text(moved, {}, 1)
    assert "| Tmax | s | 0 | 12.5 |" in text and "| TTP | s | 2 | 40 |" in text and "TTP counts from" in text
    assert "TTP counts from" not in card.text(network(with_fields(data__lead_seconds=0.0), targets=("ttp",)), {}, 1)
    assert "TTP counts from" not in card.text(network(with_fields(data__lead_seconds=9.0)), {}, 1)


def test_scores_are_those_that_are_given_or_it_says_that_there_are_none():
    scored, unscored = card.text(network(), {"test": summary()}, 1), card.text(network(), {}, 1)
    told = section(scored, "Scores")
    assert told.startswith("`test`, 2 subjects:") and "null_median" in told and "0.37 ± 0.00" in told
    assert section(unscored, "Scores") == "None: these weights were not scored."
    assert "were not scored" not in scored


def test_what_it_is_not_for_closes_every_card():
    told = card.text(network(source="exams_of_a_clinic"), {}, 1).split("## What it must not be used for\n\n")[1]
    assert told.startswith("- Not a medical device") and "unlike_training" in told and "leaks" in told
