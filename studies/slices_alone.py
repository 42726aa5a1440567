"""How late the automatic AIF of whole acute phantom exams is, and that of their single slices.

    python studies/slices_alone.py     # some minutes

Late is from the half-rise of the blood of a healthy M1 to that of the AIF, s. Why the network `physics` is shown the
AIF of the whole exam: most slices alone do not say when the bolus came. The exams are of a seed that no other study
draws from.
"""

import argparse

import numpy as np
import tqdm

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import arterial, arterial_voxels
from dscgan_jax.perfusion.measurement import measure
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.phantom.exam import Phantom, draw_phantom

SEED, EVERY = 77_123, 4  # and which slices are taken


def late_seconds(phantom: Phantom, series: np.ndarray) -> float | None:
    """Of the AIF that is found in (x, y, z, time); None where none is."""

    def half_rise(curve: np.ndarray, timing: BolusTiming) -> float:
        return float(arterial_voxels.describe(curve[None].astype(np.float64), timing).half_rise[0])

    try:
        found = measure(series, phantom.affine, phantom.frame_seconds, phantom.echo_seconds, "none")
    except InputError:
        return None
    blood = arterial.arterial_input_from_curve(
        phantom.arterial_seconds, phantom.arterial_mm, len(phantom.arterial_mm), phantom.frame_seconds
    )
    late = half_rise(found.arterial.delta_r2star, found.timing) - half_rise(blood.delta_r2star, found.timing)
    return late * phantom.frame_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=6)
    of_exams, of_slices = [], []
    for number in tqdm.tqdm(range(parser.parse_args().exams), desc="exams"):
        phantom = draw_phantom("acute", (SEED, number))
        series = phantom.series.astype(np.float32)
        of_exams.append(late_seconds(phantom, series))
        of_slices += [late_seconds(phantom, series[:, :, z : z + 1]) for z in range(0, series.shape[2], EVERY)]
    for name, found in (("whole exams", of_exams), ("slices alone", of_slices)):
        late = [one for one in found if one is not None]
        print(
            f"{len(found)} {name}, {len(found) - len(late)} without an AIF: {np.median(late):.2f} s late in the median "
            f"({min(late):.2f} to {max(late):.2f})"
        )


if __name__ == "__main__":
    main()
