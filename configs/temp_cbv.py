"""temp-pix2pix for CBV (cerebral blood volume): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/temp_cbv.py --workdir=runs/temp_cbv
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = ("cbv",)
    config.model.generator = "temporal"
    return config
