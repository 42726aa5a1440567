"""The list of findings: severities, what is accepted, and a page that knows every name."""

import ast
import pathlib
import re

import pytest

import dscgan_jax
from dscgan_jax.errors import InputError
from dscgan_jax.findings import KINDS, SEVERITIES, Finding, Findings, Refused, by_severity, check_names

PACKAGE = pathlib.Path(dscgan_jax.__file__).parent
PAGE = PACKAGE.parent / "docs" / "findings.md"


def test_errors_refuse_in_one_line_with_flag_and_way_out():
    found = Findings()
    found.note("noisy", "the series is noisy")
    found.error("frame_length", "two sources differ", "1 and 2", "--tr=SECONDS")
    found.error("frame_order", "the frames are reversed")
    with pytest.raises(Refused) as refused:
        found.refuse_errors("sub-1")
    assert str(refused.value) == (
        "sub-1: two sources differ [--tr=SECONDS]; the frames are reversed; to accept the risk: "
        "--accept=frame_length,frame_order"
    )
    assert [finding.name for finding in refused.value.findings] == ["frame_length", "frame_order", "noisy"]


def test_an_accepted_error_is_a_warning_that_says_so():
    found = Findings(accept=("frame_order",))
    found.extend([Finding("frame_order", "error", "the frames are reversed")])
    found.refuse_errors("sub-1")
    assert found.listed()[0].line() == "warning: the frames are reversed (accepted)"


def test_the_worst_come_first_and_equal_ones_once():
    note, warning = Finding("noisy", "note", "a"), Finding("motion", "warning", "b", 1.5, "--motion=rigid")
    assert by_severity([note, warning, note]) == (warning, note)
    assert warning.short() == "motion=1.5" and warning.line() == "warning: b [--motion=rigid]"


def test_a_finding_survives_json():
    for finding in (Finding("motion", "warning", "b", 1.5, "--motion=rigid", True), Finding("noisy", "note", "a")):
        assert Finding.from_json(finding.to_json()) == finding


def test_unknown_names_are_a_defect_in_code_and_an_error_on_the_command_line():
    with pytest.raises(ValueError, match="nonsense"):
        Finding("nonsense", "note", "a")
    with pytest.raises(ValueError, match="'noisy' cannot be an error"):
        Finding("noisy", "error", "a")
    assert check_names(["truncated", " frame_order ", ""]) == ("truncated", "frame_order")
    for name in ("nonsense", "noisy"):  # the second is never an error
        expected = f"--accept={name}: expected names of findings that can reject an exam: frame_length,"
        with pytest.raises(InputError, match=expected):
            check_names(["truncated", name])


def test_the_page_explains_every_name_and_how_severe_it_can_be():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name: (about, severities) for name, about, severities in rows} == {
        name: (kind.about, ", ".join(kind.severities)) for name, kind in KINDS.items()
    }


def severities_in_code() -> dict[str, set[str]]:
    """Of each name, where both are written out: `found.note("noisy", ...)`, `Finding("motion", "warning", ...)`."""
    seen = {name: set() for name in KINDS}
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                name, called = call.args[0].value, call.func
                if isinstance(called, ast.Attribute) and called.attr in SEVERITIES and name in seen:
                    seen[name].add(called.attr)
                elif isinstance(called, ast.Name) and called.id == "Finding" and isinstance(call.args[1], ast.Constant):
                    seen[name].add(call.args[1].value)
    return seen


IN_VARIABLES = {  # name or severity is not written out where the finding is made
    *("frame_length", "frame_length_unit", "echo_time", "echo_time_unit"),
    *("motion", "motion_corrected", "map_unit"),
}


def test_findings_in_the_code_are_as_severe_as_the_page_says():
    for name, severities in severities_in_code().items():
        declared = set(KINDS[name].severities)
        assert severities < declared if name in IN_VARIABLES else severities == declared, name
