"""temp-pix2pix for CBV (cerebral blood volume): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/temp_cbv.py --workdir=runs/temp_cbv
python -m dscgan_jax.main --config=configs/finetune_temp_cbv.py --workdir=runs/finetune_temp_cbv
"""

import ml_collections

from dscgan_jax.configs import chronic, temp_cbv


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = temp_cbv.get_config(variant)
    chronic.fine_tune(config, "temp_cbv", variant)
    return config
