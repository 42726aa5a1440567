"""How work is timed: cold and warm, beside another side, and beside yardsticks of the device.

A *yardstick* is a simple program near the limit of the device: a large matrix product, or a sum of long vectors.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dscgan_jax.speed.records import Record

Work = Callable[[], Any]

MATRIX_KINDS = ("float32", "bfloat16")


def seconds_of(work: Work) -> float:
    """Seconds of one call; whatever it returns is waited for."""
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def timed(work: Work, repeats: int) -> Record:
    """The first call, then the median and the extremes of the repeats, s."""
    first = seconds_of(work)
    return {"first": first, **spread([seconds_of(work) for _ in range(repeats)])}


def spread(seconds: list[float]) -> Record:
    """Median and extremes."""
    return {
        "median": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "repeats": len(seconds),
    }


def ratios(ours: list[list[float]] | None, theirs: list[list[float]] | None) -> dict[str, float | None]:
    """Medians of two sides that took turns, their ratio and the extremes of single rounds, from seconds by rounds.

    A ratio above 1 says that ours is faster. A side that could not run is None.
    """
    medians = [statistics.median(itertools.chain(*rounds)) if rounds else None for rounds in (ours, theirs)]
    row = {"jax_seconds": medians[0], "torch_seconds": medians[1], "ratio": None}
    if not ours or not theirs:
        return row
    single = [statistics.median(b) / statistics.median(a) for a, b in zip(ours, theirs, strict=True)]
    return {**row, "ratio": medians[1] / medians[0], "ratio_lowest": min(single), "ratio_highest": max(single)}


def matrix_side() -> int:
    """Side of the matrix product that gives a device's matrix rate."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def yardsticks() -> dict[str, tuple[Work, int]]:
    """What one device can do: name -> (work, its amount).

    `float32` and `bfloat16` (accelerators alone: a CPU emulates it) are square matrix products, in operations;
    `bandwidth` is `a + s b` on vectors far larger than any cache, in bytes read and written.
    """
    is_accelerator, side = jax.default_backend() != "cpu", matrix_side()
    calls = 10 if is_accelerator else 1  # several at once, so that the host does not keep the device waiting
    product = jax.jit(jnp.matmul)

    def multiply(dtype: Any) -> tuple[Work, int]:
        # Random values: a matrix of ones draws less power, and a GPU then clocks higher than it does in real work.
        left, right = (
            jax.random.normal(jax.random.key(seed), (side, side), jnp.float32).astype(dtype) for seed in (0, 1)
        )
        return lambda: [product(left, right) for _ in range(calls)], calls * 2 * side**3

    kinds = {"float32": jnp.float32, **({"bfloat16": jnp.bfloat16} if is_accelerator else {})}
    return {**{kind: multiply(dtype) for kind, dtype in kinds.items()}, "bandwidth": _stream(4 * side**2, calls)}


def _stream(length: int, calls: int) -> tuple[Work, int]:
    """Sums of long vectors, one after the other, and the bytes that they read and write."""
    add = jax.jit(lambda a, b: a + 0.5 * b, donate_argnums=0)
    a, b = jnp.zeros(length, jnp.float32), jnp.ones(length, jnp.float32)

    def stream() -> jax.Array:
        nonlocal a
        for _ in range(calls):
            a = add(a, b)
        return a

    return stream, calls * 3 * a.nbytes


def beside_yardsticks(work: Work, repeats: int) -> tuple[Record, Record]:
    """Times `work` in turns with the yardsticks, so that a machine that slows down slows all of them.

    Returns:
      seconds, as `timed`; rates of the yardsticks, operations/s and bytes/s, None where there is none.
    """
    first, measures = timed(work, 1)["first"], yardsticks()
    for measure, _ in measures.values():
        jax.block_until_ready(measure())
    works = {"work": work, **{name: measure for name, (measure, _) in measures.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, todo in works.items():
            seconds[name].append(seconds_of(todo))
    rates = {name: amount / statistics.median(seconds[name]) for name, (_, amount) in measures.items()}
    return {"first": first, **spread(seconds["work"])}, {"matrix_side": matrix_side(), "bfloat16": None, **rates}


def measure_peaks(repeats: int = 7) -> Record:
    """Rates of the yardsticks alone; matrix products at the default precision of the backend."""
    return beside_yardsticks(lambda: None, repeats)[1]


def fractions_of_peak(
    flops_per_second: float, peaks: Mapping[str, float | None], devices: int = 1
) -> dict[str, float | None]:
    """A rate over the measured matrix rates; virtual CPU devices share the same cores."""
    many = devices if jax.default_backend() != "cpu" else 1
    fractions: dict[str, float | None] = {}
    for kind in MATRIX_KINDS:
        peak = peaks[kind]
        fractions[kind] = flops_per_second / (many * peak) if peak else None
    return fractions
