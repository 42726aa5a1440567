"""The parts of pages and tables, how a page looks, and the glossary of its numbers."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from dscgan_jax.figures.ink import NULL_TITLES, source_title
from dscgan_jax.findings import Finding

NULLS = tuple(NULL_TITLES)
UNDEFINED = "–"
RESEARCH_ONLY = "Research use only. Not a medical device; not for diagnosis or treatment."

# Other people's numbers, beside which ours can be read though the data are others.
ANCHORS = (
    "A network's Tmax against that of a commercial program, MR of 151 patients, lesions outlined by two raters: r of "
    "the volume 0.865 to 0.914 and Dice 0.70 to 0.85, over 4, 6 and 8 s (Meier et al. 2019).",
    "Two programs, MR of 299 patients: concordance of the hypoperfused volume 0.88, kappa of DEFUSE 3 eligibility "
    "0.76, each with its own core (Kim et al. 2025, doi 10.3389/fnins.2025.1660870).",
    "Two programs, MR of 81 patients: hypoperfused volumes 20.5 mL apart on average (Deutschmann et al. 2021).",
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body{kind}>
<header>
<p class="kicker">dscgan_jax · perfusion maps · research use only</p>
<h1>{title}</h1>
<p class="subtitle">{subtitle} · {created} UTC</p>
</header>
{body}
<footer>{footer}</footer>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1f2933; --muted: #616e7c; --line: #dde2e8; --soft: #f5f7f9; --accent: #1565a9; --warn: #fdf6e7; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 2.2rem 1.6rem 3rem; color: var(--ink); background: white;
  font: 15px/1.5 "Source Sans 3", "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
body.whole-width { max-width: 1500px; }
header { border-bottom: 2px solid var(--ink); padding-bottom: .9rem; margin-bottom: 1.4rem; }
.kicker { margin: 0; color: var(--accent); font-size: .85rem; letter-spacing: .02em; }
h1 { margin: .2rem 0 0; font-size: 1.9rem; line-height: 1.2; }
.subtitle { margin: .3rem 0 0; color: var(--muted); }
h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
h3 small { font-weight: 400; color: var(--muted); margin-left: .4rem; }
p { margin: .3rem 0 .7rem; max-width: 100ch; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
li { margin: .15rem 0; max-width: 95ch; }
.brief { border-left: 4px solid var(--accent); padding: .1rem 1rem .4rem; background: var(--soft); }
.brief h2, .warnings h2 { margin-top: .6rem; }
.brief li { font-size: 1.05rem; }
.warnings { border-left: 4px solid #d69e2e; background: var(--warn); padding: .1rem 1rem .4rem; margin-top: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--muted); font-weight: 600; border-bottom: 1px solid var(--ink); white-space: normal;
  vertical-align: bottom; }
thead th.group { text-align: center; border-bottom: 1px solid var(--line); color: var(--ink); }
tbody th { font-weight: 600; white-space: normal; }
tr.null th, tr.null td { color: var(--muted); font-weight: 400; }
td:last-child { padding-right: .2rem; }
figure { margin: .8rem 0 1.4rem; break-inside: avoid; }
img { max-width: 100%; height: auto; display: block; }
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; margin: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: .3rem 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { font-size: .78rem; background: var(--soft); padding: .8rem; overflow-x: auto; }
footer { margin-top: 2.5rem; padding-top: .7rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } section { break-inside: auto; }
  h2, h3 { break-after: avoid; } .wide { overflow: visible; } tr { break-inside: avoid; } }
"""

GLOSSARY = """
<dl>
<dt>Nulls</dt><dd>Maps made without looking at the series, scored by the same code: <em>blank</em> is 0 everywhere,
<em>training median</em> is one number everywhere in the brain. The value of a method is its margin over them.
Whole-slice SSIM is high for both nulls, because it mostly measures background and the outline of the brain.</dd>
<dt>MAE, RMSE, bias</dt><dd>Mean absolute, root mean square and mean error (predicted minus reference) over all voxels
of the brain mask, on the exam's own grid.</dd>
<dt>r</dt><dd>Pearson correlation over the brain's voxels; undefined (–) for a constant map.</dd>
<dt>Brain SSIM</dt><dd>Structural similarity (7 x 7 pixels) averaged over the brain's voxels, both maps 0 outside; data
range = width of the range of usual values.</dd>
<dt>MAE after one factor</dt><dd>Error that remains after each exam's map is multiplied by the one factor that fits the
reference best: the scale of CBF and CBV is not fixed in real exams.</dd>
<dt>÷ null</dt><dd>MAE divided by the MAE of the training median; 1 means no better than one number for all.</dd>
<dt>Dice</dt><dd>2 · overlap / (predicted + reference); 1 = identical. Undefined where both are empty; these subjects
are counted under “both empty”. “All voxels” pools the subjects, so that large lesions weigh more.</dd>
<dt>Limits of agreement</dt><dd>Mean error of a volume ± 1.96 SD over subjects (Bland and Altman 1986): 95 % of errors
lie between them, if they are normal.</dd>
<dt>r, ICC, concordance</dt><dd>Of volumes, over subjects. Pearson's r overlooks a bias and a wrong scale; the
intraclass correlation (two-way random effects, absolute agreement, single measurement; Shrout and Fleiss 1979) and
Lin's concordance correlation (1989) do not. 1 = identical.</dd>
<dt>Eligible</dt><dd>Volumes meet the imaging criteria of DEFUSE 3 (core &lt; 70 mL, Tmax &gt; 6 s at least 1.8 times
the core and at least 15 mL more) or EXTEND (core &lt; 70 mL, more than 1.2 times, more than 10 mL more); the other
criteria of the trials are not looked at. The core is that of the reference for every source: the true one of phantoms,
else Tmax &gt; 6 s with a CBF below 30 % of that of the other hemisphere. In MR the trials took it from diffusion.</dd>
<dt>Kappa</dt><dd>Cohen's kappa of the decisions by predicted and by reference volume: 1 = always the same, 0 = no more
often than by chance; undefined where both decide the same for everybody.</dd>
<dt>Intervals</dt><dd>In brackets: 95 %, by a bootstrap over the scored subjects; from five subjects on.</dd>
<dt>NRMSE, PSNR, SSIM of slices</dt><dd>Per slice on the network grid in [-1, 1], averaged over the slices of a subject,
then over subjects, as in the paper.</dd>
</dl>
"""


def page(title: str, subtitle: str, created: str, sections: Iterable[str], *, wide: bool = False) -> str:
    """A whole page as one HTML file.

    Args:
      title: plain text.
      subtitle: plain text.
      created: time in UTC, ISO 8601.
      sections: HTML; empty ones are left out.
      wide: whether it holds pictures beside each other, which take the width that there is.
    """
    return _PAGE.format(
        title=html.escape(title),
        kind=' class="whole-width"' if wide else "",
        style=_STYLE,
        subtitle=html.escape(subtitle),
        created=html.escape(created[:16].replace("T", " ")),
        body="\n".join(part for part in sections if part),
        footer=RESEARCH_ONLY,
    )


def number(value: float | None, form: str = ".2f") -> str:
    """A number, or the sign for undefined."""
    return UNDEFINED if value is None else format(value, form)


def ranged(value: float | None, interval: Sequence[float] | None, form: str = "z.2f") -> str:
    """A number with its interval in brackets, where it has one; what rounds to 0 has no sign (`z`)."""
    return number(value, form) + ("" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})")


def spread(stat: Mapping[str, float | None], digits: int = 2, sign: str = "") -> str:
    """Mean ± SD."""
    if stat["mean"] is None:
        return UNDEFINED
    return f"{stat['mean']:{sign}.{digits}f}" + ("" if stat["sd"] is None else f" ± {stat['sd']:.{digits}f}")


def dice_spread(overlap: Mapping[str, float | None]) -> str:
    """Mean ± SD of Dice, from a HYPO record."""
    return spread({"mean": overlap["dice_mean"], "sd": overlap["dice_sd"]})


def counted(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names with commas; of many, the first few and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def section(title: str, *parts: str, kind: str = "") -> str:
    """A section of HTML parts; `kind` is its class in the style sheet."""
    return f'<section class="{kind}"><h2>{html.escape(title)}</h2>{"".join(parts)}</section>'


def bullets(items: Iterable[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def of_findings(findings: Sequence[Finding]) -> list[str]:
    """Sections of warnings and of notes; empty texts where there are none."""
    warnings = [_sentence(finding) for finding in findings if finding.severity != "note"]
    notes = [_sentence(finding) for finding in findings if finding.severity == "note"]
    return [
        section("Warnings", bullets(warnings), kind="warnings") if warnings else "",
        section("Notes", bullets(notes)) if notes else "",
    ]


def _sentence(finding: Finding) -> str:
    """A finding as a reader of the page sees it."""
    accepted = " It was accepted." if finding.accepted else ""
    flag = f" (To overrule: {finding.flag})" if finding.flag else ""
    return f"{finding.text[:1].upper()}{finding.text[1:]}.{accepted}{flag}"


def definitions(facts: Iterable[tuple[str, str]]) -> str:
    """Names and their plain texts beside each other; empty texts are left out."""
    rows = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts if text)
    return f"<dl>{''.join(rows)}</dl>"


def details(summary: str, content: str, is_open: bool = False) -> str:
    """HTML that opens with a click on its summary, a plain text."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{html.escape(summary)}</summary>{content}</details>"


def table(
    head: Sequence[str],
    lines: Sequence[tuple[str, Sequence[str]]],
    groups: Sequence[tuple[str, int]] = (),
    titles: bool = True,
) -> str:
    """A table whose first column is a source (or a subject) and whose other columns are numbers.

    Args:
      head: of all columns.
      lines: first cell and the others.
      groups: headings over columns, and how many each spans.
      titles: whether first cells are names of sources.
    """
    over = "".join(f'<th colspan="{span}" class="group">{html.escape(text)}</th>' for text, span in groups)
    heading = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join(_line(first, cells, titles) for first, cells in lines)
    return (
        f'<div class="wide"><table><thead>{f"<tr>{over}</tr>" if over else ""}<tr>{heading}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _line(first: str, cells: Sequence[str], is_source: bool) -> str:
    kind = ' class="null"' if is_source and first in NULLS else ""
    shown = source_title(first) if is_source else first
    others = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f"<tr{kind}><th>{html.escape(shown)}</th>{others}</tr>"


def image(png: bytes, text: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
