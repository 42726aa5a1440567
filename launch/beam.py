"""Maps of a cohort, or its prepared data set, as an Apache Beam job, for cohorts that outgrow one machine.

python launch/beam.py --mode=deconvolve --input=exams --output=maps [--runner=DirectRunner] [more flags] -- [its own]
python launch/beam.py --mode=predict --input=exams --output=maps --model=mine.safetensors -- --direct_num_workers=4
python launch/beam.py --mode=prepare --config=configs/temp_tmax.py --config.data.root=exams --runner=FlinkRunner -- ...

Flags are those of `dscgan-jax` in the same mode; what follows `--` goes to the runner. Needs `pip install
'dscgan_jax[beam]'`. All workers see exams and output under the same paths, and have this package installed.
"""

import os
import pathlib
import sys

from absl import app, flags, logging

from dscgan_jax import main as program
from dscgan_jax import settings
from dscgan_jax.app import options, places, start
from dscgan_jax.errors import InputError, one_line
from dscgan_jax.evaluation.exam_rows import FAILED

MODES = ("deconvolve", "predict", "prepare")
_RUNNER = flags.DEFINE_string("runner", "DirectRunner", "Beam's runner; what follows -- are its own options.")


def parse(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments and the runner's, which follow `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def run(of_runner: list[str]) -> None:
    mode = flags.FLAGS.mode
    if mode not in MODES:
        raise InputError(f"--mode={mode}: a Beam job is one of {', '.join(MODES)}.")
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise InputError("Apache Beam is not installed: pip install 'dscgan_jax[beam]'.") from None
    given = program.read_command(mode)
    config = program.read_config(given)
    settings.check_fields(config, given.all_fields - {"conventional.aif"})
    if not config.data.root:
        raise InputError(f"--mode={mode} as a Beam job needs the folder of exams: give --input=FOLDER.")
    start.set_up(config)
    if mode == "prepare":
        from dscgan_jax.app.prepare import prepare
        from dscgan_jax.data.shards import BeamRun

        prepare(config, beam=BeamRun(_RUNNER.value, tuple(of_runner)))
    else:
        make_maps(config, given, of_runner)


def make_maps(config, given, of_runner: list[str]) -> None:
    from dscgan_jax.app import deconvolve, predict
    from dscgan_jax.methods import cohort, pipeline

    if given.reader not in (options.FOLDER, options.PREDICT_FOLDER) or "workers" in given.flags:
        raise InputError("a Beam job takes a folder of exams, and the runner decides how many workers there are.")
    if given.mode == "predict":
        work = predict.work_of(config, program.model(), flags.FLAGS.step, given.all_fields, flags.FLAGS.desc)
    else:
        aif = program.arterial_input() or config.conventional.aif
        work = deconvolve.work_of(config, aif, flags.FLAGS.desc)
    if not flags.FLAGS.output:
        raise InputError(f"--mode={given.mode} needs --output=FOLDER.")
    subjects, lost = places.find_cohort(config)
    output = pathlib.Path(flags.FLAGS.output).expanduser().absolute()  # workers may start elsewhere
    plan = cohort.plan(work, subjects, output, places.exams_root(config), lost)
    rows = pipeline.run(plan, _RUNNER.value, of_runner, print)
    failed = [row for row in rows if row.status == FAILED]
    for row in failed:
        print(f"failed: {row.subject}: {row.reason}")
    print(f"{len(rows) - len(failed)} of {len(rows)} exams: {output}\npage:        {output / cohort.PAGE}")
    if failed:
        raise InputError(f"{len(failed)} of {len(rows)} exams failed; {output / cohort.SUMMARY} says why.")


def main(argv: list[str]) -> None:
    try:
        run(OF_RUNNER)
    except (KeyboardInterrupt, InputError, OSError) as error:
        if flags.FLAGS.debug:
            raise
        sys.exit(one_line(error))


OF_RUNNER: list[str] = []

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.FATAL)
    ours, OF_RUNNER = parse(sys.argv)
    app.run(main, argv=ours, flags_parser=program.parse_flags)
