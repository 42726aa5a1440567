"""What is taken for the core of an infarct, against the truth: the still and moving exams of the validation.

    python studies/cores.py     # minutes

Prints a row for each exam with a core, or without one where something is taken for it, and all of them together.
"""

import argparse
import dataclasses

import numpy as np
import tqdm

from dscgan_jax.perfusion.measurement import measure
from dscgan_jax.phantom.acquisition import REAL
from dscgan_jax.phantom.exam import CORE_LABEL, Phantom, draw_phantom

SEED = 0  # of the validation


@dataclasses.dataclass(frozen=True)
class Row:
    """Voxels of an exam: true core, that of it which is tissue, and what outside the brain is taken for core."""

    core: int
    kept: int
    fluid: int


def row_of(phantom: Phantom) -> Row:
    measured = measure(
        phantom.series.astype(np.float32), phantom.affine, phantom.frame_seconds, phantom.echo_seconds, "rigid"
    )
    core, taken = phantom.lesion == CORE_LABEL, np.zeros(phantom.mask.shape, bool)
    taken[measured.tissue] = measured.not_seen
    return Row(int(core.sum()), int((core & measured.tissue).sum()), int((taken & ~phantom.mask).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acute", type=int, default=40, help="exams; default 40")
    parser.add_argument("--chronic", type=int, default=12, help="exams; default 12")
    arguments = parser.parse_args()
    wanted = [("acute", number) for number in range(arguments.acute)]
    wanted += [("chronic", number) for number in range(arguments.chronic)]
    rows = []
    for preset, number in tqdm.tqdm(wanted, desc="exams"):
        row = row_of(draw_phantom(preset, (SEED, number), size=128, imperfections=REAL))
        rows.append(row)
        if row.core or row.fluid:
            share = f"{100 * row.kept / row.core:.1f} % of {row.core} kept" if row.core else "no core"
            print(f"{preset} {number}: {share}, {row.fluid} voxels of fluid taken for core")
    core, kept, fluid = (sum(getattr(row, name) for row in rows) for name in ("core", "kept", "fluid"))
    print(
        f"{len(rows)} exams: {100 * kept / max(core, 1):.1f} % of the core kept, "
        f"at least {min((100 * row.kept / row.core for row in rows if row.core), default=100.0):.1f} %; "
        f"{fluid} voxels of fluid taken for core, at most {max(row.fluid for row in rows)} in an exam"
    )


if __name__ == "__main__":
    main()
