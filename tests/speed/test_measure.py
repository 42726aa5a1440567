"""Counted operations, ratios, records and the page made of them; never how long anything took."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.app import workflow
from dscgan_jax.configs import default
from dscgan_jax.data import layouts
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.models import blocks
from dscgan_jax.models import flops as counting
from dscgan_jax.speed import measure as benchmark
from dscgan_jax.speed import page as benchmark_page
from dscgan_jax.training import state

SECONDS = {"first": 2.0, "median": 0.5, "fastest": 0.4, "slowest": 0.6, "repeats": 3}


def tiny_config(**fields):
    config = default.get_config("demo")
    config.train.batch_size = 4  # one slice for each virtual device
    return benchmark.with_fields(
        config,
        **{
            "data.size": 32,
            "model.generator": "unet",
            "model.width": 2,
            "model.depth": 2,
            "model.discriminator_width": 2,
            **fields,
        },
    )


@pytest.fixture(scope="module", autouse=True)
def small_yardsticks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "matrix_side", lambda: 64)
        yield


@pytest.fixture(scope="module")
def record(small_yardsticks):
    """A step and the batches of a tiny config, really measured."""
    del small_yardsticks
    return benchmark.run(tiny_config(), ("step", "pipeline"), 3, "a command")


def versus(**changes):
    setting = {
        "size": 64,
        "frames": 80,
        "width": 16,
        "discriminator_width": 64,
        "depth": 6,
        "batch": 4,
        "compute": "float32",
        "torch_compile": False,
    }
    row = {
        "what": "step, tuned",
        "jax_seconds": 0.5,
        "torch_seconds": 1.0,
        "ratio": 2.0,
        "ratio_lowest": 1.5,
        "ratio_highest": 2.5,
        "jax_fraction_of_peak": 0.4,
        "torch_fraction_of_peak": 0.2,
    }
    hardware = {"backend": "cpu", "device": "a CPU", "cores": 2}
    return {
        "schema": benchmark_page.VERSUS,
        "command": "a command",
        "hardware": hardware,
        "versions": {"jax": "0"},
        "torch": {"torch": "2", "threads": 2, "chosen": {"step_tuned": "contiguous"}},
        "load_before": 0.0,
        "load_after": 0.0,
        "setting": setting,
        "comparisons": [row],
        "peaks": {"float32": {"jax": 1e11, "torch": 1e11}},
        "largest_difference": 1e-6,
        **changes,
    }


# --- Counting ------------------------------------------------------------------------------------------------------


def test_a_training_slice_of_the_papers_setting_counts_three_tera():
    counted = counting.counted_flops(default.get_config().model, 80, 128, 1)
    assert counted.training == pytest.approx(3.07e12, rel=0.005)
    assert counted.training_published / counted.training == pytest.approx(1.66, abs=0.01)


def test_positions_are_those_of_the_published_tables():
    model = default.get_config().model
    stack, image = counting.generator_layers(model, 80, 128, 1)
    assert [layer.positions // 128**2 for layer in stack] == [40, 20, 10, 5, 2, 1]
    assert [layer.positions for layer in image] == [side**2 for side in (64, 32, 16, 8, 4, 2, 2, 4, 8, 16, 32, 64)]
    assert [layer.positions for layer in counting.discriminator_layers(model, 80, 128, 1)] == [
        64**2,
        32**2,
        31**2,
        30**2,
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model.generator": "unet"},
        {"model.upsample": "resize"},
        {"model.depth": 3},
        {"model.discriminator_layers": 3},
        {"model.discriminator": "whole"},
    ],
)
def test_each_counted_layer_is_a_kernel_of_the_network(fields):
    model = benchmark.with_fields(
        default.get_config(), **{"model.width": 4, "model.discriminator_width": 4, **fields}
    ).model
    networks = jax.eval_shape(lambda: state.build(model, 80, 5, None)[1:])
    generator, discriminator = (variables["params"] for variables in networks)
    stack, image = counting.generator_layers(model, 80, 128, 5)
    counted = {("temporal", layer.name): layer for layer in stack} | {("unet", layer.name): layer for layer in image}
    counted |= {(layer.name,): layer for layer in counting.discriminator_layers(model, 80, 128, 5)}
    kernels = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path([generator, discriminator]):
        names = [entry.key for entry in path[1:]]
        if names[-1] == "kernel":
            kernels[tuple(name for name in names[:-1] if name != "conv")] = leaf.shape
    assert set(kernels) == set(counted)
    for path, shape in kernels.items():
        layer = counted[path]
        assert (np.prod(shape[:-2]), *shape[-2:]) == (layer.taps, layer.n_in, layer.n_out), path


@pytest.mark.parametrize("upsample", [False, True])
def test_a_layer_counts_what_xla_counts(upsample):
    common = {"bias": False, "scheme": "pix2pix", "rng": np.random.default_rng(0)}
    layer = (
        blocks.TransposedConv(8, 16, **common)
        if upsample
        else blocks.Conv(8, 16, size=4, stride=2, padding=1, **common)
    )
    side = 64 if upsample else 128  # on the side with fewer pixels, all 16 taps meet each of 64 x 64
    analysis = jax.jit(lambda x: layer(x)).lower(jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)).cost_analysis()
    assert counting.Layer("layer", 16, 8, 16, 64**2).flops == pytest.approx(analysis["flops"], rel=0.05)


def test_padding_to_the_depth_counts():
    model = default.get_config().model
    assert counting.counted_flops(model, 80, 100, 1).generator == counting.counted_flops(model, 80, 128, 1).generator


def test_the_trace_of_a_loop_counts_as_often_as_it_runs():
    def work(x, y):
        return jax.lax.map(lambda row: row @ y, x).sum() + jax.lax.fori_loop(0, 5, lambda _, z: z @ y, x[0]).sum()

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((7, 3, 4), (4, 4))]
    assert counting.traced_flops(work, *shapes) == (7 + 5) * 2 * 3 * 4 * 4


def test_the_trace_of_a_convolution_and_its_gradients_counts_thrice():
    layer = blocks.Conv(8, 16, size=4, stride=2, padding=1, bias=False, scheme="pix2pix", rng=np.random.default_rng(0))

    def output(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=blocks.IMAGE)

    x, kernel = jax.ShapeDtypeStruct((1, 64, 64, 8), jnp.float32), layer.kernel[...]
    forward = counting.traced_flops(output, x, kernel)
    assert forward == counting.Layer("layer", 16, 8, 16, 32**2).flops
    both = counting.traced_flops(jax.grad(lambda x, kernel: jnp.square(output(x, kernel)).sum(), (0, 1)), x, kernel)
    assert both == pytest.approx(3 * forward, rel=0.1)


# --- Ratios --------------------------------------------------------------------------------------------------------


def test_ratio_is_of_medians_over_all_rounds():
    row = benchmark.ratios([[1.0, 1.0], [2.0, 1.0]], [[3.0, 3.0], [3.0, 9.0]])
    assert row["ratio"] == 3.0
    assert (row["ratio_lowest"], row["ratio_highest"]) == (3.0, 4.0)
    assert (row["jax_seconds"], row["torch_seconds"]) == (1.0, 3.0)


def test_a_side_that_could_not_run_leaves_no_ratio():
    assert benchmark.ratios([[1.0]], None) == {"jax_seconds": 1.0, "torch_seconds": None, "ratio": None}


def test_fractions_of_peak_leave_out_what_has_no_peak():
    assert benchmark.fractions_of_peak(50.0, {"float32": 100.0, "bfloat16": None}) == {"float32": 0.5, "bfloat16": None}


# --- A record ------------------------------------------------------------------------------------------------------


def test_a_record_says_where_what_and_how(record):
    assert record["schema"] == benchmark_page.BENCHMARK
    assert record["hardware"]["backend"] == "cpu" and record["hardware"]["cores"] >= 1
    assert record["versions"]["jax"] == jax.__version__
    assert record["command"] == "a command"
    assert record["config"]["size"] == 32
    assert json.loads(benchmark.to_text(record)) == record


def test_a_step_has_counts_rates_and_memory(record):
    step = record["step"]
    assert step["counted_flops"] == 4 * record["counted"]["training"]
    assert step["flops_per_second"] == pytest.approx(step["counted_flops"] / step["seconds"]["median"])
    assert step["fraction_of_peak"]["float32"] == pytest.approx(step["flops_per_second"] / record["peaks"]["float32"])
    assert 0.7 < step["counted_over_traced"] <= 1.01
    assert 0 < step["counted_over_xla"] < 2
    assert step["temporary_bytes"] > 0 and step["resident_peak_bytes"] > 0
    assert step["device_peak_bytes"] is None and record["peaks"]["bfloat16"] is None


def test_batches_come_from_everywhere(record):
    assert set(record["pipeline"]["slices_per_second"]) == {"device", "memory", "disk"}


def test_an_exam_is_predicted_deconvolved_and_cut(tmp_path):
    config = tiny_config()
    files = benchmark.draw_exam(config, tmp_path)
    exam = layouts.load_exam(files)
    assert exam.series.shape[:3] == (32, 32, benchmark.MORE_SLICES)
    assert benchmark.first_slices(exam, 6).maps["cbf"].shape == (32, 32, 6)
    measured = benchmark.measure_inference(config, exam, tmp_path, 1)
    assert {"one_map", "five_maps", "preparation"} < set(measured)
    assert set(measured["five_maps"]) == {"batch", "running"}
    assert benchmark.measure_deconvolution(exam, files, 1, ("csvd",))["methods"]["csvd"]["repeats"] == 1
    predictor, _ = benchmark.predictor_of(config, MAP_NAMES, tmp_path)
    assert predictor.predict(exam).scaled.shape == (benchmark.MORE_SLICES, 32, 32, 5)


def test_the_temporal_stack_is_measured_alone():
    config = tiny_config(**{"model.generator": "temporal", "model.unet_width": 2})
    measured = benchmark.measure_temporal_stack(config, 1)
    assert measured["counted_flops"] == 4 * benchmark.count(config).temporal
    assert measured["running"]["fraction_of_peak"]["float32"] > 0
    assert benchmark.measure_temporal_stack(tiny_config(), 1) is None


def test_growth_is_one_where_cost_is_linear():
    assert benchmark_page.growth([{"seconds_each": 0.1}, {"seconds_each": 0.2}, {"seconds_each": 0.1}]) == 1.0
    assert benchmark_page.growth([]) is None


# --- The page ------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_entry_absent_or_not(record):
    full, empty = dict(benchmark_page.rows_of(record)), dict(benchmark_page.rows_of({}))
    assert list(full) == list(empty)
    assert set(empty.values()) == {benchmark_page.ABSENT}
    assert full["step: median"] != benchmark_page.ABSENT
    assert full["matrix product, bfloat16"] == full["deconvolution, csvd: warm"] == benchmark_page.ABSENT


def test_a_terminal_shows_what_was_measured(record):
    text = benchmark_page.terminal(record)
    assert "step: median " in text and "batches, data set on disk" in text
    assert benchmark_page.ABSENT not in text


def test_the_page_holds_every_record_and_says_what_was_not_measured(record):
    page = benchmark_page.page([record, versus()])
    assert page.count("`a command`") == 2
    assert "| step, tuned | 0.5 s | 1 s | 2.00 x | 1.50 – 2.50 | 40 % | 20 % |" in page
    assert "| GPU: step at batch 4, of the bf16 matrix peak | ≥ 55 % | not measured | not measured |" in page
    assert "None" not in page and "nan" not in page


def test_without_records_nothing_counts_as_met():
    assert {row[2:] for row in benchmark_page.checklist([])} == {(benchmark_page.ABSENT, benchmark_page.ABSENT)}


def test_a_demand_is_met_or_not_by_its_own_setting():
    def tuned(record):
        return next(row for row in benchmark_page.checklist([record]) if row[0] == "CPU: step, over tuned PyTorch")

    assert tuned(versus())[2:] == ("2.00 x", "yes")
    slow = versus()
    slow["comparisons"][0]["ratio"] = 1.2
    assert tuned(slow)[2:] == ("1.20 x", "**no**")
    other = versus()
    other["setting"]["width"] = 32
    assert tuned(other)[3] == benchmark_page.ABSENT


def test_a_side_that_failed_is_not_measured_on_the_page():
    record = versus(comparisons=[{"what": "step, tuned", **benchmark.ratios([[1.0]], None)}])
    assert benchmark_page.versus_rows(record) == [("step, tuned", "1 s", *[benchmark_page.ABSENT] * 5)]


def test_other_files_of_the_folder_are_passed_over(tmp_path):
    for name, content in (("a.json", {"benchmark": "data"}), ("b.json", [1]), ("c.json", versus())):
        (tmp_path / name).write_text(json.dumps(content))
    assert [record["schema"] for record in benchmark_page.read(sorted(tmp_path.iterdir()))] == [benchmark_page.VERSUS]


# --- The mode ------------------------------------------------------------------------------------------------------


def test_unknown_parts_and_odd_batches_are_refused():
    with pytest.raises(InputError, match="--parts=stp: unknown; known are step, pipeline"):
        benchmark.run(tiny_config(), ("stp",))


def test_out_of_memory_is_one_line(monkeypatch):
    def full(*_):
        raise MemoryError("9 GiB")

    monkeypatch.setattr(benchmark, "measure_step", full)
    with pytest.raises(InputError, match="out of memory at config.train.batch_size=4"):
        benchmark.run(tiny_config(), ("step",), 3)


def test_doubling_stops_where_memory_ends(monkeypatch):
    def step(config, repeats):
        del repeats
        if config.train.batch_size > 8:
            raise MemoryError("full")
        return {"batch_size": config.train.batch_size, "slices_per_second": 10.0 * config.train.batch_size}

    monkeypatch.setattr(benchmark, "measure_step", step)
    assert [row["batch_size"] for row in benchmark.measure_best_batch(tiny_config(), 3)] == [4, 8]


def test_a_place_for_the_record_is_asked_for_before_anything_is_measured(tmp_path):
    for output in (tmp_path, tmp_path / "absent" / "record.json"):
        with pytest.raises(InputError, match="expected a JSON file in a folder that is there"):
            workflow.measure_speed(tiny_config(), (), 3, output, "a command")
