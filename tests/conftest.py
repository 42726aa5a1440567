"""Four virtual CPU devices, no silent broadcasting, and the golden files: all of them, or the subset that is here.

What is compiled is kept for the session, for all its processes: many tests need the same programs.
"""

import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices; waiting threads would take the others' cores
# Without these, programs that run once or twice are compiled in two thirds of the time. Set to nothing, as CI does,
# programs are those that users run.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import golden_files
import jax
import pytest
from absl import flags

OWN_PROGRAMS = "JAX_COMPILATION_CACHE_DIR" not in os.environ  # pytest-xdist's workers inherit the folder
if OWN_PROGRAMS:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="dscgan_jax-programs-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_WORKERS = 4  # each takes up to 3 GB of memory
LONG = ("training", "app", "methods")
MAY_BE_ABSENT = (
    "Chromium is not installed",
    "(the extra beam)",
    "(the extra gpu_program)",
)  # in the reason why a test was skipped
SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_xdist_auto_num_workers(config) -> int:
    """As many processes as there are cores, up to four; none for one or two files, which they would only delay."""
    few = len(config.args) <= 2 and all(argument.partition("::")[0].endswith(".py") for argument in config.args)
    return 0 if few else min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_collection_modifyitems(config, items):
    """Long tests only where they are asked for, by -m, -k or the name of their file; then the rooms that take longest.

    These come first, so that no process waits for another one at the end.
    """
    named = {argument.partition("::")[0] for argument in config.args if ".py" in argument}
    if not (config.option.markexpr or config.option.keyword):
        long = [item for item in items if item.get_closest_marker("slow") and not _is_named(item.path, named)]
        config.hook.pytest_deselected(items=long)
        left_out = set(long)
        items[:] = [item for item in items if item not in left_out]
    order = {room: place for place, room in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


def _is_named(path: pathlib.Path, named: set[str]) -> bool:
    """Whether a test's file is one of those on the command line."""
    return any(path == pathlib.Path(one).resolve() for one in named)


def pytest_configure(config):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])  # Grain's threads read absl flags


def pytest_sessionfinish(session, exitstatus):
    """Where all golden files are present, a skipped test is a failure, but for what the extra `test` does not bring.

    Nothing that could be checked stays unchecked.
    """
    if OWN_PROGRAMS:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (SHARED / "golden").is_dir() and reporter is not None and exitstatus == 0:
        reasons = {report.longrepr[2] for report in reporter.stats.get("skipped", ())}
        if wrong := sorted(reason for reason in reasons if not any(one in reason for one in MAY_BE_ABSENT)):
            session.exitstatus = 1
            reporter.write_line(f"the golden files are present, yet tests were skipped: {'; '.join(wrong)}", red=True)


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> pathlib.Path:
    """Numbers that the published implementation produced.

    All of them where they are beside this clone, otherwise the subset of `tests/golden`.
    """
    if (SHARED / "golden").is_dir():
        return SHARED / "golden"
    folder = tmp_path_factory.mktemp("golden")
    golden_files.expand(folder)
    return folder


@pytest.fixture(scope="session")
def whole_golden() -> pathlib.Path:
    """All golden files, for tests that need what the subset lacks: the published checkpoint files."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("the golden subset holds no checkpoint files; all golden files are not beside this clone")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def real_exam() -> pathlib.Path:
    """A real one-slice exam (50 frames of 2 s)."""
    path = SHARED / "real" / "sub-moyamoya_dsc.nii.gz"
    if not path.is_file():
        pytest.skip("the real exam is not beside this clone")
    return path
