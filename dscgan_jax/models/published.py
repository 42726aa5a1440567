"""Weights of the published PyTorch implementation <-> our trees; `pytorch_files` reads its checkpoint files.

Words: a *state dict* maps the published names (`tmp_1.0.weight`) to NumPy arrays, channels first. Our *variables* are
`{"params": ..., "stats": ...}` (see `networks.py`). An *entry* ties one published name to one leaf of ours; the entries
of a network, in the published order, are the whole translation, and it is used in both directions.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dscgan_jax.errors import InputError

StateDict = dict[str, np.ndarray]

LEAST_DEPTH = 5  # the published U-Net never has fewer levels
TEMPORAL_BLOCKS = 6

# Axes of a published kernel in our order (taps, in, out), and back.
TO_OURS = {"image": (2, 3, 1, 0), "transposed": (2, 3, 0, 1), "temporal": (2, 1, 0)}
TO_PUBLISHED = {"image": (3, 2, 0, 1), "transposed": (2, 3, 0, 1), "temporal": (2, 1, 0)}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: its published name, our tree and path, and the kind of kernel ("" for a vector or counter)."""

    name: str
    tree: str
    path: tuple[str, ...]
    kind: str = ""


def _conv(name: str, path: tuple[str, ...], kind: str, bias: bool) -> list[Entry]:
    entries = [Entry(f"{name}.weight", "params", (*path, "kernel"), kind)]
    return [*entries, Entry(f"{name}.bias", "params", (*path, "bias"))] if bias else entries


def _norm(name: str, path: tuple[str, ...], norm: str) -> list[Entry]:
    if norm == "instance":
        return []
    pairs = (
        ("weight", "params", "scale"),
        ("bias", "params", "shift"),
        ("running_mean", "stats", "mean"),
        ("running_var", "stats", "variance"),
        ("num_batches_tracked", "stats", "batches"),
    )
    return [Entry(f"{name}.{published}", tree, (*path, ours)) for published, tree, ours in pairs]


def generator_entries(model: Any) -> list[Entry]:
    """Entries of the generator that `model` (as `config.model`) describes, biases before norms included."""
    if model.depth < LEAST_DEPTH:
        raise InputError(f"config.model.depth is {model.depth}; the published U-Net has at least {LEAST_DEPTH} levels.")
    if model.generator == "unet":
        return _unet_entries("", model)
    entries = []
    for index in range(1, TEMPORAL_BLOCKS + 1):
        path = ("temporal", f"block{index}")
        entries += _conv(f"tmp_{index}.0", path, "temporal", True)
        entries += _norm(f"tmp_{index}.1", (*path, "norm"), model.norm)
    return entries + _unet_entries("unet_model.", model)


def _unet_entries(prefix: str, model: Any) -> list[Entry]:
    instance, resize = model.norm == "instance", model.upsample == "resize"
    down, up = [], []
    at = f"{prefix}model.model"
    for level in range(model.depth):
        outermost, innermost = level == 0, level == model.depth - 1
        down += _conv(f"{at}.0" if outermost else f"{at}.1", ("unet", f"down{level}"), "image", instance)
        if not (outermost or innermost):
            down += _norm(f"{at}.2", ("unet", f"down_norm{level}"), model.norm)
        position = 3 if outermost or innermost else 5
        path = ("unet", f"up{level}")
        if resize:
            entries = _conv(f"{at}.{position}.conv2d", (*path, "conv"), "image", True)
        else:
            entries = _conv(f"{at}.{position}", path, "transposed", outermost or instance)
        if not outermost:
            entries += _norm(f"{at}.{position + 1}", ("unet", f"up_norm{level}"), model.norm)
        up = entries + up  # all deeper levels stand between a level's way down and its way up
        at += ".1.model" if outermost else ".3.model"
    return down + up


def discriminator_entries(model: Any) -> list[Entry]:
    """Entries of the patch discriminator that `model` (as `config.model`) describes."""
    if model.discriminator != "patch":
        raise InputError(f"config.model.discriminator is {model.discriminator!r}; only patch can be converted.")
    entries = _conv("model.0", ("conv0",), "image", True)
    for layer in range(1, model.discriminator_layers + 1):
        entries += _conv(f"model.{3 * layer - 1}", (f"conv{layer}",), "image", model.norm == "instance")
        entries += _norm(f"model.{3 * layer}", (f"norm{layer}",), model.norm)
    return entries + _conv(f"model.{3 * model.discriminator_layers + 2}", ("last",), "image", True)


# --- State dicts and variables -------------------------------------------------------------------------------------


def from_published(state_dict: Mapping[str, np.ndarray], entries: list[Entry]) -> dict[str, Any]:
    """State dict -> variables, for a model with `bias_before_norm`.

    Names may begin with `module.`, as several GPUs leave them. Floating-point arrays keep their precision.

    Raises:
      InputError: names are missing or left over.
    """
    state_dict = without_module(state_dict)
    missing = [entry.name for entry in entries if entry.name not in state_dict]
    unknown = sorted(set(state_dict) - {entry.name for entry in entries})
    if missing or unknown:
        raise InputError(
            f"the published weights do not fit the model: missing {missing[:3] or 'nothing'}, "
            f"unknown {unknown[:3] or 'nothing'}; infer_model_settings finds the model that they belong to."
        )
    variables: dict[str, Any] = {"params": {}, "stats": {}}
    for entry in entries:
        value = np.asarray(state_dict[entry.name])
        if entry.kind == "temporal":
            value = value[..., 0, 0]  # [out, in, time, 1, 1]
        if entry.kind:
            value = value.transpose(TO_OURS[entry.kind])
        if value.dtype.kind == "i":
            value = value.astype(np.int32)
        _put(variables[entry.tree], entry.path, np.ascontiguousarray(value) if value.ndim else value)
    return variables


def to_published(variables: Mapping[str, Any], entries: list[Entry]) -> StateDict:
    """Inverse of `from_published`. A bias that the model does not have is written as zeros, which computes the same."""
    state_dict = {}
    for entry in entries:
        value = _get(variables[entry.tree], entry.path)
        if value is None and entry.path[-1] == "bias":
            kernel = np.asarray(_get(variables[entry.tree], (*entry.path[:-1], "kernel")))
            value = np.zeros(kernel.shape[-1:], kernel.dtype)
        if value is None:
            raise InputError(f"the network has no {'.'.join(entry.path)}; its model settings are others.")
        value = np.asarray(value)
        if entry.kind:
            value = np.ascontiguousarray(value.transpose(TO_PUBLISHED[entry.kind]))
        if entry.kind == "temporal":
            value = value[..., None, None]
        state_dict[entry.name] = value.astype(np.int64) if value.dtype.kind == "i" else value
    return state_dict


def without_module(state_dict: Mapping[str, np.ndarray]) -> StateDict:
    """The same with a leading `module.` taken off each name."""
    return {name.removeprefix("module."): value for name, value in state_dict.items()}


def _put(tree: dict[str, Any], path: tuple[str, ...], value: np.ndarray) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if key not in tree:
            return None
        tree = tree[key]
    return tree


def adam_from_published(optimiser_state_dict: Mapping[str, Any], entries: list[Entry], opt_state: Any) -> Any:
    """Moments and step count of PyTorch's Adam, put into a fresh `opt_state` of `training.state.make_optimisers`.

    PyTorch numbers parameters in the order of the entries. A checkpoint written before the first update holds none;
    `opt_state` then comes back unchanged.
    """
    import optax  # here: converting a network alone needs no optimiser

    moments = optimiser_state_dict["state"]
    if not moments:
        return opt_state
    learned = [entry for entry in entries if entry.tree == "params"]
    if sorted(moments) != list(range(len(learned))):
        raise InputError(f"the published optimiser holds {len(moments)} parameters, the model {len(learned)}.")

    def tree_of(moment: str) -> dict[str, Any]:
        named = {entry.name: moments[index][moment] for index, entry in enumerate(learned)}
        return from_published(named, learned)["params"]

    count = np.asarray(int(moments[0]["step"]), np.int32)
    new = optax.tree_utils.tree_set(opt_state, mu=tree_of("exp_avg"), nu=tree_of("exp_avg_sq"), count=count)
    return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), new, opt_state)


# --- Which model a state dict belongs to ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """What names and shapes of a checkpoint tell.

    Attributes:
      settings: fields of `config.model`.
      frames: time points of the input, None if nothing tells.
      n_targets: output maps.
    """

    settings: dict[str, Any]
    frames: int | None
    n_targets: int


def infer_model_settings(
    generator: Mapping[str, np.ndarray], discriminator: Mapping[str, np.ndarray] | None = None
) -> PublishedModel:
    """Reads architecture, widths and depth off the published state dicts, which do not store them."""
    generator = without_module(generator)
    temporal = "tmp_1.0.weight" in generator
    at = "unet_model.model.model" if temporal else "model.model"
    resize = any(".conv2d." in name for name in generator)
    last = f"{at}.3.conv2d.weight" if resize else f"{at}.3.weight"
    if f"{at}.0.weight" not in generator or last not in generator:
        raise InputError(
            "the checkpoint holds neither of the published generators (TmpAndUnet, UnetGenerator); its "
            f"first names are {list(generator)[:3]}."
        )
    unet_width, n_in = generator[f"{at}.0.weight"].shape[:2]
    settings = {
        "generator": "temporal" if temporal else "unet",
        "width": generator["tmp_1.0.weight"].shape[0] if temporal else unet_width,
        "depth": max(len(re.findall(r"\bmodel\b", name.removeprefix("unet_model."))) for name in generator) - 1,
        "norm": "batch" if any(name.endswith("running_mean") for name in generator) else "instance",
        "upsample": "resize" if resize else "transposed",
        "bias_before_norm": True,
    }
    if temporal:
        settings["unet_width"] = unet_width
    n_targets = generator[last].shape[0 if resize else 1]
    frames = None if temporal else n_in
    if discriminator is not None:
        discriminator = without_module(discriminator)
        kernels = [value for value in discriminator.values() if value.ndim == 4]
        if "model.0.weight" not in discriminator:
            raise InputError(
                "the checkpoint's discriminator is not the published PatchDiscriminator; convert the generator alone."
            )
        settings |= {
            "discriminator": "patch",
            "discriminator_width": kernels[0].shape[0],
            "discriminator_layers": len(kernels) - 2,
        }
        frames = kernels[0].shape[1] - n_targets
    return PublishedModel(settings, frames, n_targets)
