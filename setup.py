"""Packaging of dscgan_jax. Each dependency's reason stands beside it."""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent

REQUIREMENTS = [
    "jax>=0.10,<0.12",  # arrays, differentiation, compilation; 0.12 may drop what we use
    "flax>=0.12",  # NNX modules: the parameters and statistics of the networks
    "optax>=0.2.4",  # Adam and learning-rate schedules
    "orbax-checkpoint>=0.11",  # asynchronous checkpoints that survive a kill
    "tensorflow-datasets>=4.9.9",  # the prepared data set (used without TensorFlow)
    "importlib_resources>=5.12",  # tensorflow-datasets imports it, but from Python 3.12 on nothing installs it
    "array_record>=0.7",  # the file format of the prepared data
    "grain>=0.2.12",  # batches: shuffling, read-ahead, resumable position
    "nibabel>=5.2",  # NIfTI in and out
    "numpy>=1.26",  # arrays on the host
    "scipy>=1.12",  # interpolation, morphology, special functions
    "einops>=0.8",  # reshapes one can read
    "absl-py>=2.1",  # the command line
    "ml_collections>=1.0",  # configurations that refuse a typo
    "matplotlib>=3.8",  # panels and plots
    "tqdm>=4.66",  # progress and time left
    "tensorboardX>=2.6.2",  # TensorBoard events without TensorFlow
]

EXTRAS = {
    "test": [
        "pytest>=8",  # runs the tests
        "scikit-image>=0.22",  # the reference for SSIM and its neighbours
        "chex>=0.1.86",  # comparisons of trees
        "hypothesis>=6.100",  # properties over many drawn inputs
    ],
    "bench": ["torch>=2.6"],  # what benchmarks/versus_torch.py compares with
    "cuda": ["jax[cuda12]>=0.10,<0.12"],  # NVIDIA GPUs
    "tpu": ["jax[tpu]>=0.10,<0.12"],  # Google TPUs
}

setup(
    name="dscgan_jax",
    version="0.1.0",
    description="Perfusion maps from DSC-MRI series with conditional GANs in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # The configs live at the root of the repository and ship in the wheel as dscgan_jax.configs.
    packages=[*find_packages(include=["dscgan_jax", "dscgan_jax.*"]), "dscgan_jax.configs"],
    package_dir={"dscgan_jax.configs": "configs"},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
)
