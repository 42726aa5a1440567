"""Numbers of records as short texts, and the names of what has several forms."""

from collections.abc import Callable

Form = Callable[[float], str]

ABSENT = "not measured"
PLACE_WORDS = {"device": "on the device", "memory": "in memory", "disk": "on disk (in the page cache)"}
NORM_WORDS = {"per_slice": "each slice's statistics", "running": "running statistics"}


def or_absent(value: float | None, form: Form) -> str:
    """A number in some form, or that it was not measured."""
    return ABSENT if value is None else form(value)


def seconds(value: float) -> str:
    """12.3 s, or 12.3 ms below a tenth of a second."""
    if value >= 100:
        return f"{value:,.0f} s"
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"


def minutes(value: float) -> str:
    """12.3 min."""
    return f"{value:,.1f} min"


def percent(value: float) -> str:
    """12 % of a share."""
    return f"{100 * value:.0f} %"


def share(value: float) -> str:
    """0.12."""
    return f"{value:.2f}"


def times(value: float) -> str:
    """1.23 x."""
    return f"{value:.2f} x" if value < 10 else f"{value:,.0f} x"


def power_of_ten(value: float) -> str:
    """1e-06."""
    return f"{value:.0e}"


def mebibytes(value: float) -> str:
    """123 MiB from bytes."""
    return f"{value / 2**20:,.0f} MiB"


def gibibytes(value: float) -> str:
    """1.23 GiB from bytes."""
    return f"{value / 2**30:.2f} GiB"


def slices(value: float) -> str:
    """12.3 slices/s."""
    return f"{value:,.0f} slices/s" if value >= 100 else f"{value:.3g} slices/s"


def quantity(unit: str) -> Form:
    """12.3 GFLOP/s from operations a second, likewise for other units."""

    def form(value: float) -> str:
        for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if value >= factor:
                return f"{value / factor:.3g} {letter}{unit}"
        return f"{value:.3g} {unit}"

    return form


flop_rate, byte_rate = quantity("FLOP/s"), quantity("B/s")
flops, n_bytes = quantity("FLOP"), quantity("B")
