"""temp-pix2pix for Tmax (time to maximum): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/temp_tmax.py --workdir=runs/temp_tmax
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = ("tmax",)
    config.model.generator = "temporal"
    return config
