"""What a machine leaves of a subject that it prepared: numbers and text, which are the same when they are read."""

import numpy as np
import pytest
from exams import config_of, write_fake_exam

from dscgan_jax.data import features, layouts, preparation, shards
from dscgan_jax.data.ranges import RangeGatherer
from dscgan_jax.findings import Finding


@pytest.mark.parametrize("trained_on", [True, False])
def test_the_facts_of_a_subject_come_back_and_reading_them_executes_nothing(tmp_path, trained_on):
    write_fake_exam(tmp_path / "root", maps=("tmax", "ttp"))
    (files,) = layouts.find_subjects(tmp_path / "root")
    settings = preparation.PreparationSettings.from_config(config_of("", ""))
    known = (Finding("map_unlike_others", "warning", "a <sentence>", 3.5),)
    exam, prepared = shards.prepared_of(files, settings, known)
    gathered = RangeGatherer(2)
    gathered.add(prepared)
    likeness = features.features_of(exam)
    facts = shards.Facts("sub-0001", "file", prepared.findings, *((gathered, likeness) if trained_on else (None, None)))
    facts.write(tmp_path / "facts.npz")

    back = shards.Facts.read(tmp_path / "facts.npz")
    assert (back.subject, back.mask_source, back.findings) == ("sub-0001", "file", facts.findings)
    assert back.likeness == facts.likeness
    if trained_on:
        both = RangeGatherer(2)
        both.extend(back.gathered)
        assert both.metadata() == gathered.metadata()
    else:
        assert back.gathered is None
    with np.load(tmp_path / "facts.npz", allow_pickle=False) as stored:
        assert all(array.dtype != object for array in stored.values())
