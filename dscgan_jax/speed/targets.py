"""What the speed should be, and whether records show that it is."""

from collections.abc import Sequence
from typing import Any

from dscgan_jax.speed.records import BENCHMARK, VERSUS, Record, entry, setting_of
from dscgan_jax.speed.words import (
    ABSENT,
    NORM_WORDS,
    PLACE_WORDS,
    Form,
    minutes,
    or_absent,
    percent,
    power_of_ten,
    seconds,
    times,
)

Row = tuple[str, str, str, str]  # what, its target, what was measured, whether it is met

SMALL = {"size": 64, "frames": 80, "width": 16, "batch": 4, "compute": "float32"}
WIDE = {"size": 128, "width": 16, "compute": "float32"}
PAPER = {"size": 128, "frames": 80, "width": 128, "compute": "bfloat16"}  # of the paper, at any batch size
PAPER_STEP = {**PAPER, "batch": 4}
TUNED, PUBLISHED, INFERENCE = "step, tuned", "step, published", "inference, running statistics"
GROWTH_WORDS = {
    "slices": "per slice, 24 over 8 slices",
    "frames": "per frame, 127 over 64 frames",
    "subjects": "per exam to prepare, 4 over 1 exams",
}


def checklist(records: Sequence[Record]) -> list[Row]:
    """All targets; of several records that fit one, the last counts."""
    return [*_on_cpu(records), *_on_gpu(records), *_batches(records), *_growth(records)]


def growth(measured: Sequence[Record]) -> float | None:
    """Seconds per unit at the largest size over those at the smallest: 1 is linear, less is better."""
    if len(measured) < 2:
        return None
    return measured[-1]["seconds_each"] / measured[0]["seconds_each"]


def _on_cpu(records: Sequence[Record]) -> list[Row]:
    eager, compiled = {**SMALL, "torch_compile": False}, {**SMALL, "torch_compile": True}

    def ratio(what: str, setting: Record) -> float | None:
        return _versus(records, "cpu", what, "ratio", setting)

    difference = _find(records, VERSUS, "cpu", "largest_difference", SMALL)
    rows = [
        at_least("CPU: step, over the published form", 3.0, ratio(PUBLISHED, eager), times),
        at_least("CPU: step, over tuned PyTorch", 1.5, ratio(TUNED, eager), times),
        _reported("CPU: … with torch.compile", ratio(TUNED, compiled), times),
        at_least("CPU: inference, over tuned PyTorch", 2.5, ratio(INFERENCE, eager), times),
        _reported("CPU: … with torch.compile", ratio(INFERENCE, compiled), times),
        at_most("CPU: … same output, largest difference", 1e-4, difference, power_of_ten),
    ]
    for norm, words in NORM_WORDS.items():
        what = f"CPU: five maps of 21 slices of 128 x 128, width 16, warm, {words}"
        measured = _find(records, BENCHMARK, "cpu", f"inference.five_maps.{norm}.median", WIDE)
        rows.append(at_most(what, 5.0, measured, seconds))
    start = _find(records, BENCHMARK, "cpu", "start_to_files.again", WIDE)
    rows.append(at_most("CPU: … predict from start to files", 20.0, start, seconds))
    for norm, words in NORM_WORDS.items():
        what = f"CPU: … temporal stack, of the matrix rate, {words}"
        measured = _find(records, BENCHMARK, "cpu", f"temporal_stack.{norm}.fraction_of_peak.float32", WIDE)
        rows.append(at_least(what, 0.80, measured, percent))
    return rows


def _on_gpu(records: Sequence[Record]) -> list[Row]:
    def found(path: str, setting: Record) -> Any:
        return _find(records, BENCHMARK, "gpu", path, setting)

    def ratio(what: str) -> float | None:
        return _versus(records, "gpu", what, "ratio", PAPER_STEP)

    sizes = found("best_batch", PAPER) or []
    best = max((step["fraction_of_peak"]["bfloat16"] for step in sizes), default=None)
    fraction = found("step.fraction_of_peak.bfloat16", PAPER_STEP)
    rows = [
        at_least("GPU: step at batch 4, of the bf16 matrix peak", 0.55, fraction, percent),
        at_least("GPU: … at the best batch", 0.55, best, percent),
        at_least("GPU: step, over tuned PyTorch", 2.0, ratio(TUNED), times),
        at_least("GPU: step, over the published form", 8.0, ratio(PUBLISHED), times),
    ]
    for norm, words in NORM_WORDS.items():
        measured = found(f"inference.five_maps.{norm}.median", PAPER)
        rows.append(at_most(f"GPU: five maps of 21 slices, warm, {words}", 0.25, measured, seconds))
    training = found("step.minutes_of_paper", PAPER_STEP)
    return [*rows, _reported("GPU: 100 epochs of 142 x 21 slices at batch 4", training, minutes)]


def _batches(records: Sequence[Record]) -> list[Row]:
    """Batches against what the training step consumes."""
    rows = []
    for backend, setting in (("cpu", SMALL), ("gpu", PAPER_STEP)):
        used = _find(records, BENCHMARK, backend, "step.slices_per_second", setting)
        for place, words in PLACE_WORDS.items():
            rate = _find(records, BENCHMARK, backend, f"pipeline.slices_per_second.{place}", setting)
            what = f"{backend.upper()}: batches over consumption, data set {words}"
            rows.append(at_least(what, 3.0, rate / used if rate and used else None, times))
    return rows


def _growth(records: Sequence[Record]) -> list[Row]:
    """How far cost is from linear."""
    return [
        at_most(
            f"{backend.upper()}: cost {words}",
            1.2,
            growth(_find(records, BENCHMARK, backend, f"linear.{what}", {}) or []),
            times,
        )
        for what, words in GROWTH_WORDS.items()
        for backend in ("cpu", "gpu")
    ]


def _find(records: Sequence[Record], schema: str, backend: str, path: str, setting: Record) -> Any:
    """An entry of the last record of this kind, backend and setting that has it; None where there is none."""
    fits = [
        entry(record, path)
        for record in records
        if record["schema"] == schema
        and record["hardware"]["backend"] == backend
        and entry(record, path) is not None
        and all(setting_of(record).get(name) == value for name, value in setting.items())
    ]
    return fits[-1] if fits else None


def _versus(records: Sequence[Record], backend: str, what: str, field: str, setting: Record) -> float | None:
    """A field of one comparison with PyTorch."""
    compared = _find(records, VERSUS, backend, "comparisons", setting) or []
    return next((one.get(field) for one in compared if one["what"] == what), None)


def _reported(what: str, measured: float | None, form: Form) -> Row:
    return what, "reported", or_absent(measured, form), ABSENT if measured is None else "–"


def at_least(what: str, target: float, measured: float | None, form: Form) -> Row:
    """A row that is met from the target on."""
    return (
        what,
        f"≥ {form(target)}",
        or_absent(measured, form),
        _met(measured, measured is not None and measured >= target),
    )


def at_most(what: str, target: float, measured: float | None, form: Form) -> Row:
    """A row that is met up to the target."""
    return (
        what,
        f"≤ {form(target)}",
        or_absent(measured, form),
        _met(measured, measured is not None and measured <= target),
    )


def _met(measured: float | None, is_met: bool) -> str:
    return ABSENT if measured is None else "yes" if is_met else "**no**"
