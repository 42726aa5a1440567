"""What is usual of the maps of a network that was just trained, by which those of other exams are judged."""

import pathlib
from collections.abc import Iterator

import ml_collections

from dscgan_jax.app import places
from dscgan_jax.data import exams
from dscgan_jax.errors import InputError
from dscgan_jax.methods.network import Predictor, usual_of
from dscgan_jax.training.weights import keep_usual

MOST_EXAMS = 20  # of the validation split: more would take longer than they tell


def measure(config: ml_collections.ConfigDict, workdir: pathlib.Path | str, which: str = "best") -> dict[str, float]:
    """Predicts validation exams and keeps what is usual of their maps with the run (`weights.keep_usual`).

    Args:
      config: of the run; says where its exams are.
      workdir: of the run.
      which: step of the run.

    Returns:
      {value of `Consistency`: up to where it is usual}; empty where there are too few exams to say.

    Raises:
      InputError: there is no such checkpoint, or the exams are no longer there.
    """
    predictor = Predictor.from_run(workdir, which)
    trained = places.with_root(config)
    splits = predictor.record.data.splits
    found = [files for files in places.find_subjects(trained) if splits.get(files.subject) == "validation"]
    usual = usual_of(predictor, _readable(found[:MOST_EXAMS]))
    keep_usual(workdir, predictor.sha256, usual)
    return usual


def _readable(found: list[exams.SubjectFiles]) -> Iterator[exams.Exam]:
    """Those that can be read; what is wrong with others was said when they were prepared."""
    for files in found:
        try:
            yield exams.load_exam(files)
        except InputError:
            continue
