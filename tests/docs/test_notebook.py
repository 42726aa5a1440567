"""The notebook of the docs runs from its first cell to its last, and is stored without what it printed."""

import contextlib
import io
import json
import pathlib

import nibabel
import pytest

NOTEBOOK = json.loads(
    (pathlib.Path(__file__).resolve().parents[2] / "docs" / "first_exam.ipynb").read_text(encoding="utf-8")
)
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs():
    assert len(CODE) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)


@pytest.mark.slow
def test_the_notebook_runs_and_both_methods_find_the_lesion(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, cell in enumerate(CODE, 1):
            exec(compile("".join(cell["source"]), f"first_exam.ipynb, cell {number}", "exec"), names)
    dice = {name: score["tmax"]["dice_over_6s"] for name, score in names["scores"].items()}
    assert dice["network"] > 0.9 and dice["deconvolution"] > 0.89
    assert "voxels and frames" in printed.getvalue() and "Dice of Tmax > 6 s" in printed.getvalue()
    written = nibabel.load(next((tmp_path / "first_exam_maps").glob("*_tmax.nii.gz")))
    assert written.shape == names["exam"].series.shape[:3]
    names["plt"].close("all")
