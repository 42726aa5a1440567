"""What is usual of the maps of a network that learned from phantom exams, put into its file of weights.

python studies/usual.py dscgan_jax/weights/physics.safetensors      # five minutes on two cores; rewrites the file
A run of one's own needs none of it: its training ends with the same, on its validation exams.
"""

import argparse
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import tqdm
from harm import spoiled

from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.consistency import usual_limits
from dscgan_jax.methods.network import Predictor, rows_of
from dscgan_jax.training import weights

SEED = 31_337  # of no training and no other study
EXAMS = 160  # a 95th percentile of 40 is the second-largest exam, and jumps from drawing to drawing


def drawn(count: int) -> Iterator[Exam]:
    """`varied` exams, those left out that the program refuses."""
    for number in tqdm.tqdm(range(count), desc="exams"):
        phantom = spoiled.drawn(number, SEED)
        with contextlib.suppress(InputError):
            yield Exam.from_arrays(
                phantom.series,
                phantom.affine,
                repetition_time=phantom.frame_seconds,
                echo_time=phantom.echo_seconds,
            )


def main() -> None:
    """Measures, and rewrites the file; its numbers and their digest stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path, help="FILE.safetensors of `export`")
    parser.add_argument("--exams", type=int, default=EXAMS)
    arguments = parser.parse_args()
    network = weights.read(arguments.file)
    usual = usual_limits(rows_of(Predictor(network), drawn(arguments.exams)))
    weights.write(dataclasses.replace(network, usual=usual), arguments.file)
    print("\n".join(f"{name}: {value:.3g}" for name, value in usual.items()))


if __name__ == "__main__":
    main()
