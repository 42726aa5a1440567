"""What a checkpoint records of its exams: plain values, also from records of older versions."""

import json

from dscgan_jax.data.record import DataRecord

METADATA = {
    "splits": {"sub-1": "train", "sub-2": "test", "sub-3": "train"},
    "ranges": {"percentile": {"tmax": (0.0, 12.0), "cbf": None}},
    "medians": {"tmax": 2.0},
    "features": {"frame_seconds": {"low": 1.0, "high": 2.0}},
    "excluded": ({"subject": "sub-4", "reason": "split is exclude"},),
    "source_fingerprint": "0123",
    "settings": {"size": 64},
}


def test_a_record_is_what_json_gives_back_and_counts_its_subjects():
    record = DataRecord.of(METADATA, "exams", {"sub-1": 10})
    assert record == DataRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert record.summary == {"source": "exams", "fingerprint": "0123", "n_train": 2, "n_validation": 0, "n_test": 1}
    assert record.ranges["percentile"]["tmax"] == [0.0, 12.0]
    assert set(record.to_json()) == {
        *("source", "fingerprint", "n_train", "n_validation", "n_test", "series_bytes"),
        *("splits", "ranges", "medians", "features", "excluded"),
    }


def test_what_an_older_record_lacks_is_empty():
    record = DataRecord.from_json({"source": "none", "fingerprint": "", "n_train": 0})
    assert record == DataRecord(source="none") and not record.features and not record.excluded
