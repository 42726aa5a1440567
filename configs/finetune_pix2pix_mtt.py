"""pix2pix for MTT (mean transit time): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/pix2pix_mtt.py --workdir=runs/pix2pix_mtt
python -m dscgan_jax.main --config=configs/finetune_pix2pix_mtt.py --workdir=runs/finetune_pix2pix_mtt
"""

import ml_collections

from dscgan_jax.configs import chronic, pix2pix_mtt


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = pix2pix_mtt.get_config(variant)
    chronic.fine_tune(config, "pix2pix_mtt", variant)
    return config
