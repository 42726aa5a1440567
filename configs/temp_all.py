"""temp-pix2pix, one network for all five maps.

python -m dscgan_jax.main --config=configs/temp_all.py --workdir=runs/temp_all
"""

import ml_collections

from dscgan_jax.configs import default
from dscgan_jax.maps import MAP_NAMES


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    config = default.get_config(variant)
    config.target = MAP_NAMES
    config.data.lead_seconds = 0.0  # TTP counts from the first acquired frame
    return config
