"""The read-out of one exam, on heads whose volumes, flows and times were written down."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import readout, regions
from dscgan_jax.evaluation.readout import read_out
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS

MM = (2.0, 2.0, 5.0)  # 0.02 mL
AFFINE = np.diag([*MM, 1.0])
SHAPE = (80, 90, 6)
INDEX = np.stack(np.indices(SHAPE), axis=-1)
X, Y, Z = np.moveaxis((INDEX - (39.5, 44.5, 2.5)) * MM, -1, 0)
HEAD = (X / 62) ** 2 + (Y / 78) ** 2 + (Z / 60) ** 2 < 1
GREY = np.abs(X) > 40

RESEARCH = tuple(f"{name} (core by CBF: research)" for name in ("Core", "DEFUSE 3 criteria", "EXTEND criteria"))


def box(x, y, z) -> np.ndarray:
    """Voxels of index ranges."""
    ranges = zip(np.moveaxis(INDEX, -1, 0), (x, y, z), strict=True)
    return np.logical_and.reduce([(axis >= first) & (axis < end) for axis, (first, end) in ranges])


LATE = box((50, 60), (40, 60), (0, 6))  # 24 mL on the right, in white matter
SEVERE = box((50, 55), (40, 60), (0, 6))  # half of it
LOW_FLOW = box((50, 55), (40, 50), (0, 6))  # a quarter


def maps_of(*, affine=AFFINE, findings=(), **changes) -> ExamMaps:
    """Grey matter of 60, white matter of 22; on the right 7 s late, half of that 12 s, with a core of 5."""
    cbf = np.where(GREY, 60.0, np.where(LOW_FLOW, 5.0, np.where(LATE, 11.0, 22.0)))
    tmax = np.where(SEVERE, 12.0, np.where(LATE, 7.0, np.where(GREY, 2.0, 2.2)))
    cbv = np.where(GREY, 4.0, np.where(LATE, 3.0, 2.0))
    mtt = np.where(LATE, 9.0, 5.0)
    volumes = {"cbf": cbf, "cbv": cbv, "mtt": mtt, "tmax": tmax, "ttp": tmax + 20.0} | changes
    volumes = {
        name: np.where(HEAD, volume, 0.0).astype(np.float32) for name, volume in volumes.items() if volume is not None
    }
    units = {name: MAPS[name].unit for name in volumes}
    return ExamMaps("sub-1", volumes, units, StoredGrid(SHAPE, affine), "by hand", findings, mask=HEAD)


def row_of(found, name):
    return next(row for row in found.rows() if row[0] == name)


def test_the_world_is_what_the_numbers_say():
    assert HEAD[LATE].all() and not (GREY & LATE).any()


def test_volumes_of_late_tissue_and_their_ratio_are_the_ones_that_were_drawn():
    found = read_out(maps_of())
    assert [one.threshold_seconds for one in found.late] == [4, 6, 8, 10]
    assert [one.ml for one in found.late] == pytest.approx([24.0, 24.0, 12.0, 12.0])
    assert found.hypoperfusion_intensity_ratio == pytest.approx(0.5)


def test_the_sensitivity_range_is_what_another_tmax_would_give():
    tmax = maps_of()["tmax"]
    late = np.where(LATE & ~SEVERE, 6.2, tmax)  # half a second less, and half of it is gone
    found = read_out(maps_of(tmax=late))
    assert found.late[1].ml == pytest.approx(24.0) and found.late[1].range_ml == pytest.approx((12.0, 24.0))
    assert found.hypoperfusion_intensity_range == pytest.approx((0.5, 1.0))
    assert "12.0–24.0 mL if Tmax is wrong by 0.5 s" in row_of(found, "Tmax > 6 s")[2]


def test_clusters_below_1_ml_are_left_out_and_corners_do_not_connect():
    small, large = box((20, 25), (30, 35), (2, 3)), box((20, 25), (50, 60), (2, 3))  # 0.5 and 1.0 mL
    tmax = np.where(small | large, 7.0, 2.0)
    assert read_out(maps_of(tmax=tmax)).late[1].ml == pytest.approx(1.0)
    corner = small | box((25, 30), (35, 40), (3, 4))  # 1.0 mL together, through a corner
    assert read_out(maps_of(tmax=np.where(corner, 7.0, 2.0))).late[1].ml == 0.0


def test_late_tissue_is_compared_with_its_mirror_and_with_white_matter_opposite():
    found = read_out(maps_of())
    mirror, white = (one for one in found.contrasts if one.region == regions.LATE)
    flow = 11.0 * 0.75 + 5.0 * 0.25
    assert (mirror.against, white.against) == (regions.MIRROR, regions.WHITE)
    assert mirror.cbf_ratio == pytest.approx(flow / 22.0) == white.cbf_ratio
    assert mirror.cbv_ratio == pytest.approx(1.5)
    assert mirror.mtt_difference_seconds == pytest.approx(4.0)
    assert mirror.tmax_difference_seconds == pytest.approx(9.5 - 2.2, abs=1e-5)
    assert mirror.ttp_difference_seconds == pytest.approx(9.5 - 2.2, abs=1e-5)


def test_the_hemispheres_are_compared_left_with_right():
    halves = read_out(maps_of(cbf=np.where(X < 0, 30.0, 50.0), ttp=np.where(X < 0, 20.0, 23.0))).contrasts[0]
    assert (halves.region, halves.against) == (regions.LEFT, regions.RIGHT)
    assert halves.cbf_ratio == pytest.approx(0.6) and halves.ttp_difference_seconds == pytest.approx(-3.0)


def test_ratios_do_not_depend_on_the_scale_of_cbf():
    scaled = read_out(maps_of(cbf=maps_of()["cbf"] * 0.01))
    assert scaled.core.ml == pytest.approx(6.0)
    for one, other in zip(scaled.contrasts, read_out(maps_of()).contrasts, strict=True):
        assert one.cbf_ratio == pytest.approx(other.cbf_ratio)


def test_without_a_mask_the_core_is_low_flow_and_called_research():
    found = read_out(maps_of())
    assert found.core == readout.Core(pytest.approx(6.0), "research: CBF")
    assert found.mismatch_ml == pytest.approx(18.0) and found.mismatch_ratio == pytest.approx(4.0)
    assert [one.met for one in found.decisions] == [True, True]
    assert all("research" in row_of(found, name)[2] for name in RESEARCH)


def test_a_given_core_decides_and_is_counted_as_it_is():
    core = box((50, 57), (40, 60), (0, 6)) & (X > 0)  # 16.8 mL: ratio 1.43
    core[50, 40, 0] = False
    core[10, 44, 2] = True  # a speck stays
    found = read_out(maps_of(), core)
    assert found.core == readout.Core(pytest.approx(16.8), "mask")
    assert {one.trial: one.met for one in found.decisions} == {"defuse3": False, "extend": False}
    assert not any("research" in " ".join(row) for row in found.rows())
    smaller = read_out(maps_of(), box((50, 55), (40, 60), (0, 5)))  # 10 mL: ratio 2.4, mismatch 14 mL
    assert {one.trial: one.met for one in smaller.decisions} == {"defuse3": False, "extend": True}


def test_a_decision_that_half_a_second_changes_says_so():
    found = read_out(maps_of(tmax=np.where(LATE & ~SEVERE, 6.2, maps_of()["tmax"])))
    assert [(one.met, one.is_stable) for one in found.decisions] == [(True, False), (True, False)]
    assert "changes if Tmax is wrong by 0.5 s" in row_of(found, RESEARCH[2])[2]


def test_an_empty_core_is_0_ml_and_has_no_ratio():
    found = read_out(maps_of(), np.zeros(SHAPE, bool))
    assert found.core.ml == 0.0 and found.mismatch_ratio is None and found.mismatch_ml == pytest.approx(24.0)
    assert row_of(found, "Mismatch ratio") == ("Mismatch ratio", "–", "no core to divide by; it counts as infinite")
    assert "the given core is empty" in found.remarks


@pytest.mark.parametrize(
    ("core", "says"),
    [(np.ones(SHAPE, bool), "holds 100 % of the brain"), (np.zeros((8, 9, 6), bool), r"got \(8, 9, 6\)")],
)
def test_what_cannot_be_a_core_is_refused(core, says):
    with pytest.raises(InputError, match=says):
        read_out(maps_of(), core)


def test_a_core_where_there_are_no_maps_is_told():
    found = read_out(maps_of(), box((50, 55), (40, 50), (0, 6)) | box((0, 3), (0, 20), (0, 5)))
    assert "50 % of the given core has no maps" in found.remarks


def test_healthy_maps_have_0_ml_of_late_tissue_and_nothing_to_compare():
    found = read_out(maps_of(tmax=np.where(GREY, 2.0, 2.2)))
    assert [one.ml for one in found.late] == [0.0] * 4 and found.hypoperfusion_intensity_ratio is None
    assert found.core.ml == 0.0 and [one.met for one in found.decisions] == [False, False]
    assert all(one.cbf_ratio is None for one in found.contrasts if regions.LATE in (one.region, one.against))
    assert found.contrasts[0].tmax_difference_seconds == pytest.approx(0.0, abs=1e-6)


def test_without_tmax_what_needs_it_is_undefined():
    found = read_out(maps_of(tmax=None))
    assert all(one.ml is None for one in found.late) and found.core.ml is None
    assert [one.met for one in found.decisions] == [None, None]
    assert row_of(found, "Tmax > 6 s") == ("Tmax > 6 s", "–", "no map of Tmax")
    assert found.contrasts[0].cbf_ratio is not None


def test_without_orientation_no_side_is_called_left():
    unknown = Finding("orientation_unknown", "warning", "no orientation in the header")
    found = read_out(maps_of(findings=(unknown,)))
    assert found.contrasts[0].cbf_ratio is None and "left and right are not known" in " ".join(found.remarks)
    assert found.contrasts[1].cbf_ratio is not None


def test_late_tissue_of_both_sides_has_neither_mirror_nor_white_matter():
    both = LATE | LATE[::-1]
    found = read_out(maps_of(tmax=np.where(both, 7.0, 2.0)))
    assert all(one.cbf_ratio is None for one in found.contrasts if regions.LATE in (one.region, one.against))
    assert len(found.remarks) == 2


def test_maps_without_tissue_are_undefined_throughout():
    nothing = dataclasses.replace(maps_of(), mask=np.zeros(SHAPE, bool))
    values = read_out(nothing).columns()
    assert {name: value for name, value in values.items() if value is not None} == {
        "subject": "sub-1",
        "tissue_ml": 0.0,
        "core_source": "research: CBF",
    }


def test_the_files_hold_what_was_read(tmp_path):
    found = read_out(maps_of(tmax=None))
    readout.write(tmp_path, "sub-1", found)
    record = json.loads((tmp_path / "sub-1_readout.json").read_text(encoding="utf-8"))
    assert record == found.to_json() and record["tmax_over_6s_ml"] is None
    with (tmp_path / "sub-1_readout.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert list(row) == list(found.columns()) and row["tmax_over_6s_ml"] == ""
    assert float(row["left_right_cbf_ratio"]) == pytest.approx(found.contrasts[0].cbf_ratio, abs=1e-4)
