"""Folders of maps on small exams whose answers are known: what is perfect, late, missing or elsewhere."""

import dataclasses
import json
import math

import numpy as np
import pytest
from exams import write_anything

from dscgan_jax.data import nifti
from dscgan_jax.data.derivatives import ExamMaps, ScaledMaps
from dscgan_jax.data.exams import load_exam
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import agreement, records, sources
from dscgan_jax.evaluation import score as scoring
from dscgan_jax.evaluation.sources import FolderSource
from dscgan_jax.maps import MAPS

SHAPE = (16, 20, 3)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])  # 0.02 ml a voxel
SETTINGS = PreparationSettings(20, 3, 64, "stretch", 1.5, "keep")
SCALING = Scaling("relative", Limits(0, 2), ("tmax",), (Limits(0.0, 20.0),), True)
MEDIANS = {"tmax": 2.0, "cbf": 30.0}
DATA = {"source": "invented", "fingerprint": "0", "n_train": 5, "n_validation": 1, "n_test": 2}

BRAIN = np.zeros(SHAPE, bool)
BRAIN[3:-3, 4:-4] = True
LESION = np.zeros(SHAPE, bool)
LESION[3:7, 5:13, 1] = True  # 32 voxels, on the patient's left side


def tmax_map(healthy=2.0, lesion=9.0):
    return np.where(BRAIN, np.where(LESION, lesion, healthy) + 0.01 * np.arange(20)[None, :, None], 0.0)


def write_exam(root, subject, maps, truth=None):
    """A series with a bolus and the given maps."""
    folder = root / subject
    folder.mkdir(parents=True)
    time = np.arange(20)
    bolus = 1 - 0.4 * np.exp(-(((time - 11) / 2.0) ** 2))
    series = np.where(BRAIN[..., None], 500 * bolus, 20.0).astype(np.float32)
    nifti.write_volume(folder / f"{subject}_dsc.nii.gz", series, AFFINE, frame_seconds=1.5)
    nifti.write_volume(folder / f"{subject}_mask.nii.gz", BRAIN, AFFINE, dtype=np.uint8)
    for name, values in maps.items():
        nifti.write_volume(folder / f"{subject}_{name}.nii.gz", values, AFFINE)
    if truth is not None:
        (folder / f"{subject}_truth.json").write_text(json.dumps(truth))
    return SubjectFiles(
        subject,
        folder / f"{subject}_dsc.nii.gz",
        maps={name: folder / f"{subject}_{name}.nii.gz" for name in maps},
        mask=folder / f"{subject}_mask.nii.gz",
        truth=folder / f"{subject}_truth.json" if truth is not None else None,
    )


def write_maps(folder, maps, affine=AFFINE):
    """{(subject, map): volume} as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for (subject, name), values in maps.items():
        write_anything(folder / f"{subject}_{name}.nii.gz", values, affine)
    return folder


def score(exams, given, out, *, scaling=SCALING, medians=MEDIANS, checkpoint=None):
    """Records of the exams; a folder stands for the source of its name."""
    subjects = [files.subject for files in exams]
    wanted = [FolderSource(one.name, one, subjects) if hasattr(one, "name") else one for one in given]
    protocol = scoring.Protocol("test", SETTINGS, scaling, medians)
    scores = scoring.score(exams, wanted, protocol, progress=False)
    return scoring.write(scores, protocol, scoring.About(DATA, checkpoint), out)


def test_how_maps_are_displayed_decides_no_score(exams, tmp_path, monkeypatch):
    folder = write_maps(tmp_path / "maps", {(files.subject, "tmax"): tmax_map() for files in exams})
    score(exams, [folder], tmp_path / "before")
    other = dataclasses.replace(MAPS["tmax"], window=(2.0, 5.0))
    monkeypatch.setitem(MAPS, "tmax", other)
    score(exams, [folder], tmp_path / "after")
    before, after = ((tmp_path / name / "subjects.csv").read_text() for name in ("before", "after"))
    assert before == after and "nan" not in before


def rows_of(out, **where):
    return [
        row
        for row in records.read_subjects(out / "subjects.csv")
        if all(row[name] == value for name, value in where.items())
    ]


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """sub-1 has a lesion, sub-2 has none; only sub-1 comes from the phantom."""
    root = tmp_path_factory.mktemp("exams")
    return [
        write_exam(root, "sub-1", {"tmax": tmax_map()}, {"moved": True, "truncated": False}),
        write_exam(root, "sub-2", {"tmax": tmax_map(lesion=2.0)}),
    ]


@pytest.fixture(scope="module")
def scored(exams, tmp_path_factory):
    """Two folders: one perfect, one that is a second late everywhere in the brain."""
    folder = tmp_path_factory.mktemp("scored")
    truth = {("sub-1", "tmax"): tmax_map(), ("sub-2", "tmax"): tmax_map(lesion=2.0)}
    folders = [
        write_maps(folder / "perfect", truth),
        write_maps(folder / "late", {key: values + BRAIN for key, values in truth.items()}),
    ]
    return score(exams, folders, folder / "out"), folder / "out"


def test_there_is_a_row_for_each_subject_source_and_map(scored):
    rows = rows_of(scored[1])
    assert [(row["subject"], row["source"], row["map"]) for row in rows] == [
        (subject, source, "tmax")
        for subject in ("sub-1", "sub-2")
        for source in ("perfect", "late", "blank", "null_median")
    ]
    header = (scored[1] / "subjects.csv").read_text().splitlines()[0]
    assert header.startswith(
        "subject,split,source,map,unit,n_slices,n_brain_voxels,mask_source,scaled_mae,scaled_mse,"
        "scaled_nrmse,scaled_ssim,scaled_psnr,brain_mae,brain_rmse,brain_bias,brain_pearson_r,"
        "brain_ssim,brain_scale,brain_mae_after_scale,clipped_fraction,saturated_fraction,saturated_reference,dice_over_4s,"
        "volume_predicted_over_4s_ml,volume_reference_over_4s_ml,dice_over_6s,"
    )
    assert header.endswith("volume_reference_over_10s_ml,core_ml,moved,truncated,seconds_predict")


def test_ttp_counts_from_the_first_network_frame_in_the_protocol_that_is_scaled(tmp_path):
    settings = dataclasses.replace(SETTINGS, time_mode="seconds", lead_seconds=3.0)
    begins = settings.first_seconds_of(load_exam(write_exam(tmp_path, "sub-0", {"tmax": tmax_map()})))
    ttp = begins + 5.0 + 0.1 * (np.arange(20) - 9.5)[None, :, None]
    files = write_exam(tmp_path, "sub-1", {"ttp": np.where(BRAIN, ttp, 0.0)})
    scaling = dataclasses.replace(SCALING, targets=("ttp",), limits=(Limits(0.0, 10.0),))
    protocol = scoring.Protocol("test", settings, scaling, {"ttp": begins + 5.0})
    perfect = FolderSource("perfect", tmp_path / "sub-1", ["sub-1"])
    own, blank, median = scoring.score([files], [perfect], protocol, progress=False).rows
    assert own["scaled_mae"] == 0 and begins > 3.0
    assert 0 < median["scaled_mae"] < 0.05
    brain_share = BRAIN[..., 0].sum() / 20**2  # of the square grid
    assert blank["scaled_mae"] == pytest.approx(brain_share, abs=0.02)  # 5 s are 1 of [-1, 1]
    assert blank["clipped_fraction"] == 0.0


def test_perfect_maps_have_no_error_and_full_overlap(scored):
    row = rows_of(scored[1], source="perfect", subject="sub-1")[0]
    assert row["brain_mae"] == 0 and row["brain_ssim"] == pytest.approx(1) and row["dice_over_6s"] == 1
    assert row["scaled_mae"] == 0 and row["scaled_ssim"] == pytest.approx(1)
    assert row["scaled_psnr"] is None  # infinite, hence undefined
    assert row["volume_reference_over_6s_ml"] == pytest.approx(32 * 0.02)
    assert row["n_brain_voxels"] == BRAIN.sum() and row["n_slices"] == 3 and row["mask_source"] == "file"


def test_maps_one_second_late_have_a_bias_of_one_second(scored):
    for row in rows_of(scored[1], source="late"):
        assert row["brain_bias"] == pytest.approx(1, abs=1e-6) and row["brain_pearson_r"] == pytest.approx(1)
        share = BRAIN.sum() / (3 * 20 * 20)  # the network grid is padded to 20 x 20; 1 s is 0.1 of [-1, 1]
        assert row["scaled_mae"] == pytest.approx(0.1 * share, abs=1e-6)


def test_dice_of_two_empty_maps_is_undefined_and_counted(scored):
    summary = scored[0]["results"]["perfect"]["hypoperfusion"]["tmax_over_6s"]
    assert rows_of(scored[1], source="perfect", subject="sub-2")[0]["dice_over_6s"] is None
    assert summary["n_dice"] == 1 and summary["n_both_empty"] == 1 and summary["dice_mean"] == 1
    assert summary["dice_sd"] is None and summary["dice_pooled"] == 1


def test_nulls_are_what_they_say(scored):
    blank, median = (rows_of(scored[1], source=name, subject="sub-1")[0] for name in ("blank", "null_median"))
    truth = tmax_map()[BRAIN]
    assert blank["brain_mae"] == pytest.approx(truth.mean(), rel=1e-6) and blank["brain_pearson_r"] is None
    assert median["brain_mae"] == pytest.approx(np.abs(truth - 2).mean(), rel=1e-6)
    assert median["brain_scale"] == pytest.approx(truth.mean() / 2, rel=1e-6)
    assert blank["dice_over_6s"] == 0
    assert median["scaled_ssim"] > blank["scaled_ssim"]


def test_the_median_is_painted_into_the_mask_alone(exams):
    nulls = sources.Nulls(("tmax",), MEDIANS).maps_of(load_exam(exams[0]))
    painted = nulls["null_median"]["tmax"]
    assert (painted[BRAIN] == 2).all() and not painted[~BRAIN].any()
    assert not nulls["blank"]["tmax"].any()


def test_without_a_training_median_there_is_no_such_null(exams, tmp_path):
    mine = write_maps(tmp_path / "mine", {("sub-1", "tmax"): tmax_map()})
    score(exams[:1], [mine], tmp_path / "out", medians={"tmax": None})
    assert [row["source"] for row in rows_of(tmp_path / "out")] == ["mine", "blank"]


def test_the_phantoms_truth_is_told_and_unknown_stays_empty(scored):
    first, second = (rows_of(scored[1], source="blank", subject=subject)[0] for subject in ("sub-1", "sub-2"))
    assert first["moved"] is True and first["truncated"] is False
    assert second["moved"] is None and second["truncated"] is None


def test_a_file_from_before_a_column_was_added_is_read(scored, tmp_path):
    lines = [line.split(",") for line in (scored[1] / "subjects.csv").read_text().splitlines()]
    younger = lines[0].index("brain_scale")
    path = tmp_path / "subjects.csv"
    path.write_text("\n".join(",".join(line[:younger] + line[younger + 1 :]) for line in lines) + "\n")
    whole = records.read_subjects(scored[1] / "subjects.csv")
    assert records.read_subjects(path) == [row | {"brain_scale": None} for row in whole]


def test_summary_is_recomputed_from_the_subjects_alone(scored):
    summary, out = scored
    stored = json.loads((out / "summary.json").read_text())
    assert stored == json.loads(json.dumps(summary))
    again = records.summarise(records.read_subjects(out / "subjects.csv"), stored)
    assert json.loads(json.dumps(again)) == stored


def test_summary_has_the_agreed_fields_and_no_nan(scored):
    summary, out = scored
    assert list(summary) == [
        "schema_version",
        "created",
        "software",
        "split",
        "subjects",
        "excluded",
        "findings",
        "checkpoint",
        "config_sha256",
        "data",
        "protocol",
        "results",
        "wall_seconds",
    ]
    assert summary["protocol"] == {
        "rows": 20,
        "cols": 20,
        "slices": 3,
        "frames": 64,
        "time_mode": "stretch",
        "signal": "relative",
        "ranges": "percentile",
        "data_range": 2.0,
        "ssim_window": 7,
        "mask_source": "file",
    }
    late = summary["results"]["late"]
    assert set(late) == {"tmax", "hypoperfusion"} and late["tmax"]["unit"] == "s"
    assert set(late["tmax"]["scaled"]) == {"mae", "mse", "nrmse", "ssim", "psnr"}
    assert set(late["tmax"]["brain"]) == {"mae", "rmse", "bias", "pearson_r", "ssim", "scale", "mae_after_scale"}
    assert set(late["tmax"]["brain"]["mae"]) == {"mean", "sd", "median", "min", "max", "n"}
    assert list(late["hypoperfusion"]) == [f"tmax_over_{x}s" for x in (4, 6, 8, 10)]
    assert "NaN" not in (out / "summary.json").read_text()


def test_means_count_each_subject_once(scored):
    rows = rows_of(scored[1], source="null_median")
    stat = scored[0]["results"]["null_median"]["tmax"]["brain"]["mae"]
    errors = [row["brain_mae"] for row in rows]
    assert stat["mean"] == pytest.approx(sum(errors) / 2) and stat["n"] == 2
    assert stat["sd"] == pytest.approx(abs(errors[0] - errors[1]) / math.sqrt(2))


def test_pooled_dice_takes_all_voxels_as_one_subject():
    columns = records.overlap_columns(6.0)
    rows = [
        dict.fromkeys(records.COLUMNS)
        | {
            "source": "a",
            "map": "tmax",
            "unit": "s",
            "mask_source": "file",
            "subject": str(i),
            columns["dice"]: dice,
            columns["volume_predicted_ml"]: vp,
            columns["volume_reference_ml"]: vr,
        }
        for i, (dice, vp, vr) in enumerate([(0.5, 10.0, 30.0), (1.0, 2.0, 2.0), (None, 0.0, 0.0), (0.0, 0.0, 4.0)])
    ]
    for row in rows:
        row |= {name: 0.0 for threshold in (4, 8, 10) for name in records.overlap_columns(threshold).values()}
    run = dict.fromkeys(("created", "software", "split", "checkpoint", "config_sha256", "data", "wall_seconds"))
    summary = records.summarise(rows, {**run, "excluded": [], "protocol": {}})
    hypo = summary["results"]["a"]["hypoperfusion"]["tmax_over_6s"]
    assert hypo["dice_pooled"] == pytest.approx(2 * (10 + 2) / (12 + 36))  # overlaps of 10 and 2 ml
    assert hypo["dice_mean"] == pytest.approx(0.5) and hypo["n_dice"] == 3 and hypo["n_both_empty"] == 1
    assert hypo["volume_predicted_ml"] == 3 and hypo["volume_reference_ml"] == 9 and hypo["volume_bias_ml"] == -6
    assert hypo["volume_abs_error_percent_median"] == pytest.approx(200 / 3)


def test_maps_are_found_in_subfolders_and_turned_onto_the_exams_axes(exams, tmp_path):
    flipped = np.diag([-2.0, 2.0, 5.0, 1.0])
    flipped[0, 3] = 2.0 * (SHAPE[0] - 1)  # the same voxels, stored from the other side
    truth = {("sub-1", "tmax"): tmax_map()[::-1], ("sub-2", "tmax"): tmax_map(lesion=2.0)[::-1]}
    write_maps(tmp_path / "mine" / "deep" / "er", truth, flipped)
    score(exams, [tmp_path / "mine"], tmp_path / "out")
    assert [row["brain_mae"] for row in rows_of(tmp_path / "out", source="mine")] == [0, 0]


def test_a_missing_subject_is_named(exams, tmp_path):
    mine = write_maps(tmp_path / "mine", {("sub-1", "tmax"): tmax_map()})
    with pytest.raises(InputError, match=r"mine has no tmax map of sub-2; expected sub-2_tmax.nii.gz"):
        score(exams, [mine], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_refused(exams, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no map of any of the 2 subjects"):
        score(exams, [tmp_path / "mine"], tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        score(exams, [tmp_path / "other"], tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "affine", "message"),
    [
        (np.zeros((8, 20, 3)), AFFINE, r"sub-1_tmax.nii.gz: expected the grid of the series \(16, 20, 3\)"),
        (tmax_map(), np.diag([2.0, 2.0, 6.0, 1.0]), "sub-1_tmax.nii.gz: the file is up to 2.0 mm away"),
        (np.where(LESION, np.nan, tmax_map()), AFFINE, "sub-1_tmax.nii.gz: 32 values inside the brain mask of sub-1"),
    ],
)
def test_a_map_that_cannot_be_scored_is_named(exams, tmp_path, values, affine, message):
    mine = write_maps(tmp_path / "mine", {("sub-1", "tmax"): values}, affine)
    with pytest.raises(InputError, match=message):
        score(exams[:1], [mine], tmp_path / "out")


def test_the_same_map_twice_is_refused(exams, tmp_path):
    for name in ("a", "b"):
        write_maps(tmp_path / "mine" / name, {("sub-1", "tmax"): tmax_map()})
    with pytest.raises(InputError, match="sub-1_tmax more than once"):
        score(exams[:1], [tmp_path / "mine"], tmp_path / "out")


def test_a_map_without_reference_is_not_scored_and_one_without_range_has_no_scaled_metrics(exams, tmp_path):
    root = tmp_path / "exams"
    flow = np.where(BRAIN, np.where(np.arange(20)[:, None] % 2, 30.0, 50.0), 0.0)  # 40 on average
    both = write_exam(root, "sub-3", {"tmax": tmax_map(), "cbf": flow})
    mine = write_maps(
        tmp_path / "mine",
        {
            ("sub-1", "tmax"): tmax_map(),
            ("sub-1", "cbf"): flow,
            ("sub-3", "tmax"): tmax_map(),
            ("sub-3", "cbf"): flow / 2,
        },
    )
    score([exams[0], both], [mine], tmp_path / "out")
    assert [(row["subject"], row["map"]) for row in rows_of(tmp_path / "out", source="mine")] == [
        ("sub-1", "tmax"),
        ("sub-3", "cbf"),
        ("sub-3", "tmax"),
    ]
    row = rows_of(tmp_path / "out", source="mine", map="cbf")[0]
    assert row["scaled_ssim"] is None and row["clipped_fraction"] is None and row["dice_over_6s"] is None
    assert row["brain_mae"] == 20 and row["brain_scale"] == 2 and row["brain_mae_after_scale"] == 0
    assert len(rows_of(tmp_path / "out", source="null_median", map="cbf")) == 1


class Network:
    """A source whose maps on the network grid are not those that it wrote."""

    offers = {"network_per_slice": ("tmax",)}  # noqa: RUF012

    def maps_of(self, exam):
        scaled = ScaledMaps(np.full((3, 20, 20, 1), -1, np.float32), ("tmax",))
        tmax = tmax_map().astype(np.float32)
        maps = ExamMaps(exam.subject, {"tmax": tmax}, {"tmax": "s"}, exam.stored, scaled=scaled, seconds=0.5)
        return {"network_per_slice": maps}


def test_a_network_is_scored_by_its_maps_on_the_network_grid(exams, tmp_path):
    checkpoint = {"step": 7, "selected_by": "best", "sha256": "0"}
    written = write_maps(tmp_path / "network_per_slice", {("sub-1", "tmax"): tmax_map()})
    summary = score(exams[:1], [Network()], tmp_path / "run", checkpoint=checkpoint)
    score(exams[:1], [written], tmp_path / "maps")
    run, maps = (rows_of(tmp_path / name, source="network_per_slice")[0] for name in ("run", "maps"))
    blank = rows_of(tmp_path / "run", source="blank")[0]
    assert run["scaled_mae"] == pytest.approx(blank["scaled_mae"]) and run["brain_mae"] == 0
    assert run["seconds_predict"] == 0.5 and summary["checkpoint"] == checkpoint
    assert maps["scaled_mae"] == 0 and maps["seconds_predict"] is None


def test_each_exam_is_read_once_and_shown_with_all_its_maps(exams, tmp_path, monkeypatch):
    read, shown, original = [], {}, nifti.read_volume

    def counted(path, dims):
        read.extend([path.name] * (dims == 4))
        return original(path, dims)

    monkeypatch.setattr(nifti, "read_volume", counted)
    folder = write_maps(tmp_path / "mine", {("sub-1", "tmax"): tmax_map(), ("sub-2", "tmax"): tmax_map()})
    protocol = scoring.Protocol("test", SETTINGS, SCALING, MEDIANS)
    given = [FolderSource("mine", folder, ["sub-1", "sub-2"]), Network()]
    scoring.score(
        exams, given, protocol, each=lambda exam, maps: shown.update({exam.subject: list(maps)}), progress=False
    )
    assert read == ["sub-1_dsc.nii.gz", "sub-2_dsc.nii.gz"]
    assert shown == {who: ["mine", "network_per_slice", "blank", "null_median"] for who in ("sub-1", "sub-2")}


def test_an_exam_that_cannot_be_used_stops_the_scoring_or_is_noted(exams, tmp_path):
    spoiled = write_exam(tmp_path / "spoiled", "sub-0", {"tmax": tmax_map()})
    nifti.write_volume(spoiled.series, np.full((*SHAPE, 20), 500.0, np.float32), AFFINE, frame_seconds=1.5)
    protocol = scoring.Protocol("test", SETTINGS, SCALING, MEDIANS)
    with pytest.raises(InputError, match=r"sub-0.*no bolus"):
        scoring.score([spoiled, *exams], [Network()], protocol, progress=False)
    scores = scoring.score([spoiled, *exams], [Network()], protocol, stop_at_rejected=False, progress=False)
    assert {row["subject"] for row in scores.rows} == {"sub-1", "sub-2"}
    [(subject, reason)] = scores.rejected.items()
    assert subject == "sub-0" and "no bolus" in reason
    with pytest.raises(InputError, match="none of the 1 exams can be used"):
        scoring.score([spoiled], [Network()], protocol, stop_at_rejected=False, progress=False)


def test_exams_without_reference_maps_are_refused_before_one_is_read(exams, monkeypatch):
    def no_reading(files):
        raise AssertionError(f"{files.subject} was read")

    monkeypatch.setattr(scoring, "load_exam", no_reading)
    bare = [dataclasses.replace(files, maps={}) for files in exams]
    protocol = scoring.Protocol("test", SETTINGS, SCALING, MEDIANS)
    with pytest.raises(InputError, match="none of the 2 subjects of the test split has a reference map"):
        scoring.score(bare, [Network()], protocol, progress=False)


def test_maps_and_truth_in_memory_agree_as_their_records(exams, scored):
    exam = load_exam(exams[0])
    late = ExamMaps("sub-1", {"tmax": (tmax_map() + BRAIN).astype(np.float32)}, {"tmax": "s"}, exam.stored)
    found = scoring.agreement(late, exam)["tmax"]
    row = rows_of(scored[1], source="late", subject="sub-1")[0]
    assert found["mae"] == pytest.approx(row["brain_mae"]) and found["dice_over_6s"] == row["dice_over_6s"]
    assert found["bias"] == pytest.approx(1.0, abs=1e-6)
    smaller = ExamMaps("sub-1", {"tmax": late["tmax"][:4]}, {"tmax": "s"}, exam.stored)
    with pytest.raises(InputError, match="expected maps on the grid of the reference"):
        scoring.agreement(smaller, exam)
    with pytest.raises(InputError, match="nothing to compare"):
        scoring.agreement(ExamMaps("sub-1", {"cbf": late["tmax"]}, {"cbf": ""}, exam.stored), exam)


def core_of(files, tmp_path, **changes):
    """`core_ml` of all rows of Tmax, of a source that has CBF too."""
    files = dataclasses.replace(files, **changes)
    values = {(files.subject, name): tmax_map() for name in files.maps}
    mine = write_maps(tmp_path / f"maps-{len(list(tmp_path.iterdir()))}", values)
    score([files], [mine], tmp_path / "out")
    assert all(row["core_ml"] is None for row in rows_of(tmp_path / "out") if row["map"] != "tmax")
    cores = {row["core_ml"] for row in rows_of(tmp_path / "out", map="tmax")}
    assert len(cores) == 1  # the same for every source
    return cores.pop()


def test_the_core_is_a_phantoms_true_one_else_that_of_low_flow_in_the_reference(tmp_path):
    starved = LESION & (np.arange(20) < 7)[:, None]  # 8 of the 32 late voxels
    cbf = np.where(BRAIN, np.where(starved, 10.0, 40.0), 0.0)
    maps = {"tmax": tmax_map(), "cbf": cbf}
    phantom = write_exam(tmp_path, "sub-1", maps, {"phantom_version": "1.1"})
    lesion = tmp_path / "sub-1" / "sub-1_lesion.nii.gz"
    labels = np.where(LESION & (np.arange(20) < 6)[:, None], 2, LESION)  # 4 of them; and labels outside the brain
    labels[0, 0] = 2
    nifti.write_volume(lesion, labels, AFFINE, dtype=np.uint8)
    assert core_of(phantom, tmp_path, lesion=lesion) == pytest.approx(4 * 0.02)
    assert core_of(phantom, tmp_path) == pytest.approx(8 * 0.02)
    assert core_of(phantom, tmp_path, lesion=lesion, truth=None) == pytest.approx(8 * 0.02)  # drawn by somebody
    late_alone = {"tmax": phantom.maps["tmax"]}
    assert core_of(phantom, tmp_path, maps=late_alone) is None


def rows_of_volumes(core, predicted, reference):
    """Rows of Tmax of one source, with the same volumes at every threshold."""
    head = {"source": "a", "map": "tmax", "unit": "s", "mask_source": "file"}
    rows = []
    for number, (core_ml, vp, vr) in enumerate(zip(core, predicted, reference, strict=True)):
        row = dict.fromkeys(records.COLUMNS) | head | {"subject": str(number), "core_ml": core_ml}
        for threshold in records.THRESHOLDS:
            columns = records.overlap_columns(threshold)
            row |= {columns["volume_predicted_ml"]: vp, columns["volume_reference_ml"]: vr}
        rows.append(row)
    return rows


def test_the_summary_tells_agreement_of_volumes_and_of_decisions():
    predicted, reference = [50.0, 8.0, 90.0, 0.0, 200.0, 33.0], [40.0, 30.0, 100.0, 0.0, 180.0, 30.0]
    core = [10.0, 2.0, 20.0, 0.0, 90.0, None]
    run = dict.fromkeys(("created", "software", "split", "checkpoint", "config_sha256", "data", "wall_seconds"))
    summary = records.summarise(rows_of_volumes(core, predicted, reference), {**run, "excluded": [], "protocol": {}})
    hypo = summary["results"]["a"]["hypoperfusion"]
    six = hypo["tmax_over_6s"]
    errors = np.subtract(predicted, reference)
    assert six["volume_abs_error_ml"] == pytest.approx(np.abs(errors).mean())
    half = 1.96 * errors.std(ddof=1)
    assert six["volume_limits_ml"] == pytest.approx([errors.mean() - half, errors.mean() + half])
    assert six["volume_icc"] == agreement.intraclass_correlation(predicted, reference).value
    assert six["volume_concordance"] == agreement.concordance(predicted, reference).value
    assert set(six["intervals"]) == {"volume_bias_ml", "volume_pearson_r", "volume_icc", "volume_concordance"}
    for name, (low, high) in six["intervals"].items():
        assert low <= six[name] <= high
    decided = six["eligibility"]["defuse3"]  # 50, 8, 90, 0 and 200 mL against 40, 30, 100, 0 and 180
    assert {name: decided[name] for name in ("n", "n_predicted", "n_reference", "n_both")} == {
        "n": 5,
        "n_predicted": 2,
        "n_reference": 3,
        "n_both": 2,
    }
    assert decided["kappa"] == pytest.approx((0.8 - 0.48) / 0.52) and set(six["eligibility"]) == {"defuse3", "extend"}
    assert all("eligibility" not in hypo[f"tmax_over_{threshold}s"] for threshold in (4, 8, 10))


def test_what_the_range_cuts_off_is_recorded(exams, tmp_path):
    narrow = dataclasses.replace(SCALING, limits=(Limits(0.0, 5.0),))
    mine = write_maps(tmp_path / "mine", {("sub-1", "tmax"): tmax_map()})
    score(exams[:1], [mine], tmp_path / "out", scaling=narrow)
    row = rows_of(tmp_path / "out", source="mine")[0]
    for column in ("clipped_fraction", "saturated_fraction", "saturated_reference"):
        assert row[column] == pytest.approx(32 / BRAIN.sum())
    assert rows_of(tmp_path / "out", source="blank")[0]["saturated_fraction"] == 1


def test_two_sources_of_one_name_are_refused(exams, tmp_path):
    mine = write_maps(tmp_path / "mine", {("sub-1", "tmax"): tmax_map()})
    with pytest.raises(InputError, match="two sources of maps have one name"):
        score(exams, [mine, mine], tmp_path / "out")


def test_records_of_another_version_are_refused(tmp_path):
    (tmp_path / "subjects.csv").write_text("subject,dice\nsub-1,0.5\n")
    with pytest.raises(InputError, match=r"subjects.csv: expected the columns subject,split,source,map"):
        records.read_subjects(tmp_path / "subjects.csv")
    (tmp_path / "summary.json").write_text('{"schema_version": 0}')
    with pytest.raises(InputError, match="expected schema_version 1"):
        records.read_summary(tmp_path / "summary.json")
