"""What a low AIF says: how late it is, and how far Tmax is off, on varied phantom exams of 64 to 96 pixels.

    python studies/arteries.py     # minutes

Prints a row for each exam, lowest AIF first, and what the limits of `perfusion.arterial` rest on. The exams are of a
seed that no other study draws from.
"""

import argparse

import numpy as np
import tqdm
from harm.silence import late_seconds
from harm.spoiled import as_drawn, drawn

from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.methods import conventional
from dscgan_jax.perfusion.arterial import MOSTLY_PEAK_OVER_BRAIN
from dscgan_jax.phantom.exam import Phantom

SEED = 4711


def row_of(phantom: Phantom) -> tuple[float, float, float, str] | None:
    """Peak of the AIF over that of the tissue's mean curve, its lateness and the median error of Tmax, s, and whether
    it is told; None where the exam is refused.
    """
    given = as_drawn(phantom, np.random.default_rng())
    try:
        exam = Exam.from_arrays(
            given.series, given.affine, repetition_time=given.frame_seconds, echo_time=given.echo_seconds
        )
        made = conventional.deconvolved(exam)
    except InputError:
        return None
    measured, both = made.found.measured, given.mask & made.found.measured.tissue
    told = [one.severity for one in made.maps.findings if one.name == "arterial_low"]
    over = [float(one.value) for one in made.maps.findings if one.name == "arterial_low"]
    error = float(np.median((made.maps["tmax"] - given.maps["tmax"])[both]))
    return (
        (over or [np.inf])[0],
        late_seconds(measured.arterial, measured.frame_seconds, phantom),
        error,
        (told or ["-"])[0],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=40)
    rows = [row_of(drawn(number, SEED)) for number in tqdm.tqdm(range(parser.parse_args().exams), desc="exams")]
    found = sorted(row for row in rows if row is not None)
    for over, late, error, told in found:
        print(f"peak over the brain's {over:4.2f}: {late:+.1f} s late, Tmax {error:+.2f} s, {told}")
    for low, words in ((True, "below"), (False, "not below")):
        some = np.array([row[1:3] for row in found if (row[0] < MOSTLY_PEAK_OVER_BRAIN) == low])
        late, error = some.T
        print(
            f"{len(some)} {words} {MOSTLY_PEAK_OVER_BRAIN}: late by {np.median(late):.1f} s ({late.min():.1f} to "
            f"{late.max():.1f}), Tmax off by {np.median(error):+.2f} s ({error.min():+.2f} to {error.max():+.2f})"
        )


if __name__ == "__main__":
    main()
