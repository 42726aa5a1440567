"""What is usual of the maps of a network that was just trained, by which those of other exams are judged."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import ml_collections

from dscgan_jax.app import places
from dscgan_jax.app.output import progress_bar
from dscgan_jax.data import exams, subject_files
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import consistency
from dscgan_jax.methods.network import Predictor, rows_of
from dscgan_jax.training.weights import keep_usual, kept_usual

MOST_EXAMS = 20  # of the validation split: more would take longer than they tell


def measure(config: ml_collections.ConfigDict, workdir: pathlib.Path | str, which: str = "best") -> None:
    """Predicts validation exams and keeps what is usual of their maps with the run (`weights.keep_usual`).

    What was kept of this checkpoint before stays. A run without enough exams, or without exams that can be read, keeps
    that nothing is known; a line says so.

    Args:
      config: of the run; says where its exams are.
      workdir: of the run.
      which: step of the run.

    Raises:
      InputError: there is no such checkpoint, it is damaged, or what was kept before is.
    """
    predictor = Predictor.from_run(workdir, which)
    if kept_usual(workdir, predictor.sha256) is not None:
        return
    found = _validation_exams(config, predictor)
    with progress_bar(len(found), "what is usual") as bar:
        judged = rows_of(predictor, _readable(found, bar.update))
    usual = consistency.usual_limits(judged)
    keep_usual(workdir, predictor.sha256, usual)
    few = "" if usual else f"; too few to judge other maps by ({consistency.FEWEST_EXAMS} are needed)"
    print(f"what is usual of its maps: from {len(judged)} of {len(found)} validation exams that have no warning{few}")


def _validation_exams(config: ml_collections.ConfigDict, predictor: Predictor) -> list[subject_files.SubjectFiles]:
    splits = predictor.record.data.splits
    found = places.find_subjects(places.with_root(config))
    return [files for files in found if splits.get(files.subject) == "validation"][:MOST_EXAMS]


def _readable(found: list[subject_files.SubjectFiles], done: Callable[[], object]) -> Iterator[exams.Exam]:
    """Those that can be read; what is wrong with others was said when they were prepared."""
    for files in found:
        with contextlib.suppress(InputError):
            yield exams.load_exam(files)
        done()
