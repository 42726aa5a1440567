"""temp-pix2pix for Tmax with the recommended settings and one change each: what every single one is good for.

python -m dscgan_jax.main --config=configs/ablations.py:adversarial     (against configs/recommended_temp.py:tmax)

docs/study.md says what each gained or lost on phantom exams. Batch norm by each slice's statistics or by running
ones is no training of its own: every evaluation scores both.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from dscgan_jax.configs import recommended_temp


@dataclasses.dataclass(frozen=True)
class Change:
    """What one ablation sets.

    Attributes:
      fields: of the config, `data.signal`, with the values that they get; several where one demands another.
      why: what is asked, in a line.
    """

    fields: Mapping[str, Any]
    why: str


_WITH_DISCRIMINATOR = {"loss.objective": "logits"}
CHANGES = {
    "stretch": Change(
        {"data.time_mode": "stretch", "data.lead_seconds": 0.0},
        "as in the paper, any series is stretched to the same frames: does real time matter?",
    ),
    "from_start": Change(
        {"data.lead_seconds": 0.0}, "time from the first acquired frame on: is it worth while to count from the bolus?"
    ),
    "all_frames": Change(
        {"data.non_steady_state": "keep"}, "as in the paper, frames before steady state stay: do they disturb?"
    ),
    "raw": Change({"data.signal": "raw"}, "as in the paper, the scanner's units: is S/S0 easier to learn from?"),
    "delta_r2star": Change(
        {"data.signal": "delta_r2star"}, "what is proportional to concentration: does it help to take the logarithm?"
    ),
    "adversarial": Change(_WITH_DISCRIMINATOR, "with a discriminator beside L1: what does the adversarial term add?"),
    "published_loss": Change(
        {"loss.objective": "published"}, "two sigmoids, as in the released code, weaken the discriminator: by how much?"
    ),
    "lambda1": Change(
        {**_WITH_DISCRIMINATOR, "loss.l1_weight": 1.0}, "as in the paper: maps that look real before maps that are near"
    ),
    "lambda100": Change(
        {**_WITH_DISCRIMINATOR, "loss.l1_weight": 100.0}, "as in pix2pix (Isola et al. 2017): maps that are near first"
    ),
    "paper_rates": Change(
        {"train.learning_rate": 1e-4, "train.decay": "constant"},
        "as in the paper: do rates that begin high and fall get further in the same steps?",
    ),
    "resize": Change(
        {"model.upsample": "resize"}, "nearest neighbour and convolution: do transposed ones leave checkerboards?"
    ),
    "instance": Change(
        {"model.norm": "instance"}, "statistics of each slice, in training as in prediction: are batches needed?"
    ),
    "augment": Change(
        {"train.augment": True},
        "mirrored, noisier, later, shorter; one draw for series and maps: does it help?",
    ),
    "air": Change({"data.outside_brain": "keep"}, "the network sees scalp, skull and air too: is there use in them?"),
}


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    if variant not in CHANGES:
        raise ValueError(f"--config=...:{variant or ''}: give one of the variants {', '.join(CHANGES)}.")
    config = recommended_temp.get_config("tmax")
    config.update_from_flattened_dict(dict(CHANGES[variant].fields))
    return config
