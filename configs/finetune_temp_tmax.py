"""temp-pix2pix for Tmax (time to maximum): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/temp_tmax.py --workdir=runs/temp_tmax
python -m dscgan_jax.main --config=configs/finetune_temp_tmax.py --workdir=runs/finetune_temp_tmax
"""

import ml_collections

from dscgan_jax.configs import chronic, temp_tmax


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = temp_tmax.get_config(variant)
    chronic.fine_tune(config, "temp_tmax", variant)
    return config
