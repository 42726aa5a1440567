"""The recommended temp-pix2pix, trained further on chronic exams; variants: cbf, cbv, mtt, tmax, ttp, all.

python -m dscgan_jax.main --config=configs/recommended_temp.py:tmax
python -m dscgan_jax.main --config=configs/finetune_recommended_temp.py:tmax
"""

import ml_collections

from dscgan_jax.configs import chronic, recommended_temp


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = recommended_temp.get_config(variant)
    chronic.fine_tune(config, "recommended_temp", variant)
    return config
