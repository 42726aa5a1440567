"""What is usual of a trained network's maps: from its validation exams alone, once for a checkpoint, and told."""

import pytest
import runs

from dscgan_jax.app import usual
from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import temp_tmax
from dscgan_jax.data.quality import Consistency
from dscgan_jax.phantom import cohort
from dscgan_jax.training import loop, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Config and work directory of a run on two training exams, four validation exams and one test exam."""
    folder = tmp_path_factory.mktemp("usual")
    shares = (2 / 7, 4 / 7, 1 / 7)
    cohort.write_cohort(folder / "exams", preset="acute", subjects=7, seed=6, size=32, slices=2, split_fractions=shares)
    config = temp_tmax.get_config("demo")
    fields = {"train.steps": 1, "data.root": str(folder / "exams"), "data.cache_dir": str(folder / "cache")}
    config.update_from_flattened_dict({**runs.QUICK, **fields})
    builder, data = prepare(config)
    loop.train(config, folder / "run", builder, data)
    return config, folder / "run", data


@pytest.fixture
def predicted(monkeypatch):
    """The subjects that are predicted, whose maps are all as usual."""
    subjects: list[str] = []

    def rows_of(predictor, of):
        subjects.extend(exam.subject for exam in of)
        return [Consistency(tmax_disorder=0.5)] * len(subjects)

    monkeypatch.setattr(usual, "rows_of", rows_of)
    return subjects


def test_the_validation_exams_say_what_is_usual_once(run, predicted, capsys):
    config, workdir, data = run
    usual.measure(config, workdir)
    assert sorted(predicted) == sorted(one for one, split in data.splits.items() if split == "validation")
    assert weights.of_run(workdir).usual == {"tmax_disorder": 0.5}
    assert "from 4 of 4 validation exams" in capsys.readouterr().out
    usual.measure(config, workdir)
    assert len(predicted) == 4
    (workdir / weights.USUAL_FILE).unlink()


def test_a_run_with_few_exams_says_that_nothing_is_known(run, monkeypatch, capsys):
    config, workdir, _ = run
    monkeypatch.setattr(usual, "MOST_EXAMS", 1)
    usual.measure(config, workdir)
    assert weights.of_run(workdir).usual == {}
    assert "too few to judge other maps by (4 are needed)" in capsys.readouterr().out
    (workdir / weights.USUAL_FILE).unlink()
