"""Findings as a user reads them in the terminal."""

from dscgan_jax.app import deconvolve, options, output, predict
from dscgan_jax.configs import default
from dscgan_jax.findings import Finding


def test_one_exam_tells_each_finding_the_worst_first_and_offers_only_flags_that_are_read(capsys):
    found = [
        Finding("noisy", "note", "noise of 3 %", 0.03),
        Finding("motion", "warning", "it moved by 4 mm", 4.0, "--motion=rigid"),
        Finding("mask_from_signal", "note", "the mask was found", None, "--aif=FILE"),
    ]
    output.print_findings(found, options.PREDICT)
    assert capsys.readouterr().out.splitlines() == [
        "warning: it moved by 4 mm [--motion=rigid]",
        "note: noise of 3 %",
        "note: the mask was found",
    ]
    output.print_findings(found, options.ONE_FILE)
    assert capsys.readouterr().out.splitlines()[2] == "note: the mask was found [--aif=FILE]"


def test_a_flag_is_offered_as_the_mode_reads_it():
    moved = Finding("motion", "warning", "it moved", 4.0, "--motion=rigid")
    assert options.offered(moved, options.PREDICT).flag == "--motion=rigid"
    assert options.offered(moved, options.PREPARE).flag == "--config.data.motion=rigid"
    assert options.offered(moved, options.CHECK).flag == ""


def test_the_pages_of_a_folder_offer_what_a_folder_reads():
    low = Finding("arterial_low", "warning", "it is low", 2.0, "--aif=FILE")
    empty = Finding("no_first_pass", "warning", "no first pass", 0.1, "--mask=FILE")
    for work in (
        deconvolve.work_of(default.get_config(), "auto"),
        predict.work_of(default.get_config(), "physics", "best"),
    ):
        assert work.offered(empty).flag == ""
    assert deconvolve.work_of(default.get_config(), "auto").offered(low).flag == "--aif=FILE"
    assert predict.work_of(default.get_config(), "physics", "best").offered(low).flag == ""


def test_a_folder_prints_its_warnings_by_subject_and_counts_its_notes(capsys):
    note, warning = (
        Finding("noisy", "note", "noise of 3 %", 0.03),
        Finding("motion", "warning", "it moved by 4 mm", 4.0),
    )
    output.print_folder_findings({"sub-1": [note, warning, warning], "sub-2": [note], "sub-3": []}, options.FOLDER)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "sub-1: warning: it moved by 4 mm"
    assert printed[1:] == ["notes: noisy (2 exams)"]
    output.print_folder_findings({"sub-1": [warning], "sub-2": [warning]}, options.FOLDER)
    assert capsys.readouterr().out == "2 exams: warning: it moved by 4 mm\n"
    output.print_folder_findings({"sub-3": []}, options.FOLDER)
    assert capsys.readouterr().out == ""


def test_a_bar_appears_with_the_first_exam_that_is_done(capsys):
    with output.progress_bar(3, "reading"):
        pass
    assert capsys.readouterr().err == ""
    with output.progress_bar(3, "reading") as bar:
        bar.mininterval = 0.0  # seconds between two drawings
        bar.update(3)
    assert "reading: 100%" in capsys.readouterr().err
