"""A run of a network that sees neighbours: it resumes exactly, and predicts exams of any number of slices."""

import itertools

import jax
import numpy as np
import pytest
import runs
from exams import config_of, write_fake_cohort

from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import temp_tmax
from dscgan_jax.data import batches, dataset, exams
from dscgan_jax.methods.network import Predictor
from dscgan_jax.training import loop, resident, sharding

pytestmark = pytest.mark.slow

SLICES = 2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Four exams of three slices on a network grid of two; a 3-D U-Net on the frames."""
    folder = tmp_path_factory.mktemp("volume")
    write_fake_cohort(folder / "exams", 4, ("train", "validation", "train", "test"))
    config = temp_tmax.get_config("demo")
    whole = {"model.neighbours": 1, "model.unet_dims": 3, "data.slices": SLICES, "train.batch_size": 4 * SLICES}
    often = {"train.steps": 3, "train.checkpoint_every_epochs": 2.0, "train.sample_every_epochs": 4.0}
    places = {"data.root": str(folder / "exams"), "data.cache_dir": str(folder / "cache")}
    config.update_from_flattened_dict({**runs.QUICK, **whole, **often, **places})
    return config


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A run that was never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    loop.train(config, workdir, *prepare(config))
    return workdir


def test_a_run_resumes_as_if_never_interrupted_and_shows_its_slices(config, trained, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    after = loop._Outputs.after

    def stop(outputs, step, *rest):
        after(outputs, step, *rest)
        if step == 2:
            outputs.close()
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(loop._Outputs, "after", stop)
        with pytest.raises(Stopped):
            loop.train(config, tmp_path / "halves", *prepare(config))
    told = []
    loop.train(config, tmp_path / "halves", *prepare(config), tell=told.append)
    assert "from step 2 of 3" in told[0]
    whole, halves = (Predictor.from_run(workdir, "latest") for workdir in (trained, tmp_path / "halves"))
    assert whole.step == halves.step == 3 and whole.sha256 == halves.sha256
    assert list((trained / "samples").glob("*.png"))


def test_an_exam_is_predicted_whole_whatever_its_number_of_slices(config, trained):
    predictor = Predictor.from_run(trained, "latest")
    maps = predictor.predict(exams.load_exam(f"{config.data.root}/sub-0001/perf/sub-0001_dsc.nii.gz"))
    assert maps["tmax"].shape == (16, 16, 3) and maps.scaled.values.shape[0] == SLICES
    assert np.isfinite(maps["tmax"]).all() and maps["tmax"].any()


def test_batches_hold_whole_exams_in_order_wherever_slices_are_kept_and_resume(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3, ("train",), shape=(16, 16, 3))
    built = dataset.prepared(config_of(root, tmp_path / "cache"), progress=False, for_training=False)
    names = {
        example["dsc"].tobytes(): (example["subject"].decode(), int(example["slice_index"]))
        for example in built.as_data_source("train")
    }
    how = {"batch_size": 6, "seed": 1, "exam_slices": 3}
    mesh = sharding.data_mesh(jax.devices()[:2])
    whole = resident.load(batches.training_slices(built), mesh, read_threads=2)
    n = 6  # four epochs, every other batch straddling two
    disk = list(itertools.islice(batches.train_batches(built, **how), n))
    memory = list(itertools.islice(batches.train_batches(built, **how, memory_mib=100), n))
    device = list(itertools.islice(resident.batches(whole, mesh, **how), n))
    resumed = list(itertools.islice(batches.train_batches(built, **how, start_step=4), n - 4))
    seen = [names[np.asarray(dsc).tobytes()] for batch in disk for dsc in batch.dsc]
    for same in (memory, device, disk[:4] + resumed):
        assert seen == [names[np.asarray(dsc).tobytes()] for batch in same for dsc in batch.dsc]
    subjects = [[subject for subject, _ in seen[first : first + 3]] for first in range(0, len(seen), 3)]
    assert all(len(set(exam)) == 1 for exam in subjects) and [number for _, number in seen] == [0, 1, 2] * (2 * n)
    epochs = [[exam[0] for exam in subjects[first : first + 3]] for first in range(0, len(subjects), 3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs) and len({tuple(epoch) for epoch in epochs}) > 1
    (one,) = resident.batches(whole, mesh, **how).__next__().dsc.addressable_shards[:1]
    assert one.data.shape[0] == 3, "a device holds an exam, not parts of two"
