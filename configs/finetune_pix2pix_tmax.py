"""pix2pix for Tmax (time to maximum): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/pix2pix_tmax.py --workdir=runs/pix2pix_tmax
python -m dscgan_jax.main --config=configs/finetune_pix2pix_tmax.py --workdir=runs/finetune_pix2pix_tmax
"""

import ml_collections

from dscgan_jax.configs import chronic, pix2pix_tmax


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = pix2pix_tmax.get_config(variant)
    chronic.fine_tune(config, "pix2pix_tmax", variant)
    return config
