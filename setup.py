"""Packaging of dscgan_jax. Each dependency has its reason beside it."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
# The one place that names the version is the package; it is read, not imported: nothing is installed yet.
VERSION = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "dscgan_jax" / "__init__.py").read_text(), re.MULTILINE)[1]

# Both ends of each range were tried: a run that the lowest versions began goes on by the newest, and the reverse
# (studies/harm/versions.py). tensorflow-datasets 4.9.9 lacks ShardBasedBuilder, flax 0.12.0 does not know JAX 0.10.
REQUIREMENTS = [
    # Arrays, differentiation, compilation. With 0.11 four tests fail: float32 steps on a CPU leave the published
    # numbers by more than rounding did before (double precision agrees), and a lean step needs no less memory.
    "jax>=0.10,<0.11",
    "flax>=0.12.1,<0.13",  # NNX modules: the parameters and statistics of the networks
    "optax>=0.2.4,<0.3",  # Adam and learning-rate schedules
    "orbax-checkpoint>=0.11.30,<0.13",  # asynchronous checkpoints that survive a kill
    "tensorflow-datasets>=4.9.10",  # the prepared data set (used without TensorFlow)
    "importlib_resources>=5.12",  # tensorflow-datasets imports it, but from Python 3.12 on nothing installs it
    "flatbuffers>=24.3.25",  # JAX's own need to write and read exported programs, which it does not install
    "safetensors>=0.4.3",  # weights and drawn exams: reading one executes nothing, as a pickle could
    "array_record>=0.8.1",  # the file format of the prepared data
    "grain>=0.2.12",  # batches: shuffling, read-ahead, resumable position
    "nibabel>=5.3",  # NIfTI in and out
    "isal>=1.7",  # packs and unpacks .nii.gz: reading an exam takes a third of the time, writing maps a tenth
    "numpy>=2.0",  # arrays on the host
    "scipy>=1.14",  # interpolation, morphology, special functions
    "einops>=0.8",  # reshapes one can read
    "absl-py>=2.1",  # the command line
    "ml_collections>=1.0",  # configurations that refuse a typo
    "matplotlib>=3.9",  # panels and plots
    "pillow>=10.3",  # ... as PNG files; Matplotlib needs it too
    "tqdm>=4.66.3",  # progress and time left
    "tensorboardX>=2.6.2",  # TensorBoard events without TensorFlow
]

DOCS = [
    "sphinx>=8",  # the pages of docs/ as a site, with the Python interface from its docstrings
    "myst-parser>=4",  # ... written in Markdown, which the repository shows as well
    "furo>=2024.8",  # its look: light, kept, readable on a telephone
]

TEST = [
    *DOCS,  # a test builds the site
    "pytest>=8",  # runs the tests
    "pytest-xdist>=3.5",  # ... in as many processes as there are cores
    "scikit-image>=0.22",  # the reference for SSIM and its neighbours
    "hypothesis>=6.100",  # properties over many drawn inputs
    "scikit-learn>=1.4",  # as in `study`
    "SimpleITK>=2.3",  # another reader of NIfTI: where it puts our voxels
    "bids-validator-deno>=2.0",  # what is a BIDS derivative and what is not
    "highdicom>=0.28",  # as in `dicom`
    "playwright>=1.40",  # clicks through pages in a Chromium that is installed
    "pydicom>=3",  # writes invented series
    "dcm2niix>=1.0.20250506",  # ... which the package reads
]

EXTRAS = {
    "test": TEST,
    "dev": [
        *TEST,
        "ruff>=0.17",  # one layout, and what a linter finds
        "pyright>=1.1.400",  # types of the ground, data, evaluation and methods
        "pre-commit>=3.7",  # runs both before each commit
    ],
    "dicom": [
        "dcm2niix>=1.0.20250506",  # DICOM to NIfTI, as most of the field does it; the wheel holds the program
        "pydicom>=3",  # headers: whose exam a file is, which series, whether slices are missing
        "highdicom>=0.28",  # maps as DICOM parametric maps (data/dicom_maps.py)
    ],
    "docs": DOCS,
    "study": ["scikit-learn>=1.4"],  # the trees that a study compares networks with (methods/trees.py)
    "bench": ["torch>=2.6"],  # what benchmarks/versus_torch.py compares with
    "beam": ["apache-beam>=2.70"],  # cohorts on more than one machine (launch/beam.py); it holds protobuf below 7
    "cuda": ["jax[cuda12]>=0.10,<0.11"],  # NVIDIA GPUs
    # What compiles for an H100 without one (benchmarks/gpu_program.py): 5 GB, in an environment of its own.
    "gpu_program": ["jax[cuda13]>=0.10,<0.11"],
    "tpu": ["jax[tpu]>=0.10,<0.11"],  # Google TPUs
}

setup(
    name="dscgan_jax",
    version=VERSION,
    description="Perfusion maps from DSC-MRI series with conditional GANs in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords=["perfusion", "DSC-MRI", "stroke", "deconvolution", "GAN", "JAX"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # The configs live at the root of the repository and ship in the wheel as dscgan_jax.configs.
    packages=[*find_packages(include=["dscgan_jax", "dscgan_jax.*"]), "dscgan_jax.configs"],
    package_dir={"dscgan_jax.configs": "configs"},
    # weights/ holds the shipped network and its model card, pages/ the scripts of pages.
    package_data={
        "dscgan_jax": [
            "py.typed",
            "weights/*.safetensors",
            "weights/*.md",
            "pages/*.js",
            "pages/viewer/*.js",
            "pages/viewer/*.css",
        ]
    },
    entry_points={"console_scripts": ["dscgan-jax = dscgan_jax.main:entry"]},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
)
