"""A cohort as an Apache Beam pipeline: the same work on other people's machines. Needs the extra `beam`.

All workers see the exams and the output under the same paths, as on a network file system. What is there already is not
made again, so that a pipeline that failed goes on when it is run once more.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports] - an extra
from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import ExamRow
from dscgan_jax.methods import cohort
from dscgan_jax.methods.exam_files import Job, Outcome


class MakeMaps(beam.DoFn):
    """A job to its outcome; the network is read once in each worker."""

    def __init__(self, work: cohort.Work):
        super().__init__()
        self._work = work
        self._do: Callable[[Job], Outcome | cohort.Stopped] | None = None

    def setup(self) -> None:
        """Called once by Beam."""
        self._do = cohort.Doing(self._work).begin()

    def process(self, job: Job) -> Iterable[Outcome]:
        """Makes one exam.

        Raises:
          InputError: the disk is full: Beam tries again, elsewhere, and gives up in the end.
        """
        if self._do is None:
            self.setup()
        outcome = self._do(job)  # pyright: ignore[reportOptionalCall]
        if isinstance(outcome, cohort.Stopped):
            raise InputError(outcome.reason)
        yield outcome


def run(
    plan: cohort.Plan, runner: str, options: Sequence[str] = (), tell: Callable[[str], Any] | None = None
) -> list[ExamRow]:
    """Makes what is missing on a runner, and waits for it.

    Args:
      plan: from `cohort.plan`.
      runner: name of a Beam runner, such as `DirectRunner`.
      options: its own, as on a command line.
      tell: as of `cohort.run`.

    Returns:
      the rows of `summary.csv`.

    Raises:
      InputError: another process is writing into the folder.
    """
    with cohort.only_one(plan.output, tell):
        cohort.write_mark(plan)
        with beam.Pipeline(runner=runner, options=PipelineOptions(list(options))) as pipeline:
            outcomes = (
                pipeline
                | "Exams" >> beam.Create(list(plan.missing))
                | "OverWorkers" >> beam.Reshuffle()
                | "Maps" >> beam.ParDo(MakeMaps(plan.work))
            )
            _ = outcomes | "All" >> beam.combiners.ToList() | "Records" >> beam.Map(_write, plan)
    return exam_rows.read(plan.output / cohort.SUMMARY)


def _write(made: Sequence[Outcome], plan: cohort.Plan) -> None:
    outcomes = {**plan.known, **{outcome.row.subject: outcome for outcome in made}}
    cohort.write_records(plan, outcomes)
    cohort.write_page(plan, outcomes)
