"""Draws cohorts of both presets: histograms go into docs/phantom_cohort.png, a table into docs/phantom.md.

python studies/phantom_cohort.py        # a few minutes on two cores
"""

import pathlib
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import tqdm
from absl import app, flags

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from dscgan_jax.maps import MAPS
from dscgan_jax.phantom.exam import CORE_LABEL, PHANTOM_VERSION, Phantom, draw_phantom

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- cohort: begin -->", "<!-- cohort: end -->"
COLOURS = {"acute": "#1f77b4", "chronic": "#e08214"}
EXAMPLE_SEED = 10  # an MCA occlusion with a core

_SUBJECTS = flags.DEFINE_multi_integer("subjects", [203, 72], "Subjects of the acute and of the chronic cohort.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the cohorts.")
_DOCS = flags.DEFINE_string("docs", str(DOCS), "Folder of phantom.md and phantom_cohort.png.")


def draw_cohort(preset: str, subjects: int, seed: int) -> list[dict]:
    """Truth of each subject, on a coarse grid with all slices: lesions are the same people's as on a fine one."""
    return [draw_phantom(preset, (seed, subject), size=64).truth for subject in tqdm.trange(subjects, desc=preset)]


def numbers(truths: list[dict]) -> dict[str, np.ndarray]:
    """One value per subject."""
    lesions = {name: np.array([truth["lesion"][name] for truth in truths]) for name in truths[0]["lesion"]}
    return lesions | {
        "delay": np.array([truth["disease"].get("delay_seconds", np.nan) for truth in truths]),
        "signal_to_noise": np.array([truth["signal_to_noise"] for truth in truths]),
        "moved": np.array([truth["moved"] for truth in truths]),
        "truncated": np.array([truth["truncated"] for truth in truths]),
    }


def table(cohorts: dict[str, dict[str, np.ndarray]]) -> str:
    """Markdown rows, one column per preset."""

    def spread(values: np.ndarray, digits: int = 0) -> str:
        low, middle, high = np.nanpercentile(values, [5, 50, 95])
        return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

    def row(name: str, of: Callable[[dict[str, np.ndarray]], str]) -> str:
        return f"| {name} | " + " | ".join(of(cohort) for cohort in cohorts.values()) + " |"

    def lesions(cohort: dict[str, np.ndarray]) -> np.ndarray:
        return cohort["tmax_over_6s_ml"] > 1.0

    def pooled(cohort: dict[str, np.ndarray], name: str) -> str:
        return f"{100 * cohort[name].sum() / cohort['tmax_over_6s_ml'].sum():.0f} %"

    return "\n".join(
        [
            "| median (5th–95th percentile) | " + " | ".join(cohorts) + " |",
            "|---|" + "---|" * len(cohorts),
            row("subjects", lambda c: str(len(c["moved"]))),
            row("with Tmax > 6 s in more than 1 mL", lambda c: f"{100 * lesions(c).mean():.0f} %"),
            row("volume of Tmax > 6 s, mL, where present", lambda c: spread(c["tmax_over_6s_ml"][lesions(c)])),
            row(
                "of these within 10–200 mL",
                lambda c: f"{100 * np.mean(np.abs(c['tmax_over_6s_ml'][lesions(c)] - 105) <= 95):.0f} %",
            ),
            row("with a core of more than 1 mL", lambda c: f"{100 * (c['core_ml'] > 1).mean():.0f} %"),
            row(
                "core, mL, where present",
                lambda c: spread(c["core_ml"][c["core_ml"] > 1]) if (c["core_ml"] > 1).any() else "–",
            ),
            row("additional delay in the middle, s", lambda c: spread(c["delay"], 1)),
            row("largest Tmax, s", lambda c: spread(c["largest_tmax_seconds"], 1)),
            row(
                "**volume of Tmax 5–7 s over that of Tmax > 6 s, pooled**",
                lambda c: f"**{pooled(c, 'tmax_5_to_7s_ml')}**",
            ),
            row("share of the lesion with Tmax 6–7 s, pooled", lambda c: pooled(c, "tmax_6_to_7s_ml")),
            row("baseline over noise", lambda c: spread(c["signal_to_noise"])),
            row("moved", lambda c: f"{100 * c['moved'].mean():.0f} %"),
            row("truncated", lambda c: f"{100 * c['truncated'].mean():.0f} %"),
        ]
    )


def picture(exam: Phantom, cohorts: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """An example exam above, histograms of the cohorts below."""
    figure, axes = plt.subplots(3, 5, figsize=(15, 8.6), height_ratios=[1.15, 1.15, 1.0])
    row = int(exam.lesion.sum(axis=(0, 1)).argmax())
    series = exam.series[:, :, row].astype(np.float32)
    baseline = series[..., 3:8].mean(axis=-1)
    bolus = int((exam.truth["arterial"]["arrival_seconds"] + 8.0) / exam.frame_seconds)

    def show(axis: Any, image: np.ndarray, title: str, **settings: Any) -> Any:
        shown = axis.imshow(image[::-1, ::-1].T, interpolation="nearest", **settings)
        axis.set_title(title, fontsize=10)
        axis.axis("off")
        return shown

    show(axes[0, 0], baseline, "signal before the bolus", cmap="gray", vmin=0, vmax=np.percentile(baseline, 99.7))
    show(axes[0, 1], series[..., bolus], "at the bolus", cmap="gray", vmin=0, vmax=np.percentile(baseline, 99.7))
    labels = np.where(exam.mask[:, :, row], 1 + exam.lesion[:, :, row], 0)
    show(
        axes[1, 2],
        labels,
        "Tmax > 6 s (orange), core (red)",
        vmin=0,
        vmax=3,
        cmap=matplotlib.colors.ListedColormap(["black", "#707070", "#fdae61", "#d7191c"]),
    )
    places = dict(zip(MAPS, (axes[0, 2], axes[0, 3], axes[0, 4], axes[1, 0], axes[1, 1]), strict=True))
    for name, axis in places.items():
        window = (25.0, 45.0) if name == "ttp" else MAPS[name].window
        shown = show(
            axis,
            exam.maps[name][:, :, row],
            f"{MAPS[name].title}, {MAPS[name].unit}",
            cmap=MAPS[name].colour_map,
            vmin=window[0],
            vmax=window[1],
        )
        figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02)

    normal = exam.mask & (exam.maps["tmax"] < 3.5) & (exam.shares["artery"] == 0)
    regions = {
        "grey matter": normal & (exam.shares["grey"] > 0.8),
        "white matter": normal & (exam.shares["white"] > 0.95),
        "penumbra": exam.lesion == 1,
        "core": exam.lesion == CORE_LABEL,
        "sagittal sinus": exam.shares["sinus"] > 0.9,
    }
    for name, region in regions.items():
        if region.any():
            curve = exam.series[region].mean(axis=0)
            axes[1, 3].plot(exam.arterial_seconds, curve / curve[3:8].mean(), label=name, linewidth=1.2)
    axes[1, 3].set_title("mean signal over baseline", fontsize=10)
    axes[1, 3].set_xlabel("s")
    axes[1, 3].legend(fontsize=7)
    axes[1, 4].plot(exam.arterial_seconds, exam.arterial_mm, ".-", linewidth=1.0)
    axes[1, 4].set_title("AIF, mM", fontsize=10)
    axes[1, 4].set_xlabel("s")

    edge = {
        preset: cohort["tmax_5_to_7s_ml"] / np.maximum(cohort["tmax_over_6s_ml"], 1e-6)
        for preset, cohort in cohorts.items()
    }
    histograms = (
        ("additional delay in the middle, s", {p: c["delay"] for p, c in cohorts.items()}, np.arange(0, 14.5, 0.5)),
        ("largest Tmax, s", {p: c["largest_tmax_seconds"] for p, c in cohorts.items()}, np.arange(2, 19, 0.75)),
        ("baseline over noise", {p: c["signal_to_noise"] for p, c in cohorts.items()}, np.arange(25, 86, 5)),
        ("volume of Tmax > 6 s, mL", {p: c["tmax_over_6s_ml"] for p, c in cohorts.items()}, np.arange(0, 301, 15)),
        (
            "volume of Tmax 5–7 s over that of Tmax > 6 s",
            {p: edge[p][c["tmax_over_6s_ml"] > 10] for p, c in cohorts.items()},
            np.arange(0, 3.01, 0.15),
        ),
    )
    for axis, (title, values, bins) in zip(axes[2], histograms, strict=True):
        for preset, sample in values.items():
            axis.hist(
                np.clip(sample[np.isfinite(sample)], bins[0], bins[-1]),
                bins=bins,
                alpha=0.6,
                label=preset,
                color=COLOURS[preset],
            )
        axis.set_title(title, fontsize=10)
        axis.set_ylabel("subjects")
    axes[2, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(_) -> None:
    docs = pathlib.Path(_DOCS.value)
    cohorts = {
        preset: numbers(draw_cohort(preset, count, _SEED.value))
        for preset, count in zip(("acute", "chronic"), _SUBJECTS.value, strict=True)
    }
    text = table(cohorts)
    print(text)
    picture(draw_phantom("acute", EXAMPLE_SEED), cohorts, docs / "phantom_cohort.png")
    page = (docs / "phantom.md").read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    note = f"Phantom version {PHANTOM_VERSION}, seed {_SEED.value}, 64 x 64, all slices."
    (docs / "phantom.md").write_text(f"{before}{BEGIN}\n{note}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
