"""temp-pix2pix for MTT (mean transit time): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/temp_mtt.py --workdir=runs/temp_mtt
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = ("mtt",)
    config.model.generator = "temporal"
    return config
