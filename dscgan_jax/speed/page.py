"""Benchmark records (`benchmark`, `benchmarks/versus_torch.py`) -> tables, one record or a whole page.

python -m dscgan_jax.benchmark_page docs/benchmarks/*.json > docs/benchmarks.md
"""

import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Record = dict[str, Any]
Rows = list[tuple[str, str]]

BENCHMARK, VERSUS = "dscgan_jax benchmark 1", "dscgan_jax versus torch 1"  # what `schema` may be
ABSENT = "not measured"
PLACE_WORDS = {"device": "on the device", "memory": "in memory", "disk": "on disk (in the page cache)"}
NORM_WORDS = {"batch": "each slice's statistics", "running": "running statistics"}

INTRODUCTION = """\
# Benchmarks

How fast training and prediction are. One command makes this page from the records in [benchmarks/](benchmarks/):
`python -m dscgan_jax.benchmark_page docs/benchmarks/*.json > docs/benchmarks.md`; each section names the command that
made its record. What was not measured says so; nothing is estimated.
"""

HOW_TO_READ = """\
## How to read the tables

- **Seconds** are medians of repeats after warm-up, with the device waited for each time. Ratios are ratios of medians
from
  one run in which the sides take turns, block by block, each in a process of its own.
- **Counted operations** are a multiplication and an addition of each kernel weight at each position, for what training
  needs: forward and backward through the generator once (without the gradient of the series), and the discriminator's
    three
  passes. Norms, activations, losses and Adam are left out. For the paper's setting (128 x 128 x 80, width 128,
  discriminator 64, one map) a training slice counts 3.063 TFLOP: 1.0143 forward through the temporal stack and 0.0023
  through the U-Net, both three times, and 0.014 in the discriminator.
- **The traced program's** operations are those of all matrix products and convolutions in the step that runs, loops as
  often as they run: what the implementation does beyond need (computing again instead of remembering, the windows at an
  image's rim) is in it. **XLA's own count** is that of its cost analysis before compilation: elementwise work is in it,
  but a loop's body counts once, so it is too low for a step that works in tiles.
- **Matrix peak** is a large square matrix product of random values, timed in turns with the work that it is compared
to, at
  the default precision of the backend (for float32 on recent GPUs that is TF32). **Bandwidth** is `a + s b` on long
  vectors, bytes read and written, likewise.
- **XLA's bytes** add up what each fused operation reads and writes, a loop's body once. What stays in a cache counts
too. - **The PyTorch twin** (`benchmarks/torch_twin.py`) computes what was published, checked against recorded numbers
of the
  published code. *Published* is the released form of the step: float32, the fake not detached, so that the
    discriminator's
  loss goes back through the generator in vain. *Tuned* is what PyTorch can do: detached, frozen, fused Adam, the memory
    layout
  that is fastest, on a GPU with bf16 autocast and `torch.compile`, on a CPU eager; a second record tells what compiling
  adds. On a CPU our side keeps freed memory, as every run of it does; PyTorch runs with the allocator it comes with.
  All forms count as the same work, so their fractions of the peak compare; the published form really executes 1.7 times
  as much.
"""


# --- Words for numbers ---------------------------------------------------------------------------------------------


def at(record: Any, path: str) -> Any:
    """A value deep in a record, `step.seconds.median`; None where anything on the way is absent."""
    for name in path.split("."):
        if isinstance(record, list) and name.isdigit():
            record = record[int(name)] if int(name) < len(record) else None
        elif isinstance(record, dict):
            record = record.get(name)
        else:
            return None
    return record


def said(value: float | None, how: Callable[[float], str]) -> str:
    return ABSENT if value is None else how(value)


def seconds(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} s"
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def times(value: float) -> str:
    return f"{value:.2f} x" if value < 10 else f"{value:,.0f} x"


def rate_of(unit: str) -> Callable[[float], str]:
    """12.3 GFLOP/s from operations or bytes a second."""

    def word(value: float) -> str:
        for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if value >= factor:
                return f"{value / factor:.3g} {letter}{unit}"
        return f"{value:.3g} {unit}"

    return word


def mebibytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB"


def slices(value: float) -> str:
    return f"{value:,.0f} slices/s" if value >= 100 else f"{value:.3g} slices/s"


# --- One record ----------------------------------------------------------------------------------------------------


def rows_of(record: Record) -> Rows:
    """What a record of `benchmark` says, as (what, value); a row for each entry, absent ones too."""

    def row(what: str, path: str, how: Callable[[float], str]) -> tuple[str, str]:
        return what, said(at(record, path), how)

    flops, of_bytes = rate_of("FLOP/s"), rate_of("B/s")
    rows = [
        row("matrix product, float32", "peaks.float32", flops),
        row("matrix product, bfloat16", "peaks.bfloat16", flops),
        row("memory bandwidth", "peaks.bandwidth", of_bytes),
        row("step: compilation", "step.compile_seconds", seconds),
        row("step: median", "step.seconds.median", seconds),
        row("step: rate", "step.slices_per_second", slices),
        row("step: counted operations of a slice", "counted.training", rate_of("FLOP")),
        row("step: counted over the traced program's", "step.counted_over_traced", lambda value: f"{value:.2f}"),
        row("step: counted over XLA's own count", "step.counted_over_xla", lambda value: f"{value:.2f}"),
        row("step: model operations", "step.flops_per_second", flops),
        row("step: of the float32 matrix peak", "step.fraction_of_peak.float32", percent),
        row("step: of the bfloat16 matrix peak", "step.fraction_of_peak.bfloat16", percent),
        row("step: XLA's bytes", "step.xla_bytes", rate_of("B")),
        row("step: of the memory bandwidth", "step.fraction_of_bandwidth", percent),
        row("step: temporary memory", "step.temporary_bytes", mebibytes),
        row("step: peak memory of the device", "step.device_peak_bytes", mebibytes),
        row("step: peak memory of the process", "step.resident_peak_bytes", mebibytes),
        row("100 epochs of 142 x 21 slices", "step.minutes_of_paper", lambda value: f"{value:,.1f} min"),
        *best_batch_rows(record.get("best_batch")),
    ]
    consumption = at(record, "step.slices_per_second")
    for place, words in PLACE_WORDS.items():
        rate = at(record, f"pipeline.slices_per_second.{place}")
        over = f", {times(rate / consumption)} consumption" if rate and consumption else ""
        rows.append((f"batches, data set {words}", said(rate, slices) + over))
    for kind, words in (("one_map", "one map"), ("five_maps", "five maps")):
        for norm, norm_words in NORM_WORDS.items():
            rows += [
                row(
                    f"exam of {at(record, 'inference.slices') or 21} slices, {words}, {norm_words}: {word}",
                    f"inference.{kind}.{norm}.{entry}",
                    seconds,
                )
                for entry, word in (("first", "cold"), ("median", "warm"))
            ]
    rows += [
        row("… of which preparation on the host", "inference.preparation.median", seconds),
        row("predict, start to files: no compiled programs yet", "start_to_files.first", seconds),
        row("predict, start to files: again", "start_to_files.again", seconds),
    ]
    rows += [
        row(
            f"temporal stack, {words}: of the float32 matrix peak",
            f"temporal_stack.{norm}.fraction_of_peak.float32",
            percent,
        )
        for norm, words in NORM_WORDS.items()
    ]
    for method in ("csvd", "osvd", "parametric"):
        rows += [
            row(f"deconvolution, {method}: {word}", f"deconvolution.methods.{method}.{entry}", seconds)
            for entry, word in (("first", "cold"), ("median", "warm"))
        ]
    return rows


def best_batch_rows(steps: list[Record] | None) -> Rows:
    """Rates of doubled batches."""
    if not steps:
        return [("best batch", ABSENT)]
    best = max(steps, key=lambda step: step["slices_per_second"])
    fraction = best["fraction_of_peak"]["bfloat16"] or best["fraction_of_peak"]["float32"]
    tried = ", ".join(f"{step['batch_size']}: {slices(step['slices_per_second'])}" for step in steps)
    return [
        (
            "best batch",
            f"{best['batch_size']}: {slices(best['slices_per_second'])}, {percent(fraction)} of the matrix peak, "
            f"{best['minutes_of_paper']:,.1f} min for 100 epochs of 142 x 21 slices (tried {tried})",
        )
    ]


def linear_rows(record: Record) -> list[tuple[str, ...]]:
    """(what, and at three sizes each: size and seconds, then how far from linear); one row for each quantity."""
    rows = []
    for what, words in (
        ("slices", "slices of an exam, predict"),
        ("frames", "frames, training step"),
        ("subjects", "exams, prepare"),
    ):
        measured = at(record, f"linear.{what}") or []
        cells = [f"{row['n']}: {seconds(row['seconds'])}" for row in measured] or [ABSENT] * 3
        rows.append((words, *cells, said(growth(measured), times)))
    return rows


def growth(measured: Sequence[Record]) -> float | None:
    """Seconds per unit at the largest size over those at the smallest: 1 is linear, less is better."""
    if len(measured) < 2:
        return None
    return measured[-1]["seconds_each"] / measured[0]["seconds_each"]


def versus_rows(record: Record) -> list[tuple[str, ...]]:
    """(work, ours, theirs, ratio, lowest and highest ratio of a round, our fraction of our peak, theirs of theirs)."""
    rows = []
    for entry in record["comparisons"]:
        low, high = (said(entry.get(f"ratio_{end}"), lambda value: f"{value:.2f}") for end in ("lowest", "highest"))
        rows.append(
            (
                entry["what"],
                said(entry.get("jax_seconds"), seconds),
                said(entry.get("torch_seconds"), seconds),
                said(entry.get("ratio"), times),
                f"{low} – {high}" if entry.get("ratio") else ABSENT,
                said(entry.get("jax_fraction_of_peak"), percent),
                said(entry.get("torch_fraction_of_peak"), percent),
            )
        )
    return rows


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def aligned(rows: Rows) -> str:
    """Pairs as two columns."""
    width = max(len(what) for what, _ in rows)
    return "".join(f"{what:<{width}}  {value}\n" for what, value in rows)


def terminal(record: Record) -> str:
    """What was measured, for a terminal."""
    grown = [
        (
            f"linear cost: {what}",
            ABSENT if ratio == ABSENT else f"{', '.join(cells)}; per unit, largest over smallest: {ratio}",
        )
        for what, *cells, ratio in linear_rows(record)
    ]
    return title_of(record) + "\n" + aligned([row for row in [*rows_of(record), *grown] if row[1] != ABSENT])


def title_of(record: Record) -> str:
    """Device and sizes in one line."""
    hardware, setting = record["hardware"], setting_of(record)
    many = f"{hardware['devices']} x " if hardware.get("devices", 1) > 1 else ""
    cores = f", {hardware['cores']} cores" if hardware["backend"] == "cpu" else ""
    compiled = ", torch.compile" if setting.get("torch_compile") else ""
    return (
        f"{many}{hardware['device']}{cores}: {setting['size']} x {setting['size']} x {setting['frames']}, "
        f"width {setting['width']}, batch {setting['batch']}, {setting['compute']}{compiled}"
    )


def setting_of(record: Record) -> Record:
    """Sizes of either kind of record."""
    if record["schema"] == VERSUS:
        return record["setting"]
    config = record["config"]
    return {
        "size": config["size"],
        "frames": config["frames"],
        "width": config["model"]["width"],
        "batch": config["train"]["batch_size"],
        "compute": config["model"]["compute"],
    }


# --- What was asked for --------------------------------------------------------------------------------------------


def checklist(records: Sequence[Record]) -> list[tuple[str, str, str, str]]:
    """(demand, asked, measured, met); of several records that fit, the last counts."""

    def find(schema: str, backend: str, path: str, **setting: Any) -> Any:
        fits = [
            record
            for record in records
            if record["schema"] == schema
            and record["hardware"]["backend"] == backend
            and at(record, path) is not None
            and all(setting_of(record).get(name) == value for name, value in setting.items())
        ]
        return at(fits[-1], path) if fits else None

    def versus(backend: str, what: str, field: str, **setting: Any) -> Any:
        entries = find(VERSUS, backend, "comparisons", **setting) or []
        return next((entry.get(field) for entry in entries if entry["what"] == what), None)

    small = {"size": 64, "frames": 80, "width": 16, "batch": 4, "compute": "float32"}
    paper = {"size": 128, "frames": 80, "width": 128, "compute": "bfloat16"}
    wide = {"size": 128, "width": 16, "compute": "float32"}
    eager, compiled = {**small, "torch_compile": False}, {**small, "torch_compile": True}
    inference = "inference, running statistics"
    rows = [
        at_least("CPU: step, over the published form", 3.0, versus("cpu", "step, published", "ratio", **eager), times),
        at_least("CPU: step, over tuned PyTorch", 1.5, versus("cpu", "step, tuned", "ratio", **eager), times),
        reported("CPU: … with torch.compile", versus("cpu", "step, tuned", "ratio", **compiled), times),
        at_least("CPU: inference, over tuned PyTorch", 2.5, versus("cpu", inference, "ratio", **eager), times),
        reported("CPU: … with torch.compile", versus("cpu", inference, "ratio", **compiled), times),
        at_most(
            "CPU: … same output, largest difference",
            1e-4,
            find(VERSUS, "cpu", "largest_difference", **small),
            lambda value: f"{value:.0e}",
        ),
    ]
    for norm, words in NORM_WORDS.items():
        rows.append(
            at_most(
                f"CPU: five maps of 21 slices of 128 x 128, width 16, warm, {words}",
                5.0,
                find(BENCHMARK, "cpu", f"inference.five_maps.{norm}.median", **wide),
                seconds,
            )
        )
    rows.append(
        at_most(
            "CPU: … predict from start to files", 20.0, find(BENCHMARK, "cpu", "start_to_files.again", **wide), seconds
        )
    )
    for norm, words in NORM_WORDS.items():
        rows.append(
            at_least(
                f"CPU: … temporal stack, of the matrix rate, {words}",
                0.80,
                find(BENCHMARK, "cpu", f"temporal_stack.{norm}.fraction_of_peak.float32", **wide),
                percent,
            )
        )
    batches = find(BENCHMARK, "gpu", "best_batch", **paper) or []
    best = max((step["fraction_of_peak"]["bfloat16"] for step in batches), default=None)
    rows += [
        at_least(
            "GPU: step at batch 4, of the bf16 matrix peak",
            0.55,
            find(BENCHMARK, "gpu", "step.fraction_of_peak.bfloat16", **paper, batch=4),
            percent,
        ),
        at_least("GPU: … at the best batch", 0.55, best, percent),
        at_least("GPU: step, over tuned PyTorch", 2.0, versus("gpu", "step, tuned", "ratio", **paper, batch=4), times),
        at_least(
            "GPU: step, over the published form",
            8.0,
            versus("gpu", "step, published", "ratio", **paper, batch=4),
            times,
        ),
    ]
    for norm, words in NORM_WORDS.items():
        rows.append(
            at_most(
                f"GPU: five maps of 21 slices, warm, {words}",
                0.25,
                find(BENCHMARK, "gpu", f"inference.five_maps.{norm}.median", **paper),
                seconds,
            )
        )
    minutes = find(BENCHMARK, "gpu", "step.minutes_of_paper", **paper, batch=4)
    rows.append(reported("GPU: 100 epochs of 142 x 21 slices at batch 4", minutes, lambda value: f"{value:,.1f} min"))
    for backend, setting in (("cpu", small), ("gpu", {**paper, "batch": 4})):
        used = find(BENCHMARK, backend, "step.slices_per_second", **setting)
        for place, words in PLACE_WORDS.items():
            rate = find(BENCHMARK, backend, f"pipeline.slices_per_second.{place}", **setting)
            rows.append(
                at_least(
                    f"{backend.upper()}: batches over consumption, data set {words}",
                    3.0,
                    rate / used if rate and used else None,
                    times,
                )
            )
    for what, words in (
        ("slices", "per slice, 24 over 8 slices"),
        ("frames", "per frame, 127 over 64 frames"),
        ("subjects", "per exam to prepare, 4 over 1 exams"),
    ):
        for backend in ("cpu", "gpu"):
            measured = find(BENCHMARK, backend, f"linear.{what}")
            rows.append(at_most(f"{backend.upper()}: cost {words}", 1.2, growth(measured) if measured else None, times))
    return rows


def reported(demand: str, measured: float | None, how: Callable[[float], str]) -> tuple[str, str, str, str]:
    return demand, "reported", said(measured, how), ABSENT if measured is None else "–"


def at_least(
    demand: str, asked: float, measured: float | None, how: Callable[[float], str]
) -> tuple[str, str, str, str]:
    met = ABSENT if measured is None else "yes" if measured >= asked else "**no**"
    return demand, f"≥ {how(asked)}", said(measured, how), met


def at_most(
    demand: str, asked: float, measured: float | None, how: Callable[[float], str]
) -> tuple[str, str, str, str]:
    met = ABSENT if measured is None else "yes" if measured <= asked else "**no**"
    return demand, f"≤ {how(asked)}", said(measured, how), met


# --- The page ------------------------------------------------------------------------------------------------------


def page(records: Sequence[Record]) -> str:
    """The whole page from records of both kinds."""
    parts = [
        INTRODUCTION,
        "## What was asked for\n",
        table(("demand", "asked", "measured", "met"), checklist(records)),
        HOW_TO_READ,
    ]
    for record in records:
        parts += [f"## {'Against PyTorch: ' if record['schema'] == VERSUS else ''}{title_of(record)}\n", origin(record)]
        if record["schema"] == VERSUS:
            parts += [
                versus_words(record),
                table(
                    (
                        "work",
                        "dscgan_jax",
                        "PyTorch",
                        "ratio",
                        "ratio of each round",
                        "of our peak",
                        "of PyTorch's peak",
                    ),
                    versus_rows(record),
                ),
            ]
        else:
            parts += [
                table(("what", "measured"), rows_of(record)),
                table(("cost at three sizes", "", "", "", "per unit, largest over smallest"), linear_rows(record)),
            ]
    return "\n".join(parts)


def origin(record: Record) -> str:
    """How a record came about."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return (
        f"`{record['command']}`; {versions}; load {record['load_before']:.1f} before and {record['load_after']:.1f} "
        "after "
        f"on {record['hardware']['cores']} cores.\n"
    )


def versus_words(record: Record) -> str:
    """What each side was."""
    chosen = "; ".join(f"{what}: {variant}" for what, variant in record["torch"]["chosen"].items())
    peaks = "; ".join(
        f"{kind}: {said(rate['jax'], rate_of('FLOP/s'))} here, {said(rate['torch'], rate_of('FLOP/s'))} in PyTorch"
        for kind, rate in record["peaks"].items()
    )
    return (
        f"Matrix products, {peaks}. PyTorch {record['torch']['torch']} with {record['torch']['threads']} threads "
        "chose: "
        f"{chosen}. Same weights, same series: the largest difference of the maps is "
        f"{said(record.get('largest_difference'), lambda value: f'{value:.0e}')}.\n"
    )


def read(paths: Iterable[str | pathlib.Path]) -> list[Record]:
    """The records among JSON files; other files of a folder are passed over."""
    contents = [json.loads(pathlib.Path(path).read_text(encoding="utf-8")) for path in paths]
    return [
        content for content in contents if isinstance(content, dict) and content.get("schema") in (BENCHMARK, VERSUS)
    ]


if __name__ == "__main__":
    sys.stdout.write(page(read(sys.argv[1:])))
