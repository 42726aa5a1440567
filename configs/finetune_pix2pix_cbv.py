"""pix2pix for CBV (cerebral blood volume): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/pix2pix_cbv.py --workdir=runs/pix2pix_cbv
python -m dscgan_jax.main --config=configs/finetune_pix2pix_cbv.py --workdir=runs/finetune_pix2pix_cbv
"""

import ml_collections

from dscgan_jax.configs import chronic, pix2pix_cbv


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = pix2pix_cbv.get_config(variant)
    chronic.fine_tune(config, "pix2pix_cbv", variant)
    return config
