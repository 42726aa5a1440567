"""Cohorts and prepared data as Apache Beam jobs, on Beam's own runner in this process: the same as without it."""

import pathlib
import subprocess
import sys

import exams as invented
import numpy as np
import pytest
from side_by_side import Maps

from dscgan_jax.data import dataset, layouts, shards
from dscgan_jax.errors import InputError
from dscgan_jax.methods import cohort

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (the extra beam)")

from dscgan_jax.methods import pipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNNER = "DirectRunner"


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    return invented.write_fake_cohort(tmp_path_factory.mktemp("beam") / "exams", 4)


def planned(root, out):
    return cohort.plan(Maps(), layouts.find_subjects(root, "bids"), out, root)


def test_a_cohort_is_the_same_as_without_beam_and_goes_on(exams, tmp_path):
    cohort.run(planned(exams, tmp_path / "here"))
    rows = pipeline.run(planned(exams, tmp_path / "there"), RUNNER)
    assert [row.subject for row in rows] == [f"sub-000{n}" for n in (1, 2, 3, 4)]
    names = ("sub-0002/perf/sub-0002_tmax.nii.gz", "sub-0004/perf/sub-0004_mask.nii.gz", "participants.tsv")
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert "4 of 4 exams have maps" in (tmp_path / "there" / "cohort.html").read_text()
    written = (tmp_path / "there" / names[0]).stat().st_mtime_ns
    again = planned(exams, tmp_path / "there")
    assert again.missing == () and len(pipeline.run(again, RUNNER)) == 4
    assert (tmp_path / "there" / names[0]).stat().st_mtime_ns == written


def test_a_broken_exam_costs_itself_alone(tmp_path):
    root = invented.write_fake_cohort(tmp_path / "exams", 3)
    invented.truncate(root / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz")
    rows = pipeline.run(planned(root, tmp_path / "out"), RUNNER)
    assert [row.status for row in rows] == ["made", "failed", "made"]


def test_prepared_data_are_the_same_as_without_beam(exams, tmp_path):
    here = dataset.prepared(invented.config_of(exams, tmp_path / "here"), progress=False)
    config = invented.config_of(exams, tmp_path / "there")
    there = dataset.prepared(config, progress=False, beam=shards.BeamRun(RUNNER))
    assert here.info.metadata == there.info.metadata and here.info.metadata["findings"]
    for split in ("train", "validation", "test"):
        assert here.info.splits[split].shard_lengths == there.info.splits[split].shard_lengths
        for one, two in zip(here.as_data_source(split), there.as_data_source(split), strict=True):
            assert one.keys() == two.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], two[name])
    assert not list((tmp_path / "there" / "prepared").glob(".*.facts"))


def test_an_exam_that_cannot_be_prepared_is_one_line_and_leaves_nothing(tmp_path):
    root = invented.write_fake_cohort(tmp_path / "exams", 3)
    invented.truncate(root / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz")
    with pytest.raises(InputError, match="sub-0002_dsc"):
        dataset.prepared(invented.config_of(root, tmp_path / "cache"), progress=False, beam=shards.BeamRun(RUNNER))
    assert not list((tmp_path / "cache").rglob("*.array_record*"))


def test_the_launch_script_makes_maps(exams, tmp_path):
    line = [sys.executable, str(ROOT / "launch" / "beam.py"), "--mode=deconvolve", "--method=csvd", "--motion=none"]
    done = subprocess.run(
        [*line, f"--input={exams}", f"--output={tmp_path / 'out'}", "--", "--direct_num_workers=1"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "4 of 4 exams failed" in done.stderr  # invented exams hold no artery
    assert "sub-0003: no AIF" in done.stdout and (tmp_path / "out" / "summary.csv").is_file()
