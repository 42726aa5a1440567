"""pix2pix for CBF (cerebral blood flow): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/pix2pix_cbf.py --workdir=runs/pix2pix_cbf
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = ("cbf",)
    config.model.generator = "unet"
    return config
