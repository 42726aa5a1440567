"""The model card of a network, in Markdown: what it was trained on, how good it was, what it must not be used for."""

from collections.abc import Mapping

from dscgan_jax.data.features import NAMES
from dscgan_jax.maps import MAPS
from dscgan_jax.models import networks
from dscgan_jax.pages import parts, tables
from dscgan_jax.pages.sentences import PHANTOM_LIMIT, Summary
from dscgan_jax.settings import WITHOUT_LEVELS, has_batch_norm
from dscgan_jax.training.record import SIMULATED
from dscgan_jax.training.weights import Weights

LIMITS = """- Not a medical device: no diagnosis, no treatment and no triage of a patient may rest on these maps.
- Not for exams unlike those above: a network gives a plausible map of anything. What is unlike them is reported with
  each exam (`unlike_training`), but not everything can be seen in a series.
- Not for perfusion imaging of another kind, such as CT or ASL.
- Not where contrast agent leaks from the vessels of a tumour, unless such exams are among those above."""


def text(weights: Weights, scores: Mapping[str, Summary], n_bytes: int) -> str:
    """The card.

    Args:
      weights: the network.
      scores: {what was scored: summary of an evaluation of these very weights}.
      n_bytes: size of the file.
    """
    blocks = [
        f"# {weights.name}: {', '.join(MAPS[name].title for name in weights.record.scaling.targets)} from DSC-MRI",
        f"{parts.RESEARCH_ONLY} Trained on {weights.trained_on}.",
        f"```\ndscgan-jax predict exam.nii.gz maps/ --model={weights.name}.safetensors\n```",
        "## The network",
        _list(_network(weights, n_bytes)),
        "## Training exams",
        _list(_exams(weights)),
        _features(weights),
        "## Maps and their ranges",
        "No value beyond a range comes out of the network.",
        _ranges(weights),
        _ttp(weights),
        "## Scores",
        *(_scores(name, summary) for name, summary in scores.items()),
        "" if scores else "None: these weights were not scored.",
        "## What it must not be used for",
        _limits(weights),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _list(facts: list[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts if value)


def _network(weights: Weights, n_bytes: int) -> list[tuple[str, str]]:
    config = weights.record.config
    model, data = config.model, config.data
    looks = f", {model.looks} looks" if model.looks else ""
    told = ", told when signal is lowest" if model.peak_time else ""
    depth = "" if model.generator in WITHOUT_LEVELS else f", depth {model.depth}"
    neighbours = f", {parts.counted(model.neighbours, 'slice')} on each side, {model.unet_dims}-D U-Net"
    beside = neighbours if model.neighbours else ""
    lead = f", from {data.lead_seconds:g} s before the bolus arrives" if data.lead_seconds else ""
    seconds = f"{data.frames} frames of {data.frame_seconds:g} s{lead}"
    outside = "0 outside the brain" if data.outside_brain == "zero" else "with what is outside the brain"
    aif = ", the exam's AIF and its brain's mean curve in the corners" if model.arterial_input else ""
    return [
        ("package", f"dscgan_jax {weights.version}"),
        ("checkpoint", f"step {weights.step}, {weights.selected_by}"),
        ("digest of its numbers (SHA-256)", f"`{weights.sha256}`"),
        ("began with", weights.record.begun_with),
        ("generator", f"{model.generator}, width {model.width}{depth}{looks}{told}{beside}"),
        ("learned values", f"{networks.parameter_count(weights.variables):,} ({n_bytes / 1e6:.1f} MB)"),
        ("input", f"{data.size} x {data.size} pixels, {data.signal} signal, {outside}{aif}"),
        ("time", seconds if data.time_mode == "seconds" else f"the whole series as {data.frames} frames"),
        ("batch norm", config.evaluate.norm_at_test if has_batch_norm(model) else ""),
    ]


def _exams(weights: Weights) -> list[tuple[str, str]]:
    data, phantom, beside = weights.record.data, weights.record.config.phantom, weights.record.drawn_beside
    size = f", {phantom.size} x {phantom.size}" if phantom.size else ""
    drawn = f"{phantom.preset}{size}, seed {phantom.seed}"
    return [
        ("source", data.source),
        ("preset", drawn if weights.trained_on == SIMULATED else ""),
        ("simulated during training", parts.counted(beside, "exam") if beside else ""),
        ("subjects", ", ".join(f"{count} {name.removeprefix('n_')}" for name, count in data.counts.items())),
        ("fingerprint", data.fingerprint),
    ]


def _features(weights: Weights) -> str:
    known = weights.record.data.features
    if not known:
        return ""
    rows = [f"| {NAMES.get(name, name)} | {low:.3g} | {high:.3g} |" for name, (low, high) in known.items()]
    return "\n".join(["| of the training exams | 1st percentile | 99th |", "|---|---|---|", *rows])


def _ranges(weights: Weights) -> str:
    scaling = weights.record.scaling
    rows = [
        f"| {MAPS[name].title} | {MAPS[name].unit} | {low:.3g} | {high:.3g} |"
        for name, (low, high) in zip(scaling.targets, scaling.limits, strict=True)
    ]
    return "\n".join(["| map | unit | lowest | highest |", "|---|---|---|---|", *rows])


def _ttp(weights: Weights) -> str:
    if "ttp" not in weights.record.scaling.targets or not weights.record.config.data.lead_seconds:
        return ""
    return "TTP counts from the network's first frame here, and from the first acquired one in the maps."


def _scores(name: str, summary: Summary) -> str:
    subjects = parts.counted(len(summary["subjects"]), "subject")
    return f"`{name}`, {subjects}:\n\n```\n{tables.format_table(summary)}\n```"


def _limits(weights: Weights) -> str:
    if weights.trained_on != SIMULATED:
        return LIMITS
    return f"{LIMITS}\n- It learned from simulated exams alone. Scores above are {PHANTOM_LIMIT}"
