"""A folder of maps as a BIDS derivative: what is described, what is left alone, and that no path gets out."""

import json

import pytest

from dscgan_jax import __version__
from dscgan_jax.data import bids_derivative as bids
from dscgan_jax.errors import InputError


def described(folder, **changes):
    bids.describe(folder, "by hand", **changes)
    return json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))


def test_the_description_names_the_software_and_where_the_exams_are(tmp_path):
    (tmp_path / "exams ä").mkdir()
    own = {"Name": "mine", "DatasetDOI": "doi:10.1/x", "Patient": "never copied"}
    (tmp_path / "exams ä" / "dataset_description.json").write_text(json.dumps(own))
    (tmp_path / "maps").mkdir()
    record = described(tmp_path / "maps", source=tmp_path / "exams ä")
    assert record["DatasetType"] == "derivative"
    assert record["GeneratedBy"] == [{"Name": "dscgan_jax", "Version": __version__, "Description": "by hand"}]
    assert record["SourceDatasets"] == [{"DOI": "doi:10.1/x", "URL": "../exams%20%C3%A4"}]


def test_a_folder_far_away_is_not_named(tmp_path):
    for name in ("hospital/exams", "maps"):
        (tmp_path / name).mkdir(parents=True)
    record = described(tmp_path / "maps", source=tmp_path / "hospital" / "exams")
    assert "SourceDatasets" not in record and "hospital" not in json.dumps(record)


@pytest.mark.parametrize("content", ['{"Name": "mine", "GeneratedBy": [{"Name": "fMRIPrep"}]}', "not JSON"])
def test_what_somebody_else_has_written_stays(tmp_path, content):
    for name in ("dataset_description.json", "participants.json", ".bidsignore"):
        (tmp_path / name).write_text(content)
    bids.describe(tmp_path, "by hand")
    assert {path.read_text() for path in tmp_path.iterdir()} == {content}


def test_an_earlier_description_of_ours_is_renewed(tmp_path):
    bids.describe(tmp_path, "by foot")
    assert described(tmp_path)["GeneratedBy"][0]["Description"] == "by hand"


def test_a_desc_entity_holds_letters_and_digits_alone():
    assert bids.stem_of("sub-1", bids.check_desc("parametric2")) == "sub-1_desc-parametric2"
    assert bids.stem_of("sub-1", bids.check_desc("")) == "sub-1"
    for word in ("a-b", "a_b", "../up", "ä", " "):
        with pytest.raises(InputError, match="letters and digits alone"):
            bids.check_desc(word)
