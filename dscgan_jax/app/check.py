"""--mode=check: which exams of a folder are usable, and what is doubtful about them."""

import math
from collections.abc import Sequence

import ml_collections

from dscgan_jax.app import options, places
from dscgan_jax.data import exams
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.errors import InputError


def run(config: ml_collections.ConfigDict) -> None:
    """Prints one line for each subject, and its findings."""
    if not config.data.root:
        raise InputError("--mode=check looks at a folder of exams: give --config.data.root=DIR.")
    overrules = exams.Overrules.from_config(config.data)
    print(as_text(folder_checks.check(places.exams_root(config), config.data.layout, overrules)))


def as_text(rows: Sequence[folder_checks.CheckRow]) -> str:
    """The rows as text: one line for each subject, then how many are usable."""
    width = max((len(row.subject) for row in rows), default=0)
    lines = []
    for row in rows:
        if row.details is None:
            lines.append(f"{row.subject:<{width}}  NOT USABLE  {row.reason}")
            continue
        lines.append(f"{row.subject:<{width}}  usable      {_one_line(row.details)}, split: {row.split or 'random'}")
        lines += [f"{'':<{width}}  {options.offered(one, options.CHECK).line()}" for one in row.details.findings]
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
