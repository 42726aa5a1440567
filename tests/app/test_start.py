"""Process set-up: which compiled programs are kept; what is begun before the rest is imported."""

import contextlib
import gc

import jax
import ml_collections
import pytest

from dscgan_jax import main
from dscgan_jax.app import start
from dscgan_jax.data import nifti
from dscgan_jax.figures import apart

LEAST, AS_IT_WAS = "jax_persistent_cache_min_compile_time_secs", 0.7


@pytest.fixture(autouse=True)
def _restored():
    before = getattr(jax.config, LEAST)
    jax.config.update(LEAST, AS_IT_WAS)
    yield
    jax.config.update(LEAST, before)


@pytest.mark.parametrize("users_own", [None, "0.2"])
def test_short_programs_are_kept_in_a_given_folder_too_unless_the_user_says_otherwise(users_own, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    if users_own is None:
        monkeypatch.delenv(LEAST.upper(), raising=False)
    else:
        monkeypatch.setenv(LEAST.upper(), users_own)
    start.set_up(ml_collections.ConfigDict())
    assert getattr(jax.config, LEAST) == (AS_IT_WAS if users_own else pytest.approx(0.05))


def test_a_process_that_draws_is_begun_and_then_the_exam_is_read(monkeypatch, tmp_path):
    begun, exam = [], tmp_path / "exam.nii.gz"
    exam.touch()
    monkeypatch.setattr(apart, "process", lambda: contextlib.nullcontext(begun.append("drawing")))
    monkeypatch.setattr(nifti, "read_ahead", lambda path, dims: begun.append(path))
    before = gc.get_threshold()
    with main._ahead(exam):
        assert begun == ["drawing", exam] and gc.get_threshold() > before
    assert gc.get_threshold() == before
