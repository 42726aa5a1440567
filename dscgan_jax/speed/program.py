"""The record of compiled GPU programs (`benchmarks/gpu_program.py`) -> its section of the page, with its targets."""

from typing import Any

from dscgan_jax.speed import words
from dscgan_jax.speed.records import Record, entry
from dscgan_jax.speed.targets import Row, at_most
from dscgan_jax.speed.words import ABSENT, NORM_WORDS, Form, gibibytes, n_bytes, times

NOT_COMPILED = "not compiled"
KIND_WORDS = {
    "fusion": "fusions",
    "matrix product": "matrix products",
    "convolution": "convolutions",
    "copy": "copies",
    "collective": "messages",
    "Pallas kernel": "Pallas kernels",
}
HEAD = (
    "work",
    "GPUs",
    "slices on each",
    "type",
    "lean",
    "bytes moved",
    "temporary memory",
    "matrix operations",
    "kernels",
    "messages between GPUs",
)
TARGETS_HEAD = ("compiled program", "target", "is", "met")
HOW_TO_READ = """\
**A compiled program, not a measured time.** XLA compiled these programs ahead of time from a description of the chip;
none has run, and no time or share of a peak follows from them. *Bytes moved* add up the operands and results of every
kernel on one GPU, of slices what they touch, loops as often as they run; what stays in a cache counts too. What a
library moves within a call (cuDNN's layouts and workspaces, split sums) is in no number, nor are its algorithms chosen
where there is no device. *Temporary memory* is what XLA plans beside arguments and results. *Matrix operations* are
those of all matrix products and convolutions, a multiplication and an addition counted as two. Triton's matrix products
are off where there is no device, so all products are the library's. The record names the largest arrays of each
program, with the lines that make them.
"""

TRAIN = {"what": "train", "batch": 4, "devices": 1}
PREDICT = {"what": "predict", "batch": 8, "devices": 1, "norm": "per_slice"}
GPUS = {"what": "train", "batch": 4, "devices": 8, "lean": False}


def section(record: Record) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Two tables, each a head and rows: what should be, and what is."""
    return [(TARGETS_HEAD, [*checklist(record["rows"])]), (HEAD, [row_words(row) for row in record["rows"]])]


def title(record: Record) -> str:
    """What was compiled, for which chip."""
    config = record["config"]
    return (
        f"A compiled program, not a measured time: {record['chip']['name']}, {config['size']} x {config['size']} x "
        f"{config['frames']}, width {config['model']['width']}"
    )


def origin(record: Record) -> str:
    """How the record was made."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return f"`{record['command']}`; {versions}.\n"


def row_words(row: Record) -> tuple[str, ...]:
    """A row of the table of programs."""
    norm = row["norm"]
    return (
        f"{row['what']}, {NORM_WORDS[norm]}" if norm else row["what"],
        str(row["devices"]),
        str(row["batch"]),
        row["compute"],
        "–" if norm else "yes" if row["lean"] else "no",
        n_bytes(row["moved_bytes"]),
        gibibytes(row["memory"]["temporary_bytes"]),
        words.flops(row["matrix_flops"]) + (" beside those of Pallas kernels" if _has_pallas(row) else ""),
        ", ".join(f"{kind['launches']} {KIND_WORDS.get(kind['kind'], kind['kind'])}" for kind in row["kernels"]),
        ", ".join(_message(one) for one in row["collectives"]) or "–",
    )


def _has_pallas(row: Record) -> bool:
    """Whether there are kernels whose operations are not in the program's text."""
    return any(kind["kind"] == "Pallas kernel" for kind in row["kernels"])


def _message(one: Record) -> str:
    return f"{one['number']} {one['operation']} {one['dtype']} ({n_bytes(one['nbytes'])})"


def checklist(rows: list[Record]) -> list[Row]:
    """What these programs should be; of rows that are not in the record, that they were not compiled."""
    found = [
        *(
            one
            for compute, most in (("bfloat16", (50e9, 4.0)), ("float32", (100e9, 6.0)))
            for one in _step(rows, compute, *most)
        ),
        _at_most("… lean over not lean, float32: temporary memory", 0.6, _lean_ratio(rows), times),
        _at_most(
            "predict, 8 slices, each slice's statistics, bfloat16: bytes moved",
            30e9,
            _find(rows, "moved_bytes", PREDICT, compute="bfloat16"),
            n_bytes,
        ),
        _types(rows),
        _at_most("… temporary memory beyond that of one", 0.5 * 2**30, _growth(rows), gibibytes),
    ]
    return found


def _step(rows: list[Record], compute: str, most_bytes: float, most_gibibytes: float) -> list[Row]:
    step = f"training step, 4 slices, {compute}"
    moved = _find(rows, "moved_bytes", TRAIN, compute=compute, lean=False)
    memory = _temporary(rows, TRAIN, compute=compute, lean=False)
    return [
        _at_most(f"{step}: bytes moved", most_bytes, moved, n_bytes),
        _at_most("… temporary memory", most_gibibytes * 2**30, memory, gibibytes),
    ]


def _lean_ratio(rows: list[Record]) -> float | None:
    lean, full = (_temporary(rows, TRAIN, compute="float32", lean=lean) for lean in (True, False))
    return lean / full if lean and full else None


def _growth(rows: list[Record]) -> float | None:
    """Temporary bytes of each of eight devices beyond those of one, with as many slices on each."""
    many, one = (_temporary(rows, which, compute="bfloat16", lean=False) for which in (GPUS, TRAIN))
    return many - one if many and one else None


def _types(rows: list[Record]) -> Row:
    """Types in which eight devices add up: counters, which are whole numbers, aside."""
    sent = _find(rows, "collectives", GPUS, compute="bfloat16") or []
    types = sorted({one["dtype"] for one in sent if one["operation"] == "all-reduce" and "f" in one["dtype"]})
    what = "training step on 8 GPUs, bfloat16: types of all-reduces"
    if not types:
        return what, "f32", NOT_COMPILED, NOT_COMPILED
    return what, "f32", ", ".join(types), "yes" if types == ["f32"] else "**no**"


def _temporary(rows: list[Record], which: Record, **more: Any) -> float | None:
    return _find(rows, "memory.temporary_bytes", which, **more)


def _find(rows: list[Record], path: str, which: Record, **more: Any) -> Any:
    """An entry of the row with these fields; None where there is none."""
    fits = [row for row in rows if all(row[name] == value for name, value in (which | more).items())]
    return entry(fits[-1], path) if fits else None


def _at_most(what: str, target: float, value: float | None, form: Form) -> Row:
    """A row in which nothing was measured, only compiled."""
    named, most, is_now, met = at_most(what, target, value, form)
    return named, most, is_now.replace(ABSENT, NOT_COMPILED), met.replace(ABSENT, NOT_COMPILED)
