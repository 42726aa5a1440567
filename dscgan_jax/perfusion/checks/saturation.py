"""Signal that was cut off at a largest value, by the receiver, a conversion to few bits, or a window."""

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion.checks.head import HeadCurves

MOST_SATURATED = 0.01  # of the head's values: a whole series has one such value, noise-free ones some more


def tell_saturated(head: HeadCurves, found: Findings) -> None:
    """Warns where many values of the head are the largest one: the baseline is too low there, and CBV with it."""
    some = head.some()
    largest = float(some.max())
    share = float((some == largest).mean())
    if share > MOST_SATURATED:
        found.warning(
            "signal_saturated",
            f"{100 * share:.0f} % of the head's values are the largest one, {largest:g}: brighter signal was cut off, "
            "and CBV and CBF are too low there; export the series with all its bits",
            round(share, 3),
        )
