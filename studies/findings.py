"""False alarms and cost of the findings: clean phantom exams of known truth, read as a user's files are.

python studies/findings.py [--real=EXAM.nii.gz] [--exams=40]     # about 5 minutes
Writes docs/benchmarks/findings.json and docs/findings.md.

A warning is justified where the truth says that the head moved, that the exam was cut short, or that it has few slices.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from dscgan_jax.data import exams, layouts, nifti
from dscgan_jax.errors import InputError
from dscgan_jax.findings import KINDS
from dscgan_jax.perfusion.checks import first_pass
from dscgan_jax.perfusion.checks.head import slice_axis
from dscgan_jax.perfusion.checks.series import repaired
from dscgan_jax.phantom.cohort import write_exam
from dscgan_jax.phantom.exam import Phantom, draw_phantom
from dscgan_jax.phantom.presets import PRESETS

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "findings.md"
RECORD = pathlib.Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "findings.json"
SEED = 4242  # none of the seeds that thresholds were chosen on
FEW_SLICES = 5
SIZE, SLICES = 64, 8


@contextlib.contextmanager
def protocol(preset: str, **changes: object) -> Iterator[None]:
    """A preset with another protocol."""
    before = PRESETS[preset]
    PRESETS[preset] = dataclasses.replace(before, **changes)
    try:
        yield
    finally:
        PRESETS[preset] = before


def of_preset(preset: str, number: int) -> Phantom:
    """One exam of a preset."""
    return draw_phantom(preset, (SEED, number), size=SIZE, slices=SLICES)


def of_frame_length(number: int) -> Phantom:
    """TR 1 to 3 s; 80 to 130 s, the bolus after 14 to 28 s."""
    rng = np.random.default_rng([SEED, number])
    tr = float(rng.uniform(1.0, 3.0))
    frames = int(rng.uniform(80.0, 130.0) / tr)
    with protocol(
        "acute", frame_seconds=tr, frames=(frames, frames), arrival_frames=(14.0 / tr, 28.0 / tr), truncated_share=0.0
    ):
        return draw_phantom("acute", (SEED + 1, number), size=SIZE, slices=SLICES)


def of_few_slices(number: int) -> Phantom:
    """One to five slices."""
    return draw_phantom("acute", (SEED + 2, number), size=SIZE, slices=1 + number % FEW_SLICES)


def of_low_signal(number: int) -> Phantom:
    """Signal over noise of 20: Rician noise on top of what is there."""
    exam = draw_phantom("acute", (SEED + 3, number), size=SIZE, slices=SLICES)
    rng = np.random.default_rng([SEED, number])
    missing = np.sqrt(max((exam.truth["brain_signal"] / 20.0) ** 2 - exam.truth["noise_sigma"] ** 2, 0.0))
    noise = rng.normal(0.0, missing, (2, *exam.series.shape))
    noisy = np.hypot(exam.series + noise[0], noise[1])
    return dataclasses.replace(exam, series=np.rint(noisy).astype(np.int16))


COHORTS = {
    "acute": (lambda number: of_preset("acute", number), 1.0),
    "chronic": (lambda number: of_preset("chronic", number), 1.0),
    "TR 1 to 3 s": (of_frame_length, 0.5),
    "1 to 5 slices": (of_few_slices, 0.5),
    "SNR 20": (of_low_signal, 0.5),
}


def judge(exam: Phantom, folder: pathlib.Path) -> dict[str, object]:
    """Findings of an exam, and whether its truth justifies a warning."""
    write_exam(folder, "sub-1", exam)
    [files] = layouts.find_subjects(folder, "bids")
    justified = bool(exam.motion.moved or exam.truth["truncated"] or exam.series.shape[2] <= FEW_SLICES)
    row: dict[str, object] = {"justified": justified}
    try:
        found = exams.with_motion_finding(exams.load_exam(files)).findings
    except InputError as error:
        return row | {"error": str(error).partition(": ")[2]}
    return row | {
        severity: [finding.name for finding in found if finding.severity == severity]
        for severity in ("warning", "note")
    }


def cohort_record(draw: Callable[[int], Phantom], count: int) -> dict[str, object]:
    """How many of some exams are refused or warned about, and why."""
    rows = []
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(judge(draw(number), pathlib.Path(folder)))
    warned = [row for row in rows if row.get("warning")]
    return {
        "exams": count,
        "errors": [row["error"] for row in rows if "error" in row],
        "warned": len(warned),
        "warned_without_reason": sum(not row["justified"] for row in warned),
        "warnings": dict(Counter(name for row in warned for name in row["warning"])),
        "notes": dict(Counter(name for row in rows for name in row.get("note", []))),
    }


def seconds(repeats: int = 5) -> dict[str, object]:
    """Cost for one exam of 128 x 128 x 25 x 60 whose head moved, median of `repeats` after the first."""
    with protocol("acute", frames=(60, 60), truncated_share=0.0):
        number = next(
            number for number in range(100) if draw_phantom("acute", (SEED, number), size=32, slices=2).motion.moved
        )
        exam = draw_phantom("acute", (SEED, number), size=128, slices=25)
    with tempfile.TemporaryDirectory() as folder:
        write_exam(pathlib.Path(folder), "sub-1", exam)
        [files] = layouts.find_subjects(folder, "bids")
        volume, read = nifti.read_volume(files.series, dims=4), exams.load_exam(files)

    def timed(task: Callable[[], object]) -> float:
        spent = []
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            task()
            spent.append(time.perf_counter() - begun)
        return round(float(np.median(spent[1:])), 3)

    def of_series() -> None:
        repaired(volume.data, slice_axis(volume.affine), exams.Findings())
        first_pass.first_pass(read.series[read.mask], read.timing, read.frame_seconds)

    without = timed(of_series)
    motion = timed(lambda: exams.with_motion_finding(read))
    assert "motion" in {finding.name for finding in exams.with_motion_finding(read).findings}
    return {"shape": list(exam.series.shape), "without_motion": without, "with_motion": round(without + motion, 3)}


TEXT = """# Findings

Whatever is doubtful about an exam is reported as a **finding**: the same list in `check`, `deconvolve`, `predict`,
`evaluate` and `prepare`, on the pages and in the JSON file beside each map (`Findings`: name, severity, sentence,
value, flag).

- **error**: the maps would mean nothing. The exam is rejected, in one line that names the cause and what to do. Where
  you know better, `--accept=NAME,…` accepts the risk; the finding is then a warning that says so in every file that is
  written.
- **warning**: the maps may be wrong; somebody must look.
- **note**: something was repaired or assumed, or is a known limit of the method; read it before you use the maps.

The flag in brackets behind a sentence overrides what was found, for example `[--tr=SECONDS]`.

## Names

| name | what it is about | severity |
|---|---|---|
{names}

## False alarms and cost

Clean phantom exams of known truth were read (`python studies/findings.py --real=EXAM.nii.gz`, record:
[findings.json](benchmarks/findings.json)). A warning is justified where the truth says that the head moved, that the
exam was cut short, or that it has five slices or fewer. What spoiled exams come to is on the page about
[reliability](reliability.md):

| exams | number | rejected | with a warning | of these without reason |
|---|---|---|---|---|
{table}

The checks of one exam of 128 x 128 x 25 x 60 whose head moved take {without_motion:.2f} s, and {with_motion:.2f} s with
the check of head motion, on two CPU cores that other work shared. What they find is tested on exams with deliberate
faults, one kind at a time (`tests/app/test_silence.py`, `tests/data/test_nifti.py`, `tests/data/checks/test_timing.py`,
`tests/data/checks/test_map_checks.py`, `tests/data/test_outside_brain.py`).

## What is not found

- A frame length that is wrong by less than a factor of about two, where nothing contradicts it.
- A step of the receiver's gain below 5 %, or below 18 % within the first pass.
- Head motion below 0.8 mm and 0.8 degrees, and in exams of fewer than 600 bright voxels.
- Frames that are exchanged with their neighbours.
- For certain, a series of another organ: its maps carry a warning in most cases, of whatever is odd about it.
"""


def page(record: dict[str, object]) -> str:
    """docs/findings.md from the table of names and a record."""
    table = [
        f"| {name} | {row['exams']} | {len(row['errors'])} | {row['warned']} | {row['warned_without_reason']} |"
        for name, row in record["cohorts"].items()
    ]
    if "real" in record:
        doubts = [finding for finding in record["real"] if finding["Severity"] != "note"]
        table.append(
            f"| a real exam (one slice, 50 frames of 2 s) | 1 | 0 | {int(bool(doubts))} | {int(bool(doubts))} |"
        )
    names = [f"| `{name}` | {kind.about} | {', '.join(kind.severities)} |" for name, kind in KINDS.items()]
    return TEXT.format(names="\n".join(names), table="\n".join(table), **record["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", type=int, default=40, help="exams of the two presets; half as many of the others")
    parser.add_argument("--real", help="a real exam to read besides")
    arguments = parser.parse_args()
    record: dict[str, object] = {"seed": SEED, "cohorts": {}}
    for name, (draw, share) in COHORTS.items():
        counted = cohort_record(draw, int(share * arguments.exams))
        record["cohorts"][name] = counted
        print(
            f"{name}: {counted['exams']} exams, {len(counted['errors'])} errors, {counted['warned']} warned "
            f"({counted['warned_without_reason']} without reason): {counted['warnings']}",
            flush=True,
        )
    if arguments.real:
        real = exams.with_motion_finding(exams.load_exam(arguments.real))
        record["real"] = [finding.to_json() for finding in real.findings]
        print("real exam:", *(finding.line() for finding in real.findings), sep="\n  ")
    record["seconds"] = seconds()
    print("seconds:", record["seconds"])
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
