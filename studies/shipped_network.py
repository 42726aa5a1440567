"""How good the shipped network is on simulated exams that nobody trained on, beside conventional maps of the same.

    python studies/shipped_network.py --page=docs/shipped_network.md     # all of it; an hour or two on two cores
    python studies/shipped_network.py --shard=1/2                        # half of the exams; 2/2 in another process
    python studies/shipped_network.py --again=docs/benchmarks/shipped_network.json --page=docs/shipped_network.md
    python studies/shipped_network.py --model=FILE_OR_RUN --quick        # to see that it runs

Of each exam of three cohorts these are scored: the network, the parametric fit and oSVD with an automatic AIF, the
parametric fit with the true AIF and the true brain (oracle), and two nulls. The network and the automatic methods are
given the series, its frame length and its echo time alone. Then some exams are stored, cut and surrounded otherwise,
and the network is applied to a real exam.

Each exam leaves a file in `--output`: a study that was stopped goes on where it was. `--page` makes what is missing,
then writes the page, its pictures beside it, and the numbers below it, in benchmarks/; `--again` makes the page anew
from these numbers.
"""

import json
import pathlib
import tempfile

from absl import app, flags
from shipped_network_page import printed, write
from shipped_network_records import COHORTS, Record
from shipped_network_run import Plan, study

from dscgan_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]

_MODEL = flags.DEFINE_string("model", "physics", "Shipped network, file of weights, or folder of a run.")
_COHORTS = flags.DEFINE_list("cohorts", list(COHORTS), "Which of acute, chronic and varied.")
_SUBJECTS = flags.DEFINE_integer("subjects", 40, "Exams of each cohort.")
_CHANGED = flags.DEFINE_integer("changed", 6, "Acute and chronic exams, each, that come in other ways.")
_SIZE = flags.DEFINE_integer("size", 128, "Rows and columns of the acute and the chronic cohort.")
_REAL = flags.DEFINE_string(
    "real",
    str(ROOT.parent / "shared" / "real" / "sub-moyamoya_dsc.nii.gz"),
    "Real series; left out if it is not there.",
)
_QUICK = flags.DEFINE_bool("quick", False, "Two small exams of each cohort, one that is changed.")
_OUTPUT = flags.DEFINE_string("output", "runs/shipped_network", "Folder of the exams' records.")
_SHARD = flags.DEFINE_string("shard", "", "K/N: the Kth of N parts of the exams, for several processes.")
_PAGE = flags.DEFINE_string("page", "", "Markdown file to write.")
_AGAIN = flags.DEFINE_string("again", "", "JSON file of a study, from which the page is made again.")


def plan_of_flags() -> Plan:
    """What the command asks for."""
    cohorts, real = tuple(_COHORTS.value), _REAL.value if pathlib.Path(_REAL.value).is_file() else ""
    if unknown := set(cohorts) - set(COHORTS):
        raise InputError(f"--cohorts={','.join(cohorts)}: {unknown.pop()} is none of {', '.join(COHORTS)}.")
    if _QUICK.value:
        return Plan(cohorts, 2, 1, 64, 4, 64, real)
    return Plan(cohorts, _SUBJECTS.value, _CHANGED.value, _SIZE.value, None, 0, real)


def results_of_flags() -> Record:
    """Read, or made; a quick study without a folder leaves none."""
    if _AGAIN.value:
        return json.loads(pathlib.Path(_AGAIN.value).read_text(encoding="utf-8"))
    if _QUICK.value and not flags.FLAGS["output"].present:
        with tempfile.TemporaryDirectory() as folder:
            return study(pathlib.Path(folder), plan_of_flags(), _MODEL.value)
    return study(pathlib.Path(_OUTPUT.value), plan_of_flags(), _MODEL.value, _SHARD.value)


def main(_) -> None:
    if _SHARD.value and _PAGE.value:
        raise SystemExit("--shard makes exams alone; give --page when all parts are there.")
    try:
        results = results_of_flags()
    except InputError as error:
        raise SystemExit(str(error)) from error
    if _PAGE.value:
        write(results, pathlib.Path(_PAGE.value))
    if not _SHARD.value:
        print(printed(results))


if __name__ == "__main__":
    app.run(main)
