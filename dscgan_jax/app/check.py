"""--mode=check: which exams of a folder are usable, and what is doubtful about them."""

import csv
import io
import math
import pathlib
from collections.abc import Iterable, Sequence

import ml_collections

from dscgan_jax.app import options, places
from dscgan_jax.app.output import progress_bar
from dscgan_jax.data import subject_files
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.data.checks.folder import Check, Checked, CheckRow
from dscgan_jax.errors import InputError
from dscgan_jax.files import all_or_nothing, write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.processes import interrupted_by_signals, usable_cores

MOST_WORKERS = 4  # unless more are asked for: each holds an exam
FEW = 6  # exams: processes of their own would take as long to start
PAGE, TABLE = "check.html", "check.csv"


def run(config: ml_collections.ConfigDict, output: pathlib.Path | None = None, workers: int | None = None) -> None:
    """Prints one line for each subject, and its findings.

    Args:
      config: names the folder.
      output: folder for a page and a table; None: there are none.
      workers: processes; None: as many as there are cores, at most `MOST_WORKERS`.
    """
    if not config.data.root:
        raise InputError("--mode=check looks at a folder of exams: give --config.data.root=DIR.")
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder.")
    root, overrules = places.exams_root(config), subject_files.Overrules.from_config(config.data)

    def each(how: Check, subjects: Sequence[subject_files.SubjectFiles]) -> Iterable[Checked]:
        count = min(workers or min(usable_cores(), MOST_WORKERS), len(subjects))
        return _side_by_side(how, subjects, count, workers)

    rows = folder_checks.check(root, config.data.layout, overrules, each=each)
    print(as_text(rows))
    if output is not None:
        _write(rows, output, str(root))
        print(f"page:        {output / PAGE}\ntable:       {output / TABLE}")


def _side_by_side(
    how: Check, subjects: Sequence[subject_files.SubjectFiles], count: int, asked: int | None
) -> Iterable[Checked]:
    """Exams by several processes; by this one where there are few. One that dies costs the exam that it was on."""
    from dscgan_jax import workers as processes

    with progress_bar(len(subjects), "checking") as bar:
        if count < 2 or (asked is None and len(subjects) < FEW):
            for checked in folder_checks.one_by_one(how, subjects):
                bar.update(1)
                yield checked
            return
        found: list[Checked] = []

        def done(_: subject_files.SubjectFiles, checked: Checked) -> None:
            found.append(checked)
            bar.update(1)

        def lost(files: subject_files.SubjectFiles, reason: str) -> None:
            done(files, Checked(CheckRow(files.subject, f"{files.series}: {reason}", files.split)))

        with interrupted_by_signals():
            processes.run_all(how, subjects, count, done, lost)
        yield from found


def _write(rows: Sequence[CheckRow], output: pathlib.Path, source: str) -> None:
    """The page and the table."""
    from dscgan_jax.pages import check as check_page

    with all_or_nothing(output) as folder:
        write_whole(folder / PAGE, check_page.page(rows, source, _offered))
        write_whole(folder / TABLE, _csv(rows))


def _csv(rows: Sequence[CheckRow]) -> str:
    """One line for each exam; an empty field is undefined."""
    from dscgan_jax.pages.check import COLUMNS

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("subject", "usable", "reason", "split", *(column.title for column in COLUMNS), "maps", "findings")
    writer.writerow(names)
    for row in rows:
        numbers = [None if row.details is None else column.value(row.details) for column in COLUMNS]
        maps = " ".join(row.details.maps) if row.details else ""
        findings = " ".join(dict.fromkeys(one.name for one in row.details.findings)) if row.details else ""
        shown = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow(
            [row.subject, "yes" if row.usable else "no", row.reason, row.split or "", *shown, maps, findings]
        )
    return text.getvalue()


def _offered(finding: Finding) -> Finding:
    return options.offered(finding, options.CHECK)


def as_text(rows: Sequence[CheckRow]) -> str:
    """The rows as text: one line for each subject, then how many are usable."""
    width = max((len(row.subject) for row in rows), default=0)
    lines = []
    for row in rows:
        if row.details is None:
            lines.append(f"{row.subject:<{width}}  NOT USABLE  {row.reason}")
            continue
        lines.append(f"{row.subject:<{width}}  usable      {_one_line(row.details)}, split: {row.split or 'random'}")
        lines += [f"{'':<{width}}  {_offered(one).line()}" for one in row.details.findings]
    n_usable = sum(row.usable for row in rows)
    rest = "." if n_usable == len(rows) else "; correct the others, or set them to exclude in participants.tsv."
    lines.append(f"{n_usable} of {len(rows)} subjects usable{rest}")
    return "\n".join(lines)


def _one_line(details: folder_checks.ExamDetails) -> str:
    echo = f"{1000 * details.echo_seconds:.0f} ms" if math.isfinite(details.echo_seconds) else "unknown"
    return (
        f"{' x '.join(map(str, details.shape))}, {details.frames} frames of {details.frame_seconds:.3g} s, TE {echo}, "
        f"maps: {' '.join(details.maps) or 'none'}, mask: {details.mask_source}, bolus in frame "
        f"{details.timing.peak_frame}"
    )
