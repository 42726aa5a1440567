"""Records of speed -> tables: one record for the terminal, or all of them on a page.

python -m dscgan_jax.speed.page docs/benchmarks/*.json > docs/benchmarks.md
"""

import sys
from collections.abc import Iterable, Sequence

from dscgan_jax.speed import program, words
from dscgan_jax.speed.records import PROGRAM, VERSUS, Record, entry, read, setting_of
from dscgan_jax.speed.targets import checklist, growth
from dscgan_jax.speed.words import ABSENT, NORM_WORDS, PLACE_WORDS, Form, or_absent, percent, seconds, times

Rows = list[tuple[str, str]]  # what, its value

TIMES = {"first": "cold", "median": "warm"}
LINEAR_WORDS = {
    "slices": "slices of an exam, predict",
    "frames": "frames, training step",
    "subjects": "exams, prepare",
}
VERSUS_HEAD = (
    "work",
    "dscgan_jax",
    "PyTorch",
    "ratio",
    "ratio of each round",
    "of our peak",
    "of PyTorch's peak",
)

INTRODUCTION = """\
# Benchmarks

How fast training and prediction are. This page is made from the records in [benchmarks/](benchmarks/) by
`python -m dscgan_jax.speed.page docs/benchmarks/*.json > docs/benchmarks.md`; each section names the command that made
its record. What was not measured is marked as such; nothing is estimated.
"""

HOW_TO_READ = """\
## How to read the tables

- **Seconds** are medians of repeats after warm-up, with the device waited for each time. Ratios are ratios of medians
  from one run in which the sides take turns, block by block, each in a process of its own.
- **Counted operations** are a multiplication and an addition of each kernel weight at each position, for what training
  needs: forward and backward through the generator once (without the gradient of the series), and the three passes of
  the discriminator. Norms, activations, losses and Adam are left out. For the paper's setting (128 x 128 x 80, width
  128, discriminator 64, one map) a training slice counts 3.063 TFLOP: 1.0143 forward through the temporal stack and
  0.0023 through the U-Net, both three times, and 0.014 in the discriminator.
- **The traced program's** operations are those of all matrix products and convolutions in the step that runs, loops as
  often as they run. They include what the implementation does in addition: computing again instead of storing, and the
  windows at an image's edge; they leave out results that nobody needs, and frames that a kernel's taps do not reach.
  **XLA's own count** is that of its cost analysis before compilation: it includes
  elementwise work, but counts a loop's body once, so it is too low for a step that works in tiles.
- **Matrix peak** is a large square matrix product of random values, timed in turns with the work that it is compared
  to, at the default precision of the backend (for float32 on recent GPUs that is TF32). **Bandwidth** is `a + s b` on
  long vectors, bytes read and written, likewise.
- **XLA's bytes** add up what each fused operation reads and writes, a loop's body once. What stays in a cache counts
  too.
- **The PyTorch twin** (`benchmarks/torch_twin.py`) computes what was published, checked against recorded numbers of the
  published code. *Published* is the released form of the step: float32, the fake not detached, so that the
  discriminator's loss goes back through the generator in vain. *Tuned* is what PyTorch can do: detached, frozen, fused
  Adam, the memory layout that is fastest, on a GPU with bf16 autocast and `torch.compile`, on a CPU eager; a second
  record shows what compiling adds. On a CPU our side keeps freed memory, as it does in every run; PyTorch runs with its
  own allocator. All forms count as the same work, so their fractions of the peak can be compared; the published form
  really executes 1.7 times as much.
"""


# --- One record ----------------------------------------------------------------------------------------------------


def rows_of(record: Record) -> Rows:
    """What a record of one config says; a row for each entry, absent ones too."""
    return [
        *_step_rows(record),
        *_best_batch_rows(record.get("best_batch")),
        *_batch_rows(record),
        *_exam_rows(record),
        *_deconvolution_rows(record),
    ]


def _row(record: Record, what: str, path: str, form: Form) -> tuple[str, str]:
    return what, or_absent(entry(record, path), form)


def _step_rows(record: Record) -> Rows:
    entries: tuple[tuple[str, str, Form], ...] = (
        ("matrix product, float32", "peaks.float32", words.flop_rate),
        ("matrix product, bfloat16", "peaks.bfloat16", words.flop_rate),
        ("memory bandwidth", "peaks.bandwidth", words.byte_rate),
        ("step: compilation", "step.compile_seconds", seconds),
        ("step: median", "step.seconds.median", seconds),
        ("step: rate", "step.slices_per_second", words.slices),
        ("step: counted operations of a slice", "counted.training", words.flops),
        ("step: counted over the traced program's", "step.counted_over_traced", words.share),
        ("step: counted over XLA's own count", "step.counted_over_xla", words.share),
        ("step: model operations", "step.flops_per_second", words.flop_rate),
        ("step: of the float32 matrix peak", "step.fraction_of_peak.float32", percent),
        ("step: of the bfloat16 matrix peak", "step.fraction_of_peak.bfloat16", percent),
        ("step: XLA's bytes", "step.xla_bytes", words.n_bytes),
        ("step: of the memory bandwidth", "step.fraction_of_bandwidth", percent),
        ("step: temporary memory", "step.temporary_bytes", words.mebibytes),
        ("step: peak memory of the device", "step.device_peak_bytes", words.mebibytes),
        ("step: peak memory of the process", "step.resident_peak_bytes", words.mebibytes),
        ("100 epochs of 142 x 21 slices", "step.minutes_of_paper", words.minutes),
    )
    return [_row(record, *one) for one in entries]


def _best_batch_rows(steps: list[Record] | None) -> Rows:
    """Rates of doubled batches."""
    if not steps:
        return [("best batch", ABSENT)]
    best = max(steps, key=lambda step: step["slices_per_second"])
    fraction = best["fraction_of_peak"]["bfloat16"] or best["fraction_of_peak"]["float32"]
    tried = ", ".join(f"{step['batch_size']}: {words.slices(step['slices_per_second'])}" for step in steps)
    text = (
        f"{best['batch_size']}: {words.slices(best['slices_per_second'])}, {percent(fraction)} of the matrix peak, "
        f"{words.minutes(best['minutes_of_paper'])} for 100 epochs of 142 x 21 slices (tried {tried})"
    )
    return [("best batch", text)]


def _batch_rows(record: Record) -> Rows:
    consumption = entry(record, "step.slices_per_second")
    rows = []
    for place, where in PLACE_WORDS.items():
        rate = entry(record, f"pipeline.slices_per_second.{place}")
        over = f", {times(rate / consumption)} consumption" if rate and consumption else ""
        rows.append((f"batches, data set {where}", or_absent(rate, words.slices) + over))
    return rows


def _exam_rows(record: Record) -> Rows:
    exam = f"exam of {entry(record, 'inference.slices') or 21} slices"
    rows = [
        _row(record, f"{exam}, {maps}, {norm_words}: {time}", f"inference.{kind}.{norm}.{which}", seconds)
        for kind, maps in (("one_map", "one map"), ("five_maps", "five maps"))
        for norm, norm_words in NORM_WORDS.items()
        for which, time in TIMES.items()
    ]
    rows += [
        _row(record, "… of which preparation on the host", "inference.preparation.median", seconds),
        _row(record, "predict, start to files: no compiled programs yet", "start_to_files.first", seconds),
        _row(record, "predict, start to files: again", "start_to_files.again", seconds),
    ]
    for norm, norm_words in NORM_WORDS.items():
        what = f"temporal stack, {norm_words}: of the float32 matrix peak"
        rows.append(_row(record, what, f"temporal_stack.{norm}.fraction_of_peak.float32", percent))
    return rows


def _deconvolution_rows(record: Record) -> Rows:
    return [
        _row(record, f"deconvolution, {method}: {time}", f"deconvolution.methods.{method}.{which}", seconds)
        for method in ("csvd", "osvd", "parametric")
        for which, time in TIMES.items()
    ]


def linear_rows(record: Record) -> list[tuple[str, ...]]:
    """(what, and at three sizes each: size and seconds, then how far from linear); one row for each quantity."""
    rows = []
    for what, text in LINEAR_WORDS.items():
        measured = entry(record, f"linear.{what}") or []
        cells = [f"{row['n']}: {seconds(row['seconds'])}" for row in measured] or [ABSENT] * 3
        rows.append((text, *cells, or_absent(growth(measured), times)))
    return rows


def versus_rows(record: Record) -> list[tuple[str, ...]]:
    """(work, ours, theirs, ratio, lowest and highest ratio of a round, our fraction of our peak, theirs of theirs)."""
    rows = []
    for one in record["comparisons"]:
        low, high = (or_absent(one.get(f"ratio_{end}"), words.share) for end in ("lowest", "highest"))
        rows.append(
            (
                one["what"],
                or_absent(one.get("jax_seconds"), seconds),
                or_absent(one.get("torch_seconds"), seconds),
                or_absent(one.get("ratio"), times),
                f"{low} – {high}" if one.get("ratio") else ABSENT,
                or_absent(one.get("jax_fraction_of_peak"), percent),
                or_absent(one.get("torch_fraction_of_peak"), percent),
            )
        )
    return rows


def terminal(record: Record) -> str:
    """What was measured, for a terminal."""
    grown = [
        (f"linear cost: {what}", f"{', '.join(cells)}; per unit, largest over smallest: {ratio}")
        for what, *cells, ratio in linear_rows(record)
        if ratio != ABSENT
    ]
    rows = [row for row in [*rows_of(record), *grown] if row[1] != ABSENT]
    width = max(len(what) for what, _ in rows)
    return title_of(record) + "\n" + "".join(f"{what:<{width}}  {value}\n" for what, value in rows)


def title_of(record: Record) -> str:
    """Device and sizes in one line."""
    hardware, setting = record["hardware"], setting_of(record)
    many = f"{hardware['devices']} x " if hardware.get("devices", 1) > 1 else ""
    cores = f", {hardware['cores']} cores" if hardware["backend"] == "cpu" else ""
    compiled = ", torch.compile" if setting.get("torch_compile") else ""
    return (
        f"{many}{hardware['device']}{cores}: {setting['size']} x {setting['size']} x {setting['frames']}, "
        f"width {setting['width']}, batch {setting['batch']}, {setting['compute']}{compiled}"
    )


# --- The page ------------------------------------------------------------------------------------------------------


def page(records: Sequence[Record]) -> str:
    """The whole page from records of all kinds."""
    targets = table(("what", "target", "measured", "met"), checklist(records))
    parts = [INTRODUCTION, "## Targets\n", targets, HOW_TO_READ]
    sections = {VERSUS: _versus_section, PROGRAM: _program_section}
    for record in records:
        parts += sections.get(record["schema"], _config_section)(record)
    return "\n".join(parts)


def _config_section(record: Record) -> list[str]:
    head = ("cost at three sizes", "", "", "", "per unit, largest over smallest")
    tables = [table(("what", "measured"), rows_of(record)), table(head, linear_rows(record))]
    return [f"## {title_of(record)}\n", _origin(record), *tables]


def _versus_section(record: Record) -> list[str]:
    title = f"## Against PyTorch: {title_of(record)}\n"
    return [title, _origin(record), versus_words(record), table(VERSUS_HEAD, versus_rows(record))]


def _program_section(record: Record) -> list[str]:
    tables = [table(head, rows) for head, rows in program.section(record)]
    return [f"## {program.title(record)}\n", program.origin(record), program.HOW_TO_READ, *tables]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _origin(record: Record) -> str:
    """How a record was made."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return (
        f"`{record['command']}`; {versions}; load {record['load_before']:.1f} before and {record['load_after']:.1f} "
        f"after on {record['hardware']['cores']} cores.\n"
    )


def versus_words(record: Record) -> str:
    """What each side was."""
    chosen = "; ".join(f"{what}: {variant}" for what, variant in record["torch"]["chosen"].items())
    peaks = "; ".join(
        f"{kind}: {or_absent(rate['jax'], words.flop_rate)} here, "
        f"{or_absent(rate['torch'], words.flop_rate)} in PyTorch"
        for kind, rate in record["peaks"].items()
    )
    difference = or_absent(record.get("largest_difference"), words.power_of_ten)
    torch = record["torch"]
    return (
        f"Matrix products, {peaks}. PyTorch {torch['torch']} with {torch['threads']} threads chose: {chosen}. "
        f"Same weights, same series: the largest difference of the maps is {difference}.\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page(read(sys.argv[1:])))
