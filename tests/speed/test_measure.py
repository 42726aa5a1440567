"""Records of one config on one machine: what is in them, and what is refused."""

import json

import jax
import pytest

from dscgan_jax.app import benchmark
from dscgan_jax.configs import physics
from dscgan_jax.errors import InputError
from dscgan_jax.speed import measure, records, training
from dscgan_jax.speed.inputs import with_fields

pytestmark = pytest.mark.slow


def test_a_record_says_where_what_and_how(record):
    assert record["schema"] == records.BENCHMARK
    assert record["hardware"]["backend"] == "cpu" and record["hardware"]["cores"] >= 1
    assert record["versions"]["jax"] == jax.__version__
    assert record["command"] == "a command"
    assert record["config"]["size"] == 32
    assert json.loads(records.to_text(record)) == record


def test_a_step_has_counts_rates_and_memory(record):
    step = record["step"]
    assert step["counted_flops"] == 4 * record["counted"]["training"]
    assert step["flops_per_second"] == pytest.approx(step["counted_flops"] / step["seconds"]["median"])
    assert step["fraction_of_peak"]["float32"] == pytest.approx(step["flops_per_second"] / record["peaks"]["float32"])
    assert 0.7 < step["counted_over_traced"] <= 1.01
    assert 0 < step["counted_over_xla"] < 2
    assert step["temporary_bytes"] > 0 and step["resident_peak_bytes"] > 0
    assert step["device_peak_bytes"] is None and record["peaks"]["bfloat16"] is None


def test_operations_of_a_step_are_those_of_its_crops_without_a_discriminator_that_nobody_asks():
    config = with_fields(physics.get_config("demo"), **{"train.batch_size": 4, "data.size": 64, "train.crop": 32})
    config.model.width, config.train.augment_more = 4, False  # whose products are more than those of this network
    measured = training.measure_step(config, 3)
    assert 0.75 < measured["counted_over_traced"] <= 1.01  # looks are left out: a fifth of so narrow a network


def test_batches_come_from_everywhere(record):
    assert set(record["pipeline"]["slices_per_second"]) == {"device", "memory", "disk"}


def test_each_part_is_announced_when_it_is_measured(monkeypatch, tiny_config):
    monkeypatch.setattr(training, "measure_step", lambda config, repeats: {"peaks": {"float32": 1.0}})
    monkeypatch.setattr(training, "measure_best_batch", lambda config, repeats: [])
    parts = []
    made = measure.run(tiny_config(), ("best_batch", "step"), 3, progress=lambda part, _: parts.append(part))
    assert parts == ["step", "best batch"]
    assert made["peaks"] == {"float32": 1.0} and made["best_batch"] == []


def test_whoever_is_cut_off_keeps_the_parts_that_are_measured(monkeypatch, tiny_config, tmp_path):
    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "measure_step", lambda config, repeats: {"peaks": {"float32": 1.0}})
    monkeypatch.setattr(training, "measure_best_batch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(tiny_config(), ("step", "best_batch"), 3, tmp_path / "record.json", "a command")
    kept = json.loads((tmp_path / "record.json").read_text())
    assert kept["step"] == {"peaks": {"float32": 1.0}} and "best_batch" not in kept


def test_unknown_parts_and_odd_batches_are_refused(tiny_config):
    with pytest.raises(InputError, match="--parts=stp: unknown; known are step, pipeline"):
        measure.run(tiny_config(), ("stp",))


def test_out_of_memory_is_one_line(monkeypatch, tiny_config):
    def full(*_):
        raise MemoryError("9 GiB")

    monkeypatch.setattr(training, "measure_step", full)
    with pytest.raises(InputError, match=r"out of memory at config.train.batch_size=4"):
        measure.run(tiny_config(), ("step",), 3)


def test_doubling_stops_where_memory_ends(monkeypatch, tiny_config):
    def step(config, repeats):
        del repeats
        if config.train.batch_size > 8:
            raise MemoryError("full")
        return {"batch_size": config.train.batch_size, "slices_per_second": 10.0 * config.train.batch_size}

    monkeypatch.setattr(training, "measure_step", step)
    assert [row["batch_size"] for row in training.measure_best_batch(tiny_config(), 3)] == [4, 8]


def test_a_place_for_the_record_is_asked_for_before_anything_is_measured(tmp_path, tiny_config):
    for output in (tmp_path, tmp_path / "absent" / "record.json"):
        with pytest.raises(InputError, match="expected a JSON file in a folder that is there"):
            benchmark.run(tiny_config(), (), 3, output, "a command")
