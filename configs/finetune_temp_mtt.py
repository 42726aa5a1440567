"""temp-pix2pix for MTT (mean transit time): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/temp_mtt.py --workdir=runs/temp_mtt
python -m dscgan_jax.main --config=configs/finetune_temp_mtt.py --workdir=runs/finetune_temp_mtt
"""

import ml_collections

from dscgan_jax.configs import chronic, temp_mtt


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = temp_mtt.get_config(variant)
    chronic.fine_tune(config, "temp_mtt", variant)
    return config
