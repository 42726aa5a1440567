"""temp-pix2pix for CBF (cerebral blood flow): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/temp_cbf.py --workdir=runs/temp_cbf
python -m dscgan_jax.main --config=configs/finetune_temp_cbf.py --workdir=runs/finetune_temp_cbf
"""

import ml_collections

from dscgan_jax.configs import chronic, temp_cbf


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = temp_cbf.get_config(variant)
    chronic.fine_tune(config, "temp_cbf", variant)
    return config
