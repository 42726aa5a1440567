"""pix2pix for CBF (cerebral blood flow): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/pix2pix_cbf.py --workdir=runs/pix2pix_cbf
python -m dscgan_jax.main --config=configs/finetune_pix2pix_cbf.py --workdir=runs/finetune_pix2pix_cbf
"""

import ml_collections

from dscgan_jax.configs import chronic, pix2pix_cbf


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = pix2pix_cbf.get_config(variant)
    chronic.fine_tune(config, "pix2pix_cbf", variant)
    return config
