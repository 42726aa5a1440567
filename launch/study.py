"""The paper's study: its 20 models and what it compares itself with, trained, scored and put on one page.

python launch/study.py --workdir=runs/study                                # phantoms of 64 x 64 pixels, two CPU cores
python launch/study.py --workdir=runs/study --scale=paper --gpus=0,1,2,3   # the paper's sizes, a model on each GPU
python launch/study.py --workdir=runs/mine --scale=paper --root_acute=DIR --root_chronic=DIR     # exams of your own
python launch/study.py --workdir=runs/study --scale=paper --slurm -- --gpus-per-node=1 --time=24:00:00 --mem=64G

Given again, it does what is missing: a study that was stopped goes on where it was. At the end it writes `study.html`,
its tables as CSV and its pictures into the work directory; --page does that with what is there. Each job keeps its
output in a folder of its own (`log.txt`); --list names the jobs, --job=NAME does one of them here.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Sequence

from absl import app, flags, logging

from dscgan_jax.errors import InputError, exit_status, one_line
from dscgan_jax.files import expanded, write_whole
from dscgan_jax.findings import check_names
from dscgan_jax.processes import usable_cores
from dscgan_jax.study import plan

STUDY_FILE = "study.json"
MOST_WORKERS = 4  # on CPUs: more processes hold more exams in memory than many a machine has

_WORKDIR = flags.DEFINE_string("workdir", "runs/study", "Folder of the study.")
_SCALE = flags.DEFINE_enum(
    "scale",
    "small",
    list(plan.SCALES),
    "paper (128 x 128, the paper's width and epochs: GPUs), small (64 x 64: two CPU cores, hours) or tiny (four "
    "models, minutes).",
)
_PARTS = flags.DEFINE_list("parts", list(plan.PARTS), "Which of " + ", ".join(plan.PARTS) + "; default: all.")
_ROOT_ACUTE = flags.DEFINE_string("root_acute", "", "Folder of your acute exams; default: phantom exams.")
_ROOT_CHRONIC = flags.DEFINE_string("root_chronic", "", "Folder of your chronic exams; default: phantom exams.")
_LAYOUT = flags.DEFINE_enum("layout", "bids", ["bids", "isles2017"], "How these folders are laid out.")
_TR = flags.DEFINE_float("tr", 0.0, "Their repetition time in seconds; overrides the files.", lower_bound=0.0)
_TE = flags.DEFINE_float("te", 0.0, "Their echo time in seconds; overrides the files.", lower_bound=0.0)
_ACCEPT = flags.DEFINE_list("accept", [], "Findings that would reject an exam and are accepted, by name.")
_SEED = flags.DEFINE_integer("seed", 0, "Of phantom exams and networks.", lower_bound=0)
_CACHE = flags.DEFINE_string("cache_dir", "~/.cache/dscgan_jax", "Where exams and prepared data are kept.")
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Jobs at a time; 0 = one for each GPU, or for each CPU core (at most 4).", lower_bound=0
)
_GPUS = flags.DEFINE_list("gpus", [], "Numbers of the GPUs to use; default: all that there are.")
_JOB = flags.DEFINE_string("job", "", "Do this job alone, in this process.")
_LIST = flags.DEFINE_bool("list", False, "Name the jobs and what is done of them.")
_PAGE = flags.DEFINE_bool("page", False, "Only write the page, of what is there.")
_DOCS = flags.DEFINE_string("docs", "", "Also write the page as this Markdown file, with its pictures beside it.")
_SLURM = flags.DEFINE_bool("slurm", False, "Submit the jobs to Slurm; what follows -- are options of sbatch.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be run, run nothing.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def study_of_flags() -> plan.Study:
    """The study that the command asks for.

    Raises:
      InputError: a part or a folder is unknown, or the work directory holds another study.
    """
    if unknown := [part for part in _PARTS.value if part not in plan.PARTS]:
        raise InputError(f"--parts={','.join(_PARTS.value)}: {unknown[0]} is none of {', '.join(plan.PARTS)}.")
    roots = {}
    for cohort, flag in ((plan.ACUTE, _ROOT_ACUTE), (plan.CHRONIC, _ROOT_CHRONIC)):
        if flag.value:
            roots[cohort] = str(expanded(flag.value, f"--{flag.name}").resolve())
            if not pathlib.Path(roots[cohort]).is_dir():
                raise InputError(f"--{flag.name}={flag.value}: there is no such folder.")
    _check_roots(roots)
    exams = {
        "layout": _LAYOUT.value,
        "tr_seconds": _TR.value,
        "te_seconds": _TE.value,
        "accept": check_names(",".join(_ACCEPT.value)),
    }
    folder = expanded(_WORKDIR.value, "--workdir").resolve()
    study = plan.Study(
        folder, _SCALE.value, tuple(_PARTS.value), roots, exams if roots else {}, _SEED.value, _CACHE.value
    )
    return _with_parts_of_before(study)


def _check_roots(roots: dict[str, str]) -> None:
    """Refuses folders that make no study, and settings of exams where phantoms are drawn."""
    if plan.CHRONIC in roots and plan.ACUTE not in roots:
        raise InputError(
            "--root_chronic is given without --root_acute: networks are trained on acute exams first; give both, or "
            "train on one cohort with dscgan-jax train."
        )
    if len(set(roots.values())) < len(roots):
        raise InputError(f"--root_acute and --root_chronic are the same folder, {roots[plan.ACUTE]}; give two.")
    for flag in (_LAYOUT, _TR, _TE, _ACCEPT):
        if flag.present and not roots:
            raise InputError(
                f"--{flag.name} is given, but exams are simulated; give --root_acute too, or leave it out."
            )


def _with_parts_of_before(study: plan.Study) -> plan.Study:
    """The study, with the parts that it was begun with where the page alone is asked for.

    Raises:
      InputError: another study was begun in this folder.
    """
    path = study.folder / STUDY_FILE
    if not path.is_file():
        if _PAGE.value:
            raise InputError(f"--workdir={study.folder} holds no study; run one there first, without --page.")
        return study
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); remove it, and the study goes on.") from error
    for name, value in study.to_json().items():
        if stored.get(name) != value:
            raise InputError(
                f"{path.parent} holds a study with {name} {stored.get(name)!r}, this one has {value!r}; give the same, "
                "or another --workdir."
            )
    if _PARTS.present or not (_PAGE.value or _LIST.value):
        return study
    return dataclasses.replace(study, parts=tuple(stored["parts"]))


def begin(study: plan.Study) -> None:
    """The study's folder, with what it is in it."""
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir={study.folder}: cannot be made ({error.strerror}); give another.") from error
    path = study.folder / STUDY_FILE
    before = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else []
    parts = [part for part in plan.PARTS if part in before or part in study.parts]
    write_whole(path, json.dumps({**study.to_json(), "parts": parts}, indent=1) + "\n")


def command(study: plan.Study) -> list[str]:
    """What does one job, without its name."""
    roots = [f"--root_{cohort}={root}" for cohort, root in study.roots.items()]
    if roots:
        roots += [f"--layout={_LAYOUT.value}", f"--tr={_TR.value}", f"--te={_TE.value}"]
        roots += [f"--accept={','.join(_ACCEPT.value)}"] if _ACCEPT.value else []
    return [
        sys.executable,
        str(pathlib.Path(__file__).resolve()),
        f"--workdir={study.folder}",
        f"--scale={study.scale}",
        f"--parts={','.join(study.parts)}",
        f"--seed={study.seed}",
        f"--cache_dir={study.cache_dir}",
        *roots,
    ]


def gpus_here() -> list[str]:
    """Numbers of the GPUs that may be used."""
    if _GPUS.value:
        return list(_GPUS.value)
    if os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu", ""):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [number for number in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if number]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]  # parts of one are indented
    return [str(number) for number, _ in enumerate(found)] if listed.returncode == 0 else []


def run(study: plan.Study) -> int:
    """Does what is missing, then writes the page; the number of jobs that failed."""
    from dscgan_jax.study import schedule
    from dscgan_jax.training.workdir import only_run

    gpus = gpus_here()
    workers = _WORKERS.value or len(gpus) or min(usable_cores(), MOST_WORKERS)
    if gpus and workers > len(gpus):
        raise InputError(f"--workers={workers}: there are {len(gpus)} GPUs, and a job needs one; give at most that.")
    jobs, line = study.jobs(), command(study)
    if _DRY_RUN.value:
        for job in jobs:
            print(shlex.join([*line, f"--job={job.name}"]))
        return 0
    begin(study)
    jobs = _possible(jobs)
    with only_run(study.folder):
        failed = schedule.run_all(study, jobs, lambda job: [*line, f"--job={job.name}"], workers, gpus, _tell)
    for name, reason in failed.items():
        print(f"not done: {name}: {reason}", file=sys.stderr)
    write_page(study)
    return len(failed)


def _possible(jobs: Sequence[plan.Job]) -> list[plan.Job]:
    """The jobs that can be done with what is installed; said before hours are spent."""
    from dscgan_jax.methods import trees

    if not any(job.kind == plan.TREES for job in jobs):
        return list(jobs)
    try:
        trees.check_installed()
    except InputError as error:
        print(f"trees are left out: {error}")
        return [job for job in jobs if job.kind != plan.TREES]
    return list(jobs)


def do(study: plan.Study, name: str) -> None:
    """Does one job in this process."""
    [*_, job] = plan.ordered(study.jobs(), [name])
    # Whoever was started in the background was told to ignore it; the study stops its jobs by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from dscgan_jax.training.memory import keep_freed_memory

    keep_freed_memory()  # before JAX takes any
    from dscgan_jax.study import jobs

    begin(study)
    jobs.run(study, job)


def submit(study: plan.Study, options: Sequence[str]) -> None:
    """Array jobs, stage after stage, and the page at the end."""
    from dscgan_jax.study import schedule

    if not _DRY_RUN.value:
        begin(study)
    before = ""
    scripts = [
        schedule.slurm_script([job.name for job in stage], command(study), options, study.folder)
        for stage in schedule.stages(study.jobs())
    ]
    for number, script in enumerate([*scripts, schedule.slurm_page(command(study), options, study.folder)]):
        # A job that failed shall not keep the others; it says itself what it lacks.
        line = ["sbatch", "--parsable", *([f"--dependency=afterany:{before}"] if before else [])]
        if _DRY_RUN.value:
            print(shlex.join(line), script, sep="\n")
            before = f"<stage {number + 1}>"
            continue
        try:
            done = subprocess.run(line, input=script, text=True, capture_output=True, check=False)
        except FileNotFoundError:
            raise InputError("there is no sbatch here; submit from a login node, or look with --dry_run.") from None
        if done.returncode:
            raise InputError(f"sbatch refused stage {number + 1}: {' '.join(done.stderr.split())}")
        before = done.stdout.strip().partition(";")[0]
        print(f"stage {number + 1}: job {before}")


def write_page(study: plan.Study) -> None:
    """The page, its tables and its pictures."""
    from dscgan_jax.study import results

    found = results.gather(study)
    print(f"page: {results.write(found, study, pathlib.Path(_DOCS.value) if _DOCS.value else None)}")


def list_jobs(study: plan.Study) -> None:
    """Names the jobs and what is done of them."""
    from dscgan_jax.study.jobs import Done, progress_of

    for job in study.jobs():
        done = Done.of(study, job)
        share = progress_of(study, job)
        state = f"{done.seconds / 60:.1f} min" if done else f"{100 * share:.0f} %" if share else "-"
        print(f"{job.name:<44} {job.kind:<16} {state}")


def _tell(text: str) -> None:
    import tqdm

    tqdm.tqdm.write(text)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.FATAL)  # libraries log the tracebacks of errors that we tell in one line
    warnings.simplefilter("ignore")  # of libraries, for those who write them
    try:
        study = study_of_flags()
        if argv[1:] and not _SLURM.value:
            raise InputError(f"unexpected argument {argv[1]!r}; options of sbatch need --slurm.")
        if _LIST.value:
            list_jobs(study)
        elif _JOB.value:
            do(study, _JOB.value)
        elif _PAGE.value:
            write_page(study)
        elif _SLURM.value:
            submit(study, argv[1:])
        elif run(study):
            sys.exit(1)
    except (KeyboardInterrupt, Exception) as error:
        if _DEBUG.value:
            traceback.print_exc()
        print(one_line(error), file=sys.stderr)
        sys.exit(exit_status(error))


def parse(argv: Sequence[str]) -> list[str]:
    """The flags; one line where they are wrong."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
