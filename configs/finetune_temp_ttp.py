"""temp-pix2pix for TTP (time to peak): the acute model, trained further on chronic exams as in the paper.

python -m dscgan_jax.main --config=configs/temp_ttp.py --workdir=runs/temp_ttp
python -m dscgan_jax.main --config=configs/finetune_temp_ttp.py --workdir=runs/finetune_temp_ttp
"""

import ml_collections

from dscgan_jax.configs import chronic, temp_ttp


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = temp_ttp.get_config(variant)
    chronic.fine_tune(config, "temp_ttp", variant)
    return config
