"""The recommended pix2pix, trained further on chronic exams; variants: cbf, cbv, mtt, tmax, ttp, all.

python -m dscgan_jax.main --config=configs/recommended_pix2pix.py:tmax
python -m dscgan_jax.main --config=configs/finetune_recommended_pix2pix.py:tmax
"""

import ml_collections

from dscgan_jax.configs import chronic, recommended_pix2pix


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = recommended_pix2pix.get_config(variant)
    chronic.fine_tune(config, "recommended_pix2pix", variant)
    return config
