"""Which versions the study of versions tries: the lowest that setup.py admits."""

import pathlib

from harm import versions

SETUP = pathlib.Path(__file__).resolve().parents[2] / "setup.py"


def test_the_oldest_versions_are_the_lower_bounds_of_setup():
    pins = versions.oldest_pins(SETUP.read_text(encoding="utf-8"))
    assert "jax==0.10" in pins and any(pin.startswith("orbax-checkpoint==") for pin in pins)
    bounds = SETUP.read_text(encoding="utf-8").partition("REQUIREMENTS = [")[2].partition("\n]\n")[0].count(">=")
    assert len(pins) == bounds
