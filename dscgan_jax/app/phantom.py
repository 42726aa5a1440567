"""--mode=phantom: simulated exams with known truth."""

import pathlib

from dscgan_jax.app.output import progress_bar
from dscgan_jax.errors import InputError
from dscgan_jax.phantom import cohort
from dscgan_jax.settings import LEAST_PHANTOM_SIZE


def run(
    output: pathlib.Path,
    *,
    preset: str,
    subjects: int,
    size: int,
    slices: int,
    seed: int,
    split_fractions: tuple[float, float, float],
) -> None:
    """Simulates exams into a folder; 0 rows and columns, or 0 slices: the preset's own number."""
    if 0 < size < LEAST_PHANTOM_SIZE:
        raise InputError(f"--size={size}; it must be at least {LEAST_PHANTOM_SIZE}, or 0 (the preset's own number).")
    with progress_bar(subjects, "simulating") as bar:
        cohort.write_cohort(
            output,
            preset=preset,
            subjects=subjects,
            seed=seed,
            size=size,
            slices=slices or None,
            split_fractions=split_fractions,
            progress=bar.update,
        )
    print(output)
