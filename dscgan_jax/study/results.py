"""What the jobs of a study left -> its records, pictures of patients, CSV tables and page."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from dscgan_jax import provenance
from dscgan_jax.app import places
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.exams import Exam, load_exam
from dscgan_jax.evaluation import comparison, records
from dscgan_jax.evaluation.comparison import BRAIN_ERROR, Entry
from dscgan_jax.figures import ink, panels
from dscgan_jax.figures import study as figures
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages.blocks import Picture, write_markdown
from dscgan_jax.pages.study import page
from dscgan_jax.pages.study.differences import all_differences
from dscgan_jax.pages.study.record import RECOMMENDED, TITLES, StudyRecord
from dscgan_jax.pages.subjects import slices_to_show
from dscgan_jax.study import plan
from dscgan_jax.study.jobs import Done
from dscgan_jax.study.plan import ACUTE, CHRONIC, DIFFICULT, Job, Study

PRIMARY, RUNNING = "network_per_slice", "network_running"
SHOWN = ("temp", "pix2pix", "temp-recommended", "parametric")  # methods in pictures of patients
SECONDS_PER_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Scored:
    """A job that has scored something.

    Attributes:
      job: it.
      done: what it left.
      rows: of its `subjects.csv`.
      maps: folder of its maps, by source.
    """

    job: Job
    done: Done
    rows: tuple[records.Row, ...]
    maps: pathlib.Path


def gather(study: Study) -> StudyRecord:
    """Reads what is done; what is not is named."""
    jobs = study.jobs()
    scored = {job.name: one for job in jobs if (one := _scored(study, job))}
    entries: list[Entry] = []
    nulls: dict[str, tuple[Entry, Entry]] = {}
    kinds = _kinds(study)
    for cohort in (ACUTE, CHRONIC, DIFFICULT):
        of_cohort = [one for one in scored.values() if one.job.cohort == cohort]
        # A network that is scored as it is has the medians, and without a split column the patients, of other exams.
        own = [one for one in of_cohort if one.job.kind != plan.UNCHANGED]
        if own:
            nulls[cohort] = comparison.nulls_of((row for one in own for row in one.rows), cohort)
            found = list(_entries(study, cohort, of_cohort, _patients(nulls[cohort][0])))
            entries += [_with_rejected(entry, kinds) for entry in found] if cohort == DIFFICULT else found
    record = StudyRecord(
        scale=study.scale,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        phantom=not study.roots,
        patients={cohort: len(_patients(nulls[cohort][0])) for cohort in (ACUTE, CHRONIC) if cohort in nulls},
        entries=entries,
        nulls=nulls,
        kinds=kinds if DIFFICULT in nulls else {},
        asked={one.title: one.asks for one in study.methods() if one.asks},
        examples=(),
        missing=[job.name for job in jobs if job.kind != plan.PREPARE and Done.of(study, job) is None],
        facts=_facts(study, scored.values()),
    )
    return dataclasses.replace(record, examples=list(_pictures(study, record, scored)))


def write(record: StudyRecord, study: Study, docs: pathlib.Path | None) -> pathlib.Path:
    """`study.html`, `study.csv`, `study_summary.csv`, `study_differences.csv`; the page as Markdown where asked for."""
    everything = [*record.entries, *(null for pair in record.nulls.values() for null in pair)]
    write_whole(study.folder / "study.csv", comparison.study_csv(everything))
    write_whole(study.folder / "study_summary.csv", comparison.summary_csv(everything))
    write_whole(study.folder / "study_differences.csv", comparison.differences_csv(all_differences(record)))
    path, content = study.folder / "study.html", page.blocks(record)
    write_whole(path, page.html_page(record, content))
    if docs is not None:
        write_markdown(docs, "The paper's study", content)
    return path


# ------------------------------------------------------------------------------------------------ records


def _scored(study: Study, job: Job) -> Scored | None:
    done = Done.of(study, job)
    if done is None or not done.records:
        return None
    folder = study.folder / done.records
    rows = tuple(records.read_subjects(folder / "subjects.csv"))
    config = study.config(job)
    # [-1, 1] are the ranges of a cohort's own training exams, and TTP counts from the first frame, as in the paper.
    if job.kind == plan.UNCHANGED or (job.kind == plan.TUNE and config.train.start_ranges == "start_from"):
        rows = comparison.without_scaled(rows)
    elif config.data.lead_seconds:
        rows = comparison.without_scaled(rows, ("ttp",))
    return Scored(job, done, rows, folder.parent.parent / "maps" / folder.name)


def _patients(entry: Entry) -> list[str]:
    return records.unique(row["subject"] for row in entry.rows)


def _entries(study: Study, cohort: str, scored: Sequence[Scored], patients: Sequence[str]) -> Iterator[Entry]:
    """All methods on the patients of one cohort, in the order of the plan."""
    scored = [
        dataclasses.replace(one, rows=tuple(row for row in one.rows if row["subject"] in patients)) for one in scored
    ]
    networks = [one for one in scored if one.job.method and one.job.kind != plan.TREES]
    groups: dict[tuple[str, str], list[Scored]] = {}
    for one in networks:
        kind = one.job.kind if one.job.kind in (plan.SCRATCH, plan.UNCHANGED) else ""
        groups.setdefault((one.job.method, kind), []).append(one)
    for (name, kind), of_method in groups.items():
        method = study.method(name)
        title, part, short = method.title, method.part, name
        if kind == plan.SCRATCH:
            title, part, short = f"{title}, chronic exams alone", "controls", f"{name}-alone"
        elif kind == plan.UNCHANGED:
            title, part, short = f"{title}, acute network as it is", "controls", f"{name}-unchanged"
        elif cohort == CHRONIC:
            title = f"{title}, fine-tuned"
        entry = _entry(cohort, short, title, part, PRIMARY, of_method)
        yield dataclasses.replace(entry, against=method.against)
        if name == RECOMMENDED and cohort == ACUTE:
            tmax = [one for one in of_method if one.job.map_name == "tmax"]
            yield _entry(cohort, f"{name}-running", f"{title}, running statistics", "ablations", RUNNING, tmax)
    if cohort == DIFFICULT:
        yield from _conventional(cohort, networks, patients, "automatic")
    for one in scored:
        if one.job.kind == plan.TREES:
            title = "trees" if cohort == ACUTE else "trees, chronic exams alone"
            yield _entry(cohort, plan.TREES_METHOD, title, "comparators", plan.TREES_METHOD, [one])
        elif one.job.kind in (plan.CONVENTIONAL, plan.TRUE_AIF):
            yield from _conventional(cohort, [one], patients, "true" if one.job.kind == plan.TRUE_AIF else "automatic")


def _conventional(cohort: str, scored: Sequence[Scored], patients: Sequence[str], aif: str) -> Iterator[Entry]:
    """The conventional methods of a job, and whom they refuse."""
    for source, words in (("parametric", "parametric fit"), ("osvd", "oSVD")):
        found = [comparison.of_source(one.rows, source) for one in scored]
        rows = next((rows for rows in found if rows), ())
        if not rows:
            continue
        known = {row["subject"] for row in rows}
        name, part = (source, "conventional") if aif == "automatic" else (f"{source}-true-aif", "truth")
        refused = tuple(who for who in patients if who not in known)
        yield Entry(cohort, name, f"{words}, {aif} AIF", part, rows, refused)


def _entry(cohort: str, name: str, title: str, part: str, source: str, scored: Sequence[Scored]) -> Entry:
    trained = [one.done for one in scored if one.done.steps_per_second is not None]
    seconds = [one.done.seconds for one in scored if one.job.kind in (*plan.TRAINS, plan.TREES)]
    return Entry(
        cohort,
        name,
        title,
        part,
        tuple(row for one in scored for row in comparison.of_source(one.rows, source)),
        hours=sum(seconds) / SECONDS_PER_HOUR if seconds and source != RUNNING else None,
        resumed=any(one.done.resumed for one in scored),
        steps_per_second=trained[0].steps_per_second if trained and source != RUNNING else None,
    )


def _with_rejected(entry: Entry, kinds: Mapping[str, Sequence[str]]) -> Entry:
    """Exams that cannot be read at all have maps by no method."""
    known = {row["subject"] for row in entry.rows}
    return dataclasses.replace(
        entry, refused=tuple(who for patients in kinds.values() for who in patients if who not in known)
    )


def _kinds(study: Study) -> dict[str, list[str]]:
    """{kind of difficulty: its patients}, from the truth of the exams."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(study.difficult_folder.rglob("*_truth.json")):
        kind = json.loads(path.read_text(encoding="utf-8"))["difficulty"]
        kinds.setdefault(kind, []).append(path.name.removesuffix("_truth.json"))
    return kinds


def _facts(study: Study, scored: Sequence[Scored]) -> list[tuple[str, str]]:
    versions = provenance.software_versions()
    hardware = records.unique(f"{one.done.device}, {one.done.cores} cores a job" for one in scored)
    size = study.size
    counts = "; ".join(f"{cohort} {'/'.join(map(str, counts))}" for cohort, counts in size.counts.items())
    where = {cohort: study.roots.get(cohort, "phantom exams") for cohort in (ACUTE, CHRONIC)}
    command = f"python launch/study.py --scale={study.scale}" + (f" --seed={study.seed}" if study.seed else "")
    return [
        ("Command", command),
        ("Exams", ", ".join(f"{cohort}: {source}" for cohort, source in where.items())),
        *([("Training, validation and test exams", counts)] if not study.roots else []),
        (
            "Steps",
            f"{size.steps} of a training, {size.tuned_steps} of fine-tuning" if size.steps else "the paper's epochs",
        ),
        ("Hardware", "; ".join(hardware)),
        ("Software", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
    ]


# ------------------------------------------------------------------------------------------------ pictures


def _pictures(study: Study, record: StudyRecord, scored: Mapping[str, Scored]) -> Iterator[Picture]:
    """Median and worst patient of both cohorts, and one of each kind that nobody can post-process."""
    for cohort in (ACUTE, CHRONIC):
        judge = next((one for name in SHOWN if (one := record.entry(cohort, name)) and one.maps), None)
        if judge is None:
            continue
        name = "tmax" if "tmax" in judge.maps else judge.maps[0]
        errors = sorted((error, who) for who, error in judge.by_patient(name, BRAIN_ERROR).items())
        for title, (_, who) in (("median", errors[len(errors) // 2]), ("worst", errors[-1])):
            caption = f"{TITLES[cohort]}: the {title} patient by {MAPS[name].title} error of {judge.title} ({who})."
            yield Picture(f"{cohort}_{title}", _patient(study, record, scored, cohort, who), caption)
    figure = _difficult(study, record, scored)
    if figure:
        caption = "One patient of each kind that nobody can post-process, as the paper's figure 7B: Tmax."
        yield Picture("difficult_patients", figure, caption)


def _patient(study: Study, record: StudyRecord, scored: Mapping[str, Scored], cohort: str, who: str) -> bytes:
    """All maps of a patient by all shown methods."""
    exam = _exam(study, cohort, who)
    methods = [one for name in SHOWN if (one := record.entry(cohort, name))]
    names = [name for name in MAP_NAMES if name in exam.maps and any(name in one.maps for one in methods)]
    shown = "tmax" if "tmax" in exam.maps else names[0]
    [z, *_] = slices_to_show(exam.maps[shown], exam.mask, shown, 1)
    columns = [_column(scored, methods, exam, name, z) for name in names]
    return ink.to_png(figures.patient_figure(columns, [one.title for one in methods]), dpi=80)


def _difficult(study: Study, record: StudyRecord, scored: Mapping[str, Scored]) -> bytes | None:
    """Tmax of the first patient of each kind of whom there is a map; None where there is none at all."""
    methods = [one for name in SHOWN if (one := record.entry(DIFFICULT, name))]
    shown = {row["subject"] for one in methods for row in one.rows}
    columns = []
    for kind, patients in record.kinds.items():
        for who in [who for who in patients if who in shown][:1]:
            exam = _exam(study, DIFFICULT, who)
            [z, *_] = slices_to_show(exam.maps["tmax"], exam.mask, "tmax", 1)
            column = _column(scored, methods, exam, "tmax", z)
            columns.append(dataclasses.replace(column, heading=kind.replace("_", " ")))
    if not columns:
        return None
    return ink.to_png(figures.patient_figure(columns, [one.title for one in methods], errors=False), dpi=80)


def _column(
    scored: Mapping[str, Scored], methods: Sequence[Entry], exam: Exam, name: str, z: int
) -> figures.PatientMap:
    by_method = {}
    for one in methods:
        path = _map_path(scored, one, name, exam.subject)
        if path is not None:
            by_method[one.title] = panels.axial(same_grid.on_grid(path, exam.stored), z)
    return figures.PatientMap(
        name,
        panels.axial(exam.maps[name], z),
        by_method,
        panels.axial(exam.mask, z),
        float(exam.voxel_mm[1] / exam.voxel_mm[0]),
        exam.timing.arrival_seconds(exam.frame_seconds),
    )


def _map_path(scored: Mapping[str, Scored], entry: Entry, name: str, who: str) -> pathlib.Path | None:
    """The file of a patient's map by a method; None where it made none."""
    source = entry.method if entry.part == "conventional" else PRIMARY
    for one in scored.values():
        made = one.job.method == entry.method or entry.part == "conventional"
        other = one.job.kind in (plan.SCRATCH, plan.UNCHANGED, plan.TRUE_AIF)
        if made and one.job.cohort == entry.cohort and not other:
            path = one.maps / source / f"{who}_{name}.nii.gz"
            if path.is_file():
                return path
    return None


def _exam(study: Study, cohort: str, who: str) -> Exam:
    """A patient's exam, found and read as the jobs read it."""
    job = next(job for job in study.jobs() if job.cohort == cohort)
    found = places.find_subjects(places.with_root(study.config(job)))
    return load_exam(next(files for files in found if files.subject == who))
