"""The read-out of one exam: volumes of late tissue, asymmetry, core, mismatch, and criteria of two trials.

Words:
- *Tmax > t*: the volume of tissue whose Tmax exceeds t, parts below 1 mL left out (`regions.clusters`). Against PET
  5.5 s told critically low flow best (Zaro-Weber et al., Stroke 2010;41:443), against the final infarct 4 to 6 s
  tissue at risk (Olivot et al., Stroke 2009;40:469); 8 and 10 s are severely late.
- *Hypoperfusion intensity ratio*: volume of Tmax > 10 s over that of Tmax > 6 s (Olivot et al., Stroke 2014;45:1018).
- *Core*: a given mask, such as from diffusion; without one, late tissue with a CBF below 30 % of that of the other
  hemisphere, which is how CT perfusion reads it (Campbell et al., Stroke 2011;42:3435) and in MR is research.
- *Mismatch*: volume of Tmax > 6 s less the core, and their ratio; volumes are subtracted, wherever they lie.
- *Criteria* are the imaging ones of DEFUSE 3 (Albers et al., N Engl J Med 2018;378:708) and EXTEND (Ma et al., N Engl J
  Med 2019;380:1795), by core and Tmax > 6 s alone (`agreement.defuse3`, `agreement.extend`). The trials had the Tmax of
  one commercial program and a core from diffusion (MR) or CBF (CT): here they are not the trials' decision.
- A *sensitivity range* is what a volume, or what follows from it, becomes if every Tmax is wrong by 0.5 s, to either
  side. It is no confidence interval: of one exam there is none.

What is undefined is None, and `–` in words, never 0.
"""

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any, Literal

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import regions as where
from dscgan_jax.evaluation.agreement import HYPOPERFUSED_SECONDS, TRIALS, Number
from dscgan_jax.evaluation.regions import Contrast, Regions
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion.hemispheres import CORE_FLOW_SHARE, low_flow_core

# A third of a frame of 1.5 s: what an arterial delay is known to at best, noise and AIF left aside.
TMAX_ERROR_SECONDS = 0.5
SEVERE_SECONDS = 10.0
MOST_CORE = 2 / 3  # of the tissue: a whole hemisphere is half of it; more is a mask of something else
CORE_OUTSIDE = 0.1  # of a given core, beyond which it is said that it lies where there are no maps

CoreSource = Literal["mask", "research: CBF"]
Range = tuple[float, float] | None
UNDEFINED = "–"
TITLES = {"defuse3": "DEFUSE 3", "extend": "EXTEND"}
DEFINITIONS = {
    "tissue_ml": "volume with maps",
    "tmax_over_<t>s_ml": f"volume with Tmax > t, connected parts (through faces, in 3-D) below "
    f"{where.SMALLEST_CLUSTER_ML:g} mL left out",
    "_low, _high": f"sensitivity range: the value if every Tmax were wrong by {TMAX_ERROR_SECONDS:g} s; no confidence "
    "interval",
    "hypoperfusion_intensity_ratio": "volume of Tmax > 10 s over that of Tmax > 6 s (Olivot 2014)",
    "contrasts": "means over two regions, their ratio or difference; late tissue: Tmax > 6 s; its mirror: the same "
    "place of the other hemisphere, less what is late; white matter opposite: normal-appearing, of the hemisphere "
    "without the late tissue",
    "core_ml": "of the given mask as it is, or (research) late tissue with a CBF below 30 % of the mean of the other "
    "hemisphere's normal tissue, parts below 1 mL left out",
    "mismatch_ml": "volume of Tmax > 6 s less the core",
    "mismatch_ratio": "volume of Tmax > 6 s over the core",
    "defuse3": "core < 70 mL, ratio >= 1.8, mismatch >= 15 mL (Albers 2018); imaging criteria alone",
    "extend": "core < 70 mL, ratio > 1.2, mismatch > 10 mL (Ma 2019); imaging criteria alone",
}


@dataclasses.dataclass(frozen=True)
class LateVolume:
    """Tissue whose Tmax exceeds one threshold.

    Attributes:
      threshold_seconds: of Tmax.
      ml: its volume; None without a map of Tmax.
      range_ml: its sensitivity range, lowest and highest.
    """

    threshold_seconds: float
    ml: Number
    range_ml: Range


@dataclasses.dataclass(frozen=True)
class Core:
    """The ischaemic core.

    Attributes:
      ml: its volume; None where it is not known.
      source: `mask` (given), or `research: CBF`.
    """

    ml: Number
    source: CoreSource


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether volumes meet the imaging criteria of a trial.

    Attributes:
      trial: of `agreement.TRIALS`.
      met: None where core or late volume is not known.
      is_stable: whether it is the same over the sensitivity range of the late volume; None likewise.
    """

    trial: str
    met: bool | None
    is_stable: bool | None


@dataclasses.dataclass(frozen=True)
class ReadOut:
    """What is read from the maps of one exam. Research use only.

    Attributes:
      subject: identifier of the exam.
      how: how the maps were made.
      tissue_ml: volume with maps.
      late: of Tmax > 4, 6, 8 and 10 s.
      hypoperfusion_intensity_ratio: None where no tissue has a Tmax above 6 s.
      hypoperfusion_intensity_range: its sensitivity range.
      contrasts: of hemispheres, late tissue, its mirror and white matter; undefined ones too, in one order.
      core: given, or by CBF.
      mismatch_ml, mismatch_ratio: the ratio is None without a core.
      decisions: by the criteria of each trial.
      remarks: why something is undefined or doubtful, a sentence each.
    """

    subject: str
    how: str
    tissue_ml: float
    late: tuple[LateVolume, ...]
    hypoperfusion_intensity_ratio: Number
    hypoperfusion_intensity_range: Range
    contrasts: tuple[Contrast, ...]
    core: Core
    mismatch_ml: Number
    mismatch_ratio: Number
    decisions: tuple[Decision, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names, and the definitions."""
        return {
            "subject": self.subject,
            "maps": self.how,
            **_plain(self._values()),
            "contrasts": [_plain(dataclasses.asdict(one)) for one in self.contrasts],
            "remarks": list(self.remarks),
            "definitions": DEFINITIONS,
            "intended_use": "research only",
        }

    def columns(self) -> dict[str, Any]:
        """One row of a table: plain values by column, None where undefined."""
        contrasts = {
            f"{_short(one.region)}_{_short(one.against)}_{name}": value
            for one in self.contrasts
            for name, value in dataclasses.asdict(one).items()
            if name not in ("region", "against")
        }
        return _plain({"subject": self.subject, **self._values(), **contrasts})

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value with its unit, and a remark, for pages and terminal."""
        rows = [("Tissue with maps", _number(self.tissue_ml, "{:.0f} mL"), "")]
        for one in self.late:
            remark = f"{_range(one.range_ml, '{:.1f}')} mL if Tmax is wrong by {TMAX_ERROR_SECONDS:g} s"
            title = f"Tmax > {one.threshold_seconds:g} s"
            rows.append((title, _number(one.ml, "{:.1f} mL"), remark if one.range_ml else "no map of Tmax"))
        rows += [
            (
                "Hypoperfusion intensity ratio",
                _number(self.hypoperfusion_intensity_ratio, "{:.2f}"),
                f"Tmax > 10 s over Tmax > 6 s; {_range(self.hypoperfusion_intensity_range, '{:.2f}')} if Tmax is wrong "
                f"by {TMAX_ERROR_SECONDS:g} s",
            ),
            *self.contrast_rows(),
            (f"Core{self._label()}", _number(self.core.ml, "{:.1f} mL"), _core_remark(self.core)),
            ("Mismatch volume", _number(self.mismatch_ml, "{:.1f} mL"), "Tmax > 6 s less the core"),
            ("Mismatch ratio", _number(self.mismatch_ratio, "{:.1f}"), self._ratio_remark()),
        ]
        label = self._label()
        return rows + [
            (f"{TITLES[one.trial]} criteria{label}", _met(one.met), self._remark_of(one)) for one in self.decisions
        ]

    def contrast_rows(self) -> list[tuple[str, str, str]]:
        """Those of `rows` that compare regions."""
        return [row for one in self.contrasts for row in _contrast_rows(one)]

    def lines(self) -> list[str]:
        """The most of it in a few lines for a terminal."""
        volumes = " / ".join(_number(one.ml, "{:.1f}") for one in self.late)
        seconds = " / ".join(f"{one.threshold_seconds:g}" for one in self.late)
        trials = ", ".join(f"{TITLES[one.trial]} {_met(one.met)}" for one in self.decisions)
        return [
            f"Tmax > {seconds} s: {volumes} mL; hypoperfusion intensity ratio "
            f"{_number(self.hypoperfusion_intensity_ratio, '{:.2f}')}",
            f"core {_number(self.core.ml, '{:.1f} mL')} ({_core_remark(self.core)}); mismatch "
            f"{_number(self.mismatch_ml, '{:.1f} mL')}, ratio {_number(self.mismatch_ratio, '{:.1f}')}",
            f"imaging criteria: {trials}; research use only",
        ]

    def _values(self) -> dict[str, Any]:
        """What is one number, or one word, each."""
        values: dict[str, Any] = {"tissue_ml": self.tissue_ml}
        for one in self.late:
            name = f"tmax_over_{one.threshold_seconds:g}s_ml"
            low, high = one.range_ml or (None, None)
            values |= {name: one.ml, f"{name}_low": low, f"{name}_high": high}
        low, high = self.hypoperfusion_intensity_range or (None, None)
        values |= {
            "hypoperfusion_intensity_ratio": self.hypoperfusion_intensity_ratio,
            "hypoperfusion_intensity_ratio_low": low,
            "hypoperfusion_intensity_ratio_high": high,
            "core_ml": self.core.ml,
            "core_source": self.core.source,
            "mismatch_ml": self.mismatch_ml,
            "mismatch_ratio": self.mismatch_ratio,
        }
        for one in self.decisions:
            values |= {f"{one.trial}_criteria_met": one.met, f"{one.trial}_is_stable": one.is_stable}
        return values

    def _label(self) -> str:
        """What stands behind the names of values that rest on a core which was not given."""
        return "" if self.core.source == "mask" else " (core by CBF: research)"

    def _ratio_remark(self) -> str:
        return "no core to divide by; it counts as infinite" if self.core.ml == 0 else "Tmax > 6 s over the core"

    def _remark_of(self, decision: Decision) -> str:
        stable = "" if decision.is_stable in (None, True) else f"; changes if Tmax is wrong by {TMAX_ERROR_SECONDS:g} s"
        research = "; research: core by CBF, the trial's is from diffusion" if self.core.source != "mask" else ""
        return f"imaging criteria alone{research}{stable}"


def read_out(maps: ExamMaps, core: np.ndarray | None = None) -> ReadOut:
    """Reads the maps of one exam.

    Args:
      maps: of the exam; what needs a map that is absent is undefined.
      core: (x, y, z) bool on the exam's grid, RAS: the ischaemic core, such as from diffusion; None: by CBF, which is
        research.

    Raises:
      InputError: the core has another shape, or holds most of the brain.
    """
    tissue = where.tissue_of(maps)
    if core is not None:
        core = checked_core(core, tissue, maps.subject)
    regions = where.regions_of(maps, tissue)
    late = tuple(_late_volume(maps, tissue, seconds) for seconds in MAPS["tmax"].thresholds)
    found = _core(maps, tissue, regions, core)
    volumes = {one.threshold_seconds: one for one in late}
    at_risk, severe = volumes[HYPOPERFUSED_SECONDS], volumes[SEVERE_SECONDS]
    return ReadOut(
        subject=maps.subject,
        how=maps.how,
        tissue_ml=_ml(tissue, maps),
        late=late,
        hypoperfusion_intensity_ratio=_divided(severe.ml, at_risk.ml),
        hypoperfusion_intensity_range=_intensity_range(severe, at_risk),
        contrasts=where.contrasts_of(maps, regions),
        core=found,
        mismatch_ml=None if at_risk.ml is None or found.ml is None else at_risk.ml - found.ml,
        mismatch_ratio=_divided(at_risk.ml, found.ml),
        decisions=tuple(_decision(trial, found, at_risk) for trial in TRIALS),
        remarks=(*regions.reasons, *_remarks_on_core(core, tissue, found)),
    )


def checked_core(core: np.ndarray, tissue: np.ndarray, subject: str) -> np.ndarray:
    """A core (x, y, z) as bool.

    Args:
      core: as it was given.
      tissue: (x, y, z) bool, the tissue of the brain.
      subject: for the message.

    Raises:
      InputError: it has another shape than the tissue, or holds most of it.
    """
    core = np.asarray(core).astype(bool)
    if core.shape != tissue.shape:
        raise InputError(
            f"{subject}: expected a core on the grid of the maps {tissue.shape}, got {core.shape}; resample it."
        )
    share = float((core & tissue).sum() / max(tissue.sum(), 1))
    if share > MOST_CORE:
        raise InputError(
            f"{subject}: expected a mask of the ischaemic core, the given one holds {100 * share:.0f} % of the brain; "
            "give the core's alone, 1 inside and 0 elsewhere."
        )
    return core


def write(folder: pathlib.Path, stem: str, found: ReadOut) -> list[pathlib.Path]:
    """Writes `<stem>_readout.json`, and `<stem>_readout.csv` with a header and one row; an empty field is undefined.

    Raises:
      InputError: the folder cannot be written.
    """
    paths = [folder / f"{stem}_readout.{ending}" for ending in ("json", "csv")]
    write_whole(paths[0], json.dumps(found.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    table, columns = io.StringIO(), found.columns()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([columns, ["" if value is None else value for value in columns.values()]])
    write_whole(paths[1], table.getvalue())
    return paths


# ------------------------------------------------------------------------------------------------------- numbers


def _ml(mask: np.ndarray, maps: ExamMaps) -> float:
    return float(mask.sum() * voxel_ml(maps.affine))


def _late_volume(maps: ExamMaps, tissue: np.ndarray, seconds: float) -> LateVolume:
    if "tmax" not in maps.volumes or not tissue.any():
        return LateVolume(seconds, None, None)
    errors = (0.0, TMAX_ERROR_SECONDS, -TMAX_ERROR_SECONDS)
    here, low, high = (_ml(where.late_tissue(maps, tissue, seconds + error), maps) for error in errors)
    return LateVolume(seconds, here, (low, high))


def _intensity_range(severe: LateVolume, at_risk: LateVolume) -> Range:
    """Both volumes have the same error; None where one of the ratios is undefined."""
    if severe.ml is None or severe.range_ml is None or at_risk.range_ml is None:
        return None
    pairs = zip((severe.ml, *severe.range_ml), (at_risk.ml, *at_risk.range_ml), strict=True)
    ratios = [ratio for pair in pairs if (ratio := _divided(*pair)) is not None]
    return (min(ratios), max(ratios)) if len(ratios) == 3 else None


def _core(maps: ExamMaps, tissue: np.ndarray, regions: Regions, core: np.ndarray | None) -> Core:
    if core is not None:
        return Core(_ml(core, maps), "mask")
    by_flow = None
    if regions.from_middle is not None and {"cbf", "tmax"} <= set(maps.volumes):
        late, voxel_mm = where.late_tissue(maps, tissue, HYPOPERFUSED_SECONDS), voxel_sizes(maps.affine)
        by_flow = low_flow_core(maps["cbf"], late, tissue, voxel_mm, regions.from_middle)
    ml = None if by_flow is None else _ml(where.clusters(by_flow, maps.affine), maps)
    return Core(ml, "research: CBF")


def _remarks_on_core(core: np.ndarray | None, tissue: np.ndarray, found: Core) -> list[str]:
    if core is None:
        return ["no core by CBF: CBF or Tmax or normal tissue opposite is missing"] if found.ml is None else []
    if not core.any():
        return ["the given core is empty"]
    outside = float((core & ~tissue).sum() / core.sum())
    return [f"{100 * outside:.0f} % of the given core has no maps"] if outside > CORE_OUTSIDE else []


def _decision(trial: str, core: Core, at_risk: LateVolume) -> Decision:
    if core.ml is None or at_risk.ml is None or at_risk.range_ml is None:
        return Decision(trial, None, None)
    volumes = np.array([at_risk.ml, *at_risk.range_ml])
    met = TRIALS[trial](np.full(3, core.ml), volumes)
    return Decision(trial, bool(met[0]), bool((met == met[0]).all()))


def _divided(above: Number, below: Number) -> Number:
    return None if above is None or not below else above / below


# --------------------------------------------------------------------------------------------------------- words


def _number(value: Number, pattern: str) -> str:
    return UNDEFINED if value is None else pattern.format(value)


def _range(found: Range, pattern: str) -> str:
    return UNDEFINED if found is None else f"{pattern.format(found[0])}–{pattern.format(found[1])}"


def _met(met: bool | None) -> str:
    return UNDEFINED if met is None else "met" if met else "not met"


def _core_remark(core: Core) -> str:
    if core.source == "mask":
        return "given mask"
    return f"research: CBF < {100 * CORE_FLOW_SHARE:.0f} % of the other hemisphere where Tmax > 6 s"


def _contrast_rows(one: Contrast) -> list[tuple[str, str, str]]:
    """Ratios of two regions, and where both are compared with each other also the differences of times."""
    over, less = f"{one.region} / {one.against}", f"{one.region} – {one.against}"
    rows = [
        (f"CBF, {over}", _number(one.cbf_ratio, "{:.2f}"), ""),
        (f"CBV, {over}", _number(one.cbv_ratio, "{:.2f}"), ""),
    ]
    if one.against == where.WHITE:
        return rows
    times = (
        ("MTT", one.mtt_difference_seconds),
        ("Tmax", one.tmax_difference_seconds),
        ("TTP", one.ttp_difference_seconds),
    )
    return rows + [(f"{name}, {less}", _number(value, "{:+z.1f} s"), "") for name, value in times]


def _short(region: str) -> str:
    """As in a column's name: `left`, `right`, `late`, `mirror`, `white`."""
    return region.split()[0]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """With numbers as one reads them: more digits than these nothing here has."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
