"""pix2pix for TTP (time to peak): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/pix2pix_ttp.py --workdir=runs/pix2pix_ttp
python -m dscgan_jax.main --config=configs/finetune_pix2pix_ttp.py --workdir=runs/finetune_pix2pix_ttp
"""

import ml_collections

from dscgan_jax.configs import chronic, pix2pix_ttp


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = pix2pix_ttp.get_config(variant)
    chronic.fine_tune(config, "pix2pix_ttp", variant)
    return config
