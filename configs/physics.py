"""The network `physics`: five maps, learned from simulated exams as varied as the world's alone.

python -m dscgan_jax.main --config=configs/physics.py:shipped   (what ships; minutes on a GPU)
python -m dscgan_jax.main --config=configs/physics.py:gpu       (longer, from more exams; not run in this form yet)
python -m dscgan_jax.main --config=configs/physics.py           (smaller; hours on two CPU cores)
python -m dscgan_jax.main --config=configs/physics.py:further   (from the network that ships on; an hour on two cores)
python -m dscgan_jax.main --config=configs/physics.py:demo      (minutes; to try it)

Exams simulated during training stay in config.data.cache_dir, 4 to 7 MB each. With config.data.root the exams are
those of that folder. docs/shipped_network_tried.md says what was tried before, docs/phantom.md what is drawn.
"""

import ml_collections

from dscgan_jax.configs import default
from dscgan_jax.maps import MAP_NAMES

VARIANTS = ("shipped", "gpu", "further", "demo")


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    if variant and variant not in VARIANTS:
        raise ValueError(
            f"--config=...:{variant}: unknown variant; known are {', '.join(VARIANTS)} (none = two cores)."
        )
    config = default.get_config()
    config.target = MAP_NAMES

    # The cohort gives the ranges and the validation split; what is trained on is drawn while the run goes on.
    config.phantom.preset = "varied"
    config.phantom.subjects = 80
    config.phantom.size = 0
    config.phantom.slices = 0
    config.phantom.drawn_beside = 1200
    config.phantom.drawn_slices = 6  # exams differ more than their slices do
    config.data.split_fractions = (0.5, 0.4, 0.1)

    config.data.slices = 0
    config.data.frames = 64
    config.data.time_mode = "seconds"
    config.data.frame_seconds = 1.25  # 64 frames cover 80 s: 12 s before the bolus, 68 s after its arrival
    config.data.lead_seconds = 12.0
    config.data.non_steady_state = "hold"
    config.data.signal = "relative"  # needs no echo time, and no gain changes it

    config.model.generator = "light"
    config.model.width = 32
    config.model.depth = 4
    config.model.looks = 8
    config.model.arterial_input = True  # few slices hold a large artery, without which none knows when the bolus came
    config.model.peak_time = True
    config.model.norm = "instance"  # of the discriminator that this objective leaves idle; the generator has none
    config.model.discriminator_width = 8
    config.loss.objective = "l1"
    config.loss.map_weights = (1.0, 1.0, 4.0, 8.0, 2.0)  # the ranges of MTT, Tmax and TTP are wide
    config.loss.outside_weight = 0.1  # what is predicted there is cut off; a little keeps the rim of the brain calm

    config.train.batch_size = 8
    config.train.augment = True
    config.train.augment_more = True
    config.train.crop = 96
    config.train.learning_rate = 5e-4
    config.train.beta1 = 0.9
    config.train.clip_norm = 1.0  # a long run without it, at a rate of 1e-3, broke down after 10,500 steps
    config.train.decay = "cosine"
    config.train.steps = 16_000
    # Epochs are of the cohort's training split: 40 exams, 693 slices, 87 steps.
    config.train.checkpoint_every_epochs = 10.0
    config.train.sample_every_epochs = 100.0
    config.evaluate.baselines = ("parametric", "osvd")

    if variant in ("shipped", "gpu"):
        config.phantom.drawn_beside = 3600
        config.model.width = 64
        config.train.batch_size = 32
        config.train.crop = 0
        config.train.learning_rate = 8e-4
        config.train.steps = 42_000
        config.train.checkpoint_every_epochs = 400.0  # of 22 steps
        config.train.sample_every_epochs = 1000.0
    if variant == "shipped":
        config.phantom.drawn_beside, config.phantom.drawn_slices = 2000, 10
        config.model.peak_time = False
        config.loss.map_weights = (1.0, 1.0, 4.0, 4.0, 2.0)
        config.train.augment_more = False
        config.train.clip_norm = 0.0
        config.train.steps = 11_500
        config.train.checkpoint_every_epochs = 50.0
        config.train.sample_every_epochs = 500.0
    if variant == "further":
        config.phantom.seed = 57  # other exams than those that it has seen
        config.phantom.drawn_beside = 700
        config.model.width = 64
        config.train.start_from = "physics"
        config.train.learning_rate = 3e-4
        config.train.steps = 4000
        config.train.checkpoint_every_epochs = 12.0
        config.train.sample_every_epochs = 500.0
    if variant == "demo":
        config.phantom.subjects = 12
        config.phantom.drawn_beside = 64
        config.model.width = 16
        config.train.steps = 300
    return config
