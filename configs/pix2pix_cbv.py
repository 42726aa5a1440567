"""pix2pix for CBV (cerebral blood volume): one of the paper's ten acute models.

python -m dscgan_jax.main --config=configs/pix2pix_cbv.py --workdir=runs/pix2pix_cbv
"""

from dscgan_jax.configs import default


def get_config(variant=None):
    config = default.get_config(variant)
    config.target = ("cbv",)
    config.model.generator = "unet"
    return config
