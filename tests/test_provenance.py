"""Versions, commit and digest, and that asking for them imports nothing heavy."""

import subprocess
import sys

import numpy as np

from dscgan_jax import provenance


def test_versions_are_known_without_importing_what_they_are_of():
    code = (
        "import sys; from dscgan_jax import provenance; provenance.software_versions();"
        "print(sorted({'jax', 'flax', 'optax', 'orbax', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert set(provenance.software_versions()) == {"dscgan_jax", "jax", "flax", "optax", "orbax-checkpoint", "git"}


def test_a_digest_changes_with_values_and_names_alone():
    weights = {"kernel": np.arange(4.0), "bias": np.zeros(2)}
    assert provenance.digest(weights) == provenance.digest(dict(reversed(weights.items())))
    assert provenance.digest(weights) != provenance.digest({**weights, "bias": np.ones(2)})
    assert provenance.digest(weights) != provenance.digest({"kernels": np.arange(4.0), "bias": np.zeros(2)})
