"""A config so small that everything is really measured, and one record of it."""

import pytest

from dscgan_jax.configs import default
from dscgan_jax.speed import measure, timing
from dscgan_jax.speed.inputs import with_fields


def small(**fields):
    config = default.get_config("demo")
    config.train.batch_size = 4  # one slice for each virtual device
    return with_fields(
        config,
        **{
            "data.size": 32,
            "model.generator": "unet",
            "model.width": 2,
            "model.depth": 2,
            "model.discriminator_width": 2,
            **fields,
        },
    )


@pytest.fixture(autouse=True)
def small_yardsticks(monkeypatch):
    monkeypatch.setattr(timing, "matrix_side", lambda: 64)


@pytest.fixture
def tiny_config():
    return small


@pytest.fixture(scope="session")
def record():
    """A step and the batches of a tiny config, really measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "matrix_side", lambda: 64)
        return measure.run(small(), ("step", "pipeline"), 3, "a command")
