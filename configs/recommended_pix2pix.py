"""pix2pix with the settings that are recommended instead of the paper's; variants: cbf, cbv, mtt, tmax, ttp, all.

python -m dscgan_jax.main --config=configs/recommended_pix2pix.py:tmax --workdir=runs/recommended_pix2pix-tmax

Real seconds counted from the bolus, relative signal, L1 alone, and a learning rate that begins high and falls. Why:
docs/study.md.
"""

import ml_collections

from dscgan_jax.configs import default


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.recommended_for(variant)
    config.model.generator = "unet"
    return config
