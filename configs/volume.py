"""Networks that see the slices beside each one, for Tmax: beyond the paper, whose networks see single slices.

python -m dscgan_jax.main --config=configs/volume.py:temp25d      (temp-pix2pix, three slices into its U-Net)
python -m dscgan_jax.main --config=configs/volume.py:pix2pix25d   (pix2pix, the frames of three slices as channels)
python -m dscgan_jax.main --config=configs/volume.py:temp3d       (temp-pix2pix, a 3-D U-Net behind the temporal stack)

A batch is one exam; the discriminator sees its slices one by one. What these networks are to be compared with has the
same settings with --config.model.neighbours=0 --config.model.unet_dims=2.

An exam cannot be taken in parts: a step of the temporal stack at full width needs 89 GiB (71 with
--config.model.lean=True; with --config.model.compute=bfloat16 on a GPU less), by XLA's own account for a CPU.
"""

import ml_collections

from dscgan_jax.configs import default

VARIANTS = ("temp25d", "pix2pix25d", "temp3d")


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    variant = variant or "temp25d"
    if variant not in VARIANTS:
        raise ValueError(f"--config=...:{variant}: unknown variant; known are {', '.join(VARIANTS)} (none = temp25d).")
    config = default.recommended_for("tmax")
    config.model.generator = "unet" if variant == "pix2pix25d" else "temporal"
    config.model.neighbours = 1
    config.model.unet_dims = 3 if variant == "temp3d" else 2
    config.train.batch_size = config.data.slices  # one exam
    return config
