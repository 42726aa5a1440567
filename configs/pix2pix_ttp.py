"""pix2pix for TTP (time to peak): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/pix2pix_ttp.py --workdir=runs/pix2pix_ttp
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = ("ttp",)
    config.model.generator = "unet"
    config.data.lead_seconds = 0.0  # TTP counts from the first acquired frame
    return config
