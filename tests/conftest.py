"""Four virtual CPU devices, no silent broadcasting, and the golden files where they are present."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])  # Grain's threads read absl flags


def pytest_sessionfinish(session, exitstatus):
    """Where the golden files are present, a skipped test is a failure.

    Nothing that could be checked stays unchecked.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (SHARED / "golden").is_dir() and reporter is not None and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1
        reporter.write_line("the golden files are present, yet tests were skipped: this is a failure", red=True)


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    """Numbers that the published implementation produced; a clone without them skips these tests."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the golden files of the published implementation are not beside this clone")
    return folder


@pytest.fixture(scope="session")
def real_exam() -> pathlib.Path:
    """A real one-slice exam (50 frames of 2 s)."""
    path = SHARED / "real" / "sub-moyamoya_dsc.nii.gz"
    if not path.is_file():
        pytest.skip("the real exam is not beside this clone")
    return path
