"""What is no network of ours, scored as one is: on three tiny phantom exams, and on exams without a split column."""

import csv
import json
import sys

import pytest
import runs
from exams import config_of, write_fake_cohort

from dscgan_jax.app import comparators, evaluate
from dscgan_jax.configs import default
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods.conventional import ConventionalSource, settings_of

NULLS = ["blank", "null_median"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A phantom cohort in the cache: one exam to train on, one to validate with, one to test."""
    config = default.get_config("demo")
    fields = {"phantom.subjects": 3, "phantom.size": 32, "phantom.slices": 1, "data.size": runs.TINY["data.size"]}
    config.update_from_flattened_dict(fields)
    config.target = ("tmax", "ttp")
    config.data.cache_dir = str(tmp_path_factory.mktemp("cache"))
    config.evaluate.baselines = ("csvd", "osvd")
    config.conventional.update(motion="none", scale="none")  # the scale takes a parametric fit, seconds of compilation
    return config


def rows_of(workdir, name="test"):
    with open(workdir / "evaluation" / name / "subjects.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns(rows):
    """Sources and maps in their order, and who was scored."""
    return (
        list(dict.fromkeys(row["source"] for row in rows)),
        list(dict.fromkeys(row["map"] for row in rows)),
        {row["subject"] for row in rows},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "sources", "maps"),
    [("trees", ["trees"], ["tmax", "ttp"]), ("conventional", ["csvd", "osvd"], list(MAP_NAMES))],
)
def test_they_stand_beside_the_nulls_in_records_as_a_network_leaves_them(config, tmp_path, which, sources, maps):
    scores = comparators.run(config, tmp_path, which, voxels=300, jobs=1)
    rows = rows_of(tmp_path)
    cohort = evaluate.cohort_of(config, "test")
    tested = {subject for subject, split in cohort.data.splits.items() if split == "test"}
    assert columns(rows) == ([*sources, *NULLS], maps, tested)
    assert len(rows) == len(scores.rows) and all(row["scaled_ssim"] for row in rows)  # the ranges are the training's
    summary = json.loads((tmp_path / "evaluation/test/summary.json").read_text())
    assert summary["checkpoint"] is None and summary["data"]["n_train"] == 1
    assert summary["data"].get("arterial_input") == ("files" if which == "conventional" else None)
    assert (tmp_path / "report.html").is_file() and list((tmp_path / "evaluation/test").glob("*_subject.png"))
    written = {path.name.split("_")[-1] for path in (tmp_path / "maps/test" / sources[-1]).glob("*.nii.gz")}
    assert written == {f"{name}.nii.gz" for name in maps}


@pytest.mark.slow
def test_any_sources_are_scored_together_and_under_any_name(config, tmp_path):
    cohort = evaluate.cohort_of(config, "validation")
    own_aif = {files.subject: files.aif for files in cohort.subjects}
    conventional = ConventionalSource(settings_of(config), ("osvd",), ("ttp",), tmp_path, "files", own_aif)
    trees = comparators.trees_of(cohort, tmp_path, voxels=100, jobs=1)
    evaluate.of_sources(cohort, [conventional, trees], tmp_path, "both")
    assert columns(rows_of(tmp_path, "both"))[0] == ["osvd", "trees", *NULLS]
    assert (tmp_path / "report_both.html").is_file()


def test_without_a_split_column_nobody_that_the_trees_saw_is_scored(tmp_path):
    config = config_of(write_fake_cohort(tmp_path / "exams", 5, None), tmp_path / "cache")
    cohort = evaluate.cohort_of(config, "test")
    assert [cohort.data.splits[files.subject] for files in cohort.subjects] == ["test"]
    # Anybody's maps are scored on all of them.
    assert len(evaluate.cohort_of(config, "test", for_training=False).subjects) == 5


def test_what_cannot_be_is_refused_in_one_line_before_anything_is_prepared(config, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "cohort_of", None)
    with pytest.raises(InputError, match="'forest' is unknown; expected conventional or trees"):
        comparators.run(config, tmp_path, "forest")
    without = config.copy_and_resolve_references()
    without.evaluate.baselines = ()
    with pytest.raises(InputError, match=r"config\.evaluate\.baselines is empty"):
        comparators.run(without, tmp_path, "conventional")
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'dscgan_jax\[study\]'"):
        comparators.run(config, tmp_path, "trees")
