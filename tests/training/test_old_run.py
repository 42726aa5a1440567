"""A run of an older version: it resumes, predicts what it predicted, and its records still make a page.

`golden/old_run.tar.xz` holds a tiny run of commit ee3de16 (5 phantom exams of 32 x 32 x 2, width 2, 6 steps), when the
state had a random key, batch norm by slice was called `batch`, and some fields had other names.
"""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest

from dscgan_jax import provenance, settings
from dscgan_jax.configs import default
from dscgan_jax.data.exams import load_exam
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import records
from dscgan_jax.methods.network import NetworkSource, Predictor
from dscgan_jax.pages import report
from dscgan_jax.training import checkpoints, state
from dscgan_jax.training.workdir import check_same_data, check_workdir

ARCHIVE = pathlib.Path(__file__).resolve().parents[1] / "golden" / "old_run.tar.xz"
STEP = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # from 3.11.4 on
        archive.extractall(folder)
    return folder


def stored_config(world):
    return json.loads((world / "run" / "config.json").read_text())


def test_the_config_is_read_under_its_new_names_and_continues_the_run(world):
    stored = stored_config(world)
    assert "transients" in stored["data"] and stored["evaluate"]["norm_at_test"] == "batch"
    config = settings.from_json(stored, default.get_config())
    settings.check(config)
    assert (config.data.non_steady_state, config.evaluate.norm_at_test) == ("hold", "per_slice")
    check_workdir(world / "run", config)
    config.data.non_steady_state = "keep"
    with pytest.raises(InputError, match=r"config\.data\.non_steady_state='hold', this one has 'keep'"):
        check_workdir(world / "run", config)


def test_the_whole_state_is_restored(world):
    config = settings.from_json(stored_config(world), default.get_config())
    _, _, before = state.create(
        config.model, config.train, frames=config.data.frames, n_targets=1, seed=config.seed, total_steps=STEP
    )
    kept = checkpoints.Checkpoints(world / "run", config.train.keep_checkpoints)
    assert kept.latest_step() == STEP
    restored, record = kept.restore(STEP, before), kept.record(STEP)
    kept.close()

    assert int(restored.step) == STEP and restored.step.dtype == before.step.dtype
    told = json.loads((world / "run" / "evaluation" / "test" / "summary.json").read_text())["checkpoint"]
    assert provenance.digest(restored.generator) == told["sha256"]
    moments = [leaf for leaf in jax.tree.leaves((restored.opt_g, restored.opt_d)) if leaf.ndim]
    assert all(np.isfinite(leaf).all() for leaf in moments) and any(np.asarray(leaf).any() for leaf in moments)
    assert {int(leaf) for leaf in jax.tree.leaves((restored.opt_g, restored.opt_d)) if not leaf.ndim} == {STEP}
    assert record.data.counts == {"n_train": 3, "n_validation": 1, "n_test": 1}
    assert record.software["git"] == "ee3de1655b09"
    check_same_data(record.data, record.data, world / "run")


@pytest.mark.slow
def test_it_predicts_what_it_predicted(world, tmp_path):
    source = NetworkSource(Predictor.from_run(world / "run"), tmp_path)
    made = source.maps_of(load_exam(world / "exams" / "sub-0004_dsc.nii.gz"))
    assert list(made) == ["network_per_slice", "network_running"]
    for name, former in (("network_per_slice", "network_batch"), ("network_running", "network_running")):
        with np.load(world / "run" / "maps" / "test" / former / "sub-0004_scaled.npz") as expected:
            # Equal on the machine that made them; another one may round otherwise.
            np.testing.assert_allclose(made[name].scaled.values, expected["scaled"], atol=2e-6)


def test_its_records_still_make_a_page(world):
    folder = world / "run" / "evaluation" / "test"
    assert "network_batch" in (folder / "subjects.csv").read_text()
    rows, summary = records.read_subjects(folder / "subjects.csv"), records.read_summary(folder / "summary.json")
    assert {row["source"] for row in rows} == set(summary["results"])
    assert "network_per_slice" in summary["results"] and "network_batch" not in summary["results"]
    page = report.write(world / "run").read_text()
    assert "slice statistics" in page and "network_batch" not in page
