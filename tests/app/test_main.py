"""Bad input through the front door: status 1, one readable line, nothing half-written; and the good path.

The program runs in this process; a process of its own shows what only a process can: its exit status, its two streams,
a signal, a limit on its files.
"""

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import runs
from command_line import program

from dscgan_jax import provenance
from dscgan_jax.training import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Phantom exams, a trained tiny run and room for broken copies."""
    folder = tmp_path_factory.mktemp("world")
    program(
        "--mode=phantom",
        f"--output={folder / 'exams'}",
        "--preset=acute",
        "--subjects=5",
        "--size=32",
        "--slices=2",
        check=True,
    )
    done = runs.main(*runs.overrides(folder / "exams", folder / "cache"), f"--workdir={folder / 'run'}", check=True)
    return folder, done.stdout


def series_of(world):
    return world[0] / "exams" / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz"


def rewritten(world, tmp_path, change, sidecar=True):
    """A copy of a good series with its array (and header) changed."""
    image = nibabel.load(series_of(world))
    data = np.asarray(image.dataobj).astype(np.float32)
    changed = change(data)
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    path = tmp_path / "exam.nii.gz"
    nibabel.save(nibabel.Nifti1Image(changed, image.affine, header if changed.ndim == 4 else None), path)
    if sidecar:
        shutil.copy(series_of(world).with_name("sub-0001_dsc.json"), tmp_path / "exam.json")
    return path


def exams_copy(world, tmp_path):
    root = tmp_path / "exams"
    shutil.copytree(world[0] / "exams", root)
    return root


def predict(world, tmp_path, series, **more):
    return [
        ["--mode=predict", f"--workdir={world[0] / 'run'}", f"--input={series}", f"--output={tmp_path / 'out'}"],
        tmp_path / "out",
        more,
    ]


def prepare(world, tmp_path, root, **changes):
    return [["--mode=prepare", *runs.exam_overrides(root, tmp_path / "cache", **changes)], tmp_path / "cache", {}]


def three_dimensional_series(world, tmp_path):
    return predict(world, tmp_path, rewritten(world, tmp_path, lambda data: data[..., 0])), "4-D"


def truncated_series(world, tmp_path):
    path = tmp_path / "exam.nii.gz"
    path.write_bytes(series_of(world).read_bytes()[:-4000])
    return predict(world, tmp_path, path), "exam.nii.gz"


def series_that_is_no_nifti(world, tmp_path):
    path = tmp_path / "exam.nii.gz"
    path.write_bytes(gzip.compress(b"not an image"))
    return predict(world, tmp_path, path), "exam.nii.gz"


def absent_series(world, tmp_path):
    return predict(world, tmp_path, tmp_path / "exam.nii.gz"), "exam.nii.gz"


def all_nan_exam(world, tmp_path):
    return predict(world, tmp_path, rewritten(world, tmp_path, lambda data: data * np.nan)), "NaN"


def all_zero_exam(world, tmp_path):
    return predict(world, tmp_path, rewritten(world, tmp_path, lambda data: data * 0)), "zero"


def too_few_frames(world, tmp_path):
    return predict(world, tmp_path, rewritten(world, tmp_path, lambda data: data[..., :9])), "10"


def no_bolus(world, tmp_path):
    flat = lambda data: data[..., 5:6] + 0 * data  # noqa: E731
    return predict(world, tmp_path, rewritten(world, tmp_path, flat)), "bolus"


def no_frame_length(world, tmp_path):
    path = rewritten(world, tmp_path, lambda data: data, sidecar=False)
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    image.header["pixdim"][4] = 0
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), path)
    return predict(world, tmp_path, path), "--tr="


def map_on_another_grid(world, tmp_path):
    root = exams_copy(world, tmp_path)
    path = root / "sub-0002" / "perf" / "sub-0002_tmax.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 2), np.float32), np.eye(4)), path)
    return prepare(world, tmp_path, root), "sub-0002"


def missing_map(world, tmp_path):
    root = exams_copy(world, tmp_path)
    for path in root.rglob("*_tmax.nii.gz"):
        path.unlink()
    return prepare(world, tmp_path, root), "tmax"


def subject_in_two_splits(world, tmp_path):
    root = exams_copy(world, tmp_path)
    with (root / "participants.tsv").open("a") as table:
        table.write("sub-0001\ttest\nsub-0001\ttrain\n")
    return prepare(world, tmp_path, root), "sub-0001"


def empty_folder(world, tmp_path):
    (tmp_path / "empty").mkdir()
    return prepare(world, tmp_path, tmp_path / "empty"), "empty"


def absent_folder(world, tmp_path):
    return prepare(world, tmp_path, tmp_path / "nowhere"), "nowhere"


def full_disk(world, tmp_path):
    return [
        ["--mode=phantom", f"--output={tmp_path / 'drawn'}", "--subjects=3", "--size=32", "--slices=2"],
        tmp_path / "drawn",
        {"file_limit": 20},
    ], "disk"


def full_disk_while_training(world, tmp_path):
    arguments = runs.overrides(world[0] / "exams", world[0] / "cache", runs.QUICK)
    return [[*arguments, f"--workdir={tmp_path / 'run'}"], tmp_path / "run" / "evaluation", {"file_limit": 12}], "disk"


def negative_seed(world, tmp_path):
    return prepare(world, tmp_path, world[0] / "exams", seed=-1), "config.seed"


def full_disk_while_predicting(world, tmp_path):
    return predict(world, tmp_path, series_of(world), file_limit=1), "disk"


def typo_in_a_config_field(world, tmp_path):
    return prepare(
        world, tmp_path, world[0] / "exams", train__batchsize=8
    ), "no field batchsize; did you mean batch_size?"


def nonsense_in_a_config_field(world, tmp_path):
    return prepare(world, tmp_path, world[0] / "exams", data__frames=40), "config.data.frames"


def unknown_config(world, tmp_path):
    return [["--config=configs/tmax.py"], tmp_path / "runs", {}], "temp_tmax.py"


def unknown_variant(world, tmp_path):
    return [["--config=configs/temp_tmax.py:dmeo"], tmp_path / "runs", {}], "demo"


def unknown_flag(world, tmp_path):
    return [["--mode=predict", "--inptu=x"], tmp_path / "runs", {}], "inptu"


def workdir_of_another_config(world, tmp_path):
    return [
        [*runs.overrides(world[0] / "exams", world[0] / "cache", model__width=3), f"--workdir={world[0] / 'run'}"],
        world[0] / "run",
        {},
    ], "config.model.width"


def absent_checkpoint(world, tmp_path):
    (tmp_path / "run").mkdir()
    arguments = [
        "--mode=predict",
        f"--workdir={tmp_path / 'run'}",
        f"--input={series_of(world)}",
        f"--output={tmp_path / 'out'}",
    ]
    return [arguments, tmp_path / "out", {}], "checkpoint"


def half_deleted_checkpoint(world, tmp_path):
    shutil.copytree(world[0] / "run", tmp_path / "run")
    for step in (tmp_path / "run" / "checkpoints").iterdir():
        shutil.rmtree(step / "generator", ignore_errors=True)
    arguments = ["--mode=evaluate", f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={world[0] / 'cache'}"]
    return [arguments, tmp_path / "run", {}], "checkpoint"


def loss_that_is_not_finite(world, tmp_path):
    arguments = runs.overrides(world[0] / "exams", world[0] / "cache", runs.QUICK, train__learning_rate=1e30)
    return [[*arguments, f"--workdir={tmp_path / 'run'}"], tmp_path / "run" / "checkpoints", {}], "not finite"


def batch_that_does_not_fit(world, tmp_path):
    arguments = runs.overrides(world[0] / "exams", world[0] / "cache", train__batch_size=2_000_000_000)
    return [[*arguments, f"--workdir={tmp_path / 'run'}"], tmp_path / "run" / "checkpoints", {}], "batch_size"


def deconvolve(world, tmp_path, series, *more):
    mask = series_of(world).with_name("sub-0001_mask.nii.gz")
    return [
        ["--mode=deconvolve", f"--input={series}", f"--output={tmp_path / 'out'}", f"--mask={mask}", *more],
        tmp_path / "out",
        {},
    ]


def changed_curve(world, tmp_path, change):
    lines = series_of(world).with_name("sub-0001_aif.tsv").read_text().splitlines()
    path = tmp_path / "aif.tsv"
    path.write_text("\n".join([lines[0], *change(lines[1:])]) + "\n")
    return deconvolve(world, tmp_path, series_of(world), f"--aif={path}")


def arterial_curve_of_another_length(world, tmp_path):
    return changed_curve(world, tmp_path, lambda rows: rows[:-3]), "frames"


def arterial_curve_of_another_time_step(world, tmp_path):
    slower = lambda rows: [f"{1.1 * float(row.split()[0])}\t{row.split()[1]}" for row in rows]  # noqa: E731
    return changed_curve(world, tmp_path, slower), "in steps of"


def arterial_mask_outside_the_brain(world, tmp_path):
    image = nibabel.load(series_of(world))
    mask = np.zeros(image.shape[:3], np.uint8)
    mask[0, 0, 0] = mask[0, 1, 0] = 1
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "arteries.nii.gz")
    return deconvolve(world, tmp_path, series_of(world), f"--aif={tmp_path / 'arteries.nii.gz'}"), "within the brain"


def absent_arterial_curve(world, tmp_path):
    return deconvolve(world, tmp_path, series_of(world), "--aif=nowhere.tsv"), "nowhere.tsv"


def decimal_comma(world, tmp_path):
    return deconvolve(world, tmp_path, series_of(world), "--tr=1,5"), "--tr is '1,5'; expected a number"


def unknown_flag_with_a_value(world, tmp_path):
    return deconvolve(world, tmp_path, series_of(world), "--arterial", "auto"), "Unknown command line flag 'arterial'"


def predict_with_a_folder_that_is_no_run(world, tmp_path):
    arguments, output, how = predict(world, tmp_path, series_of(world))
    arguments[1] = f"--workdir={tmp_path}"
    return [arguments, output, how], "holds no checkpoints; give the --workdir of a trained run"


def deconvolution_without_bolus(world, tmp_path):
    flat = lambda data: data[..., 5:6] + 0 * data  # noqa: E731
    return deconvolve(world, tmp_path, rewritten(world, tmp_path, flat)), "bolus"


def unknown_scale(world, tmp_path):
    return deconvolve(world, tmp_path, series_of(world), "--scale=white"), "reference_wm"


def deconvolution_of_nothing(world, tmp_path):
    return [
        ["--mode=deconvolve", f"--output={tmp_path / 'out'}"],
        tmp_path / "out",
        {},
    ], "--input=PATH or --config.data.root=DIR"


def full_disk_while_deconvolving(world, tmp_path):
    curve = series_of(world).with_name("sub-0001_aif.tsv")
    arguments, output, _ = deconvolve(world, tmp_path, series_of(world), f"--aif={curve}", "--method=csvd")
    return [arguments, output, {"file_limit": 1}], "disk"


CASES = [
    three_dimensional_series,
    truncated_series,
    series_that_is_no_nifti,
    absent_series,
    all_nan_exam,
    all_zero_exam,
    too_few_frames,
    no_bolus,
    no_frame_length,
    map_on_another_grid,
    missing_map,
    subject_in_two_splits,
    empty_folder,
    absent_folder,
    full_disk,
    full_disk_while_predicting,
    full_disk_while_training,
    negative_seed,
    typo_in_a_config_field,
    nonsense_in_a_config_field,
    unknown_config,
    unknown_variant,
    unknown_flag,
    workdir_of_another_config,
    absent_checkpoint,
    half_deleted_checkpoint,
    loss_that_is_not_finite,
    batch_that_does_not_fit,
    arterial_curve_of_another_length,
    arterial_curve_of_another_time_step,
    arterial_mask_outside_the_brain,
    absent_arterial_curve,
    decimal_comma,
    unknown_flag_with_a_value,
    predict_with_a_folder_that_is_no_run,
    deconvolution_without_bolus,
    unknown_scale,
    deconvolution_of_nothing,
    full_disk_while_deconvolving,
]


IN_A_PROCESS = [unknown_flag, full_disk_while_training]  # the others run here


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_one_line_and_leaves_nothing_behind(world, tmp_path, case):
    (arguments, output, how), words = case(world, tmp_path)
    before = runs.snapshot(output)
    done = (runs.main if case in IN_A_PROCESS else program)(*arguments, **how)
    told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1, done.stderr
    assert len(told) == 1 and done.stderr.rstrip().endswith(told[0]), done.stderr
    assert words in told[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert "defect" not in told[0]
    assert runs.snapshot(output) == before


def test_help_is_printed_and_is_no_error():
    done = runs.main("--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "--mode" in done.stdout and "--config" in done.stdout and "predict" in done.stdout


@pytest.mark.parametrize(
    ("number", "status", "by"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended")]
)
def test_a_run_that_is_asked_to_end_says_how_to_go_on_and_keeps_its_step(world, tmp_path, number, status, by):
    rows = tmp_path / "run" / "metrics.jsonl"
    arguments = runs.overrides(world[0] / "exams", world[0] / "cache", runs.QUICK, train__steps=5000)
    process = subprocess.Popen(
        runs.command(*arguments, f"--workdir={tmp_path / 'run'}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=runs.environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells let background jobs ignore it
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if rows.is_file() and rows.read_text().count('"validation_error"') >= 2:  # behind the first checkpoint
            break
        time.sleep(0.02)
    process.send_signal(number)
    printed, error = process.communicate(timeout=120)
    line = by + r"( by SIGTERM)?; step \d+ of 5000 is saved, and the same command goes on from there\.\s*\Z"
    assert process.returncode == status and re.search(line, error), error
    assert "Traceback" not in printed + error
    assert int(checkpoints.choose_step(tmp_path / "run", "latest")) >= 2
    assert not list((tmp_path / "run").glob(".*"))  # nobody has it any more


UNCAUGHT = """
from dscgan_jax import main
def fail(mode):
    raise ZeroDivisionError("something\\nin two lines")
main.run = fail
main.entry()
"""


def test_an_error_that_nobody_expected_is_called_a_defect_and_shown_on_demand():
    line = "error: ZeroDivisionError: something in two lines (this is a defect of dscgan_jax; --debug shows where)"
    plain, debug = (
        subprocess.run(
            [sys.executable, "-c", UNCAUGHT, *given],
            capture_output=True,
            text=True,
            check=False,
            env=runs.environment(),
        )
        for given in ([], ["--debug"])
    )
    assert (plain.returncode, plain.stdout, plain.stderr.strip()) == (1, "", line)
    assert debug.returncode == 1 and debug.stderr.rstrip().endswith(line)
    assert debug.stderr.startswith("Traceback") and "in fail" in debug.stderr


def test_the_whole_path_leaves_everything_that_was_promised(world):
    folder, printed = world
    run = folder / "run"
    for path in (
        "config.json",
        "metrics.jsonl",
        "report.html",
        "evaluation/test/subjects.csv",
        "evaluation/test/summary.json",
    ):
        assert (run / path).stat().st_size > 0, path
    assert list((run / "samples").glob("*.png")) and list((run / "checkpoints").iterdir())
    assert list(run.glob("events.*"))
    summary = json.loads((run / "evaluation/test/summary.json").read_text())
    assert set(summary["results"]) == {"network_per_slice", "network_running", "blank", "null_median"}
    assert "null_median" in printed and str(run / "report.html") in printed


def test_predict_keeps_grid_and_name_of_the_series(world, tmp_path):
    program(
        "--mode=predict",
        f"--workdir={world[0] / 'run'}",
        f"--input={series_of(world)}",
        f"--output={tmp_path / 'maps'}",
        check=True,
    )
    series, tmax = nibabel.load(series_of(world)), nibabel.load(tmp_path / "maps" / "sub-0001_tmax.nii.gz")
    np.testing.assert_allclose(tmax.affine, series.affine, atol=1e-5)
    assert tmax.shape == series.shape[:3]
    sidecar = json.loads((tmp_path / "maps" / "sub-0001_tmax.json").read_text())
    assert sidecar["Units"] == "s" and sidecar["Software"]["dscgan_jax"]


def test_a_real_exam_becomes_a_map(world, real_exam, tmp_path):
    program(
        "--mode=predict",
        f"--workdir={world[0] / 'run'}",
        f"--input={real_exam}",
        f"--output={tmp_path / 'maps'}",
        check=True,
    )
    tmax = nibabel.load(tmp_path / "maps" / "sub-moyamoya_tmax.nii.gz")
    assert tmax.shape == (128, 128, 1)
    assert np.isfinite(tmax.get_fdata()).all() and np.ptp(tmax.get_fdata()) > 0


def test_a_real_exam_is_deconvolved_without_any_help(real_exam, tmp_path):
    done = program("--mode=deconvolve", f"--input={real_exam}", f"--output={tmp_path / 'maps'}", check=True)
    tmax = nibabel.load(tmp_path / "maps" / "sub-moyamoya_tmax.nii.gz")
    np.testing.assert_allclose(tmax.affine, nibabel.load(real_exam).affine, atol=1e-5)
    inside = tmax.get_fdata()[nibabel.load(tmp_path / "maps" / "sub-moyamoya_mask.nii.gz").get_fdata() > 0]
    assert len(inside) > 4000 and 0.5 < np.median(inside) < 4 and np.isfinite(inside).all()
    assert "echo time is unknown" in done.stdout and "sub-moyamoya.html" in done.stdout


def test_network_baselines_and_nulls_stand_in_one_table(world, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(world[0] / "run", run)
    done = program(
        "--mode=evaluate",
        f"--workdir={run}",
        f"--config.data.root={world[0] / 'exams'}",
        f"--config.data.cache_dir={world[0] / 'cache'}",
        "--config.evaluate.baselines=('parametric','csvd')",
        "--config.conventional.aif=files",
        check=True,
    )
    results = json.loads((run / "evaluation/test/summary.json").read_text())["results"]
    assert list(results) == ["network_per_slice", "network_running", "parametric", "csvd", "blank", "null_median"]
    errors = {source: result["tmax"]["brain"]["mae"]["mean"] for source, result in results.items()}
    assert errors["parametric"] < min(errors["csvd"], errors["null_median"], errors["network_per_slice"])
    # Without the fields on the command line the stored config says what stands there.
    shutil.copytree(world[0] / "run", tmp_path / "plain")
    program(
        "--mode=evaluate",
        f"--workdir={tmp_path / 'plain'}",
        f"--config.data.cache_dir={world[0] / 'cache'}",
        check=True,
    )
    stored = json.loads((tmp_path / "plain/evaluation/test/summary.json").read_text())["results"]
    assert list(stored) == ["network_per_slice", "network_running", "blank", "null_median"]
    summary = json.loads((run / "evaluation/test/summary.json").read_text())
    assert summary["data"]["arterial_input"] == "files"
    assert "own AIF" in done.stdout and "parametric fit" in (run / "report.html").read_text()


def test_anybodys_maps_are_scored_by_the_same_code(world, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in (world[0] / "exams").rglob("*_tmax.nii.gz"):
        shutil.copy(path, folder)
    program(
        "--mode=evaluate",
        f"--maps={folder}",
        f"--workdir={tmp_path / 'run'}",
        *runs.exam_overrides(world[0] / "exams", world[0] / "cache"),
        check=True,
    )
    summary = json.loads((tmp_path / "run/evaluation/theirs-test/summary.json").read_text())
    assert summary["results"]["theirs"]["tmax"]["brain"]["mae"]["mean"] == pytest.approx(0, abs=1e-6)


def test_exams_that_were_moved_keep_their_splits_and_others_are_scored_under_their_own_name(world, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(world[0] / "run", run)
    moved = exams_copy(world, tmp_path)
    (moved / "participants.tsv").unlink()
    truth = tmp_path / "maps"
    truth.mkdir()
    for path in moved.rglob("*_tmax.nii.gz"):
        shutil.copy(path, truth)
    before = (run / "evaluation/test/subjects.csv").read_text().splitlines()
    program("--mode=evaluate", f"--workdir={run}", f"--config.data.root={moved}/", check=True)
    after = (run / "evaluation/test/subjects.csv").read_text().splitlines()
    given = [f"--maps={truth}", f"--workdir={run}", f"--config.data.root={moved}"]
    program("--mode=evaluate", *given, check=True)
    of_maps = json.loads((run / "evaluation/maps-test/summary.json").read_text())
    assert of_maps["subjects"] == json.loads((run / "evaluation/test/summary.json").read_text())["subjects"]
    assert [row.split(",")[:4] for row in before] == [row.split(",")[:4] for row in after]

    others = tmp_path / "others"
    program("--mode=phantom", f"--output={others}", "--subjects=3", "--size=32", "--slices=2", "--seed=9", check=True)
    table = others / "participants.tsv"
    table.write_text(table.read_text() + "sub-9999\ttest\n")  # of whom there is nothing
    done = program("--mode=evaluate", f"--workdir={run}", f"--config.data.root={others}", check=True)
    assert "no maps of sub-9999: " in done.stdout
    summary = json.loads((run / "evaluation/others-test/summary.json").read_text())
    assert len(summary["subjects"]) == 1 and summary["data"]["scored_source"] == str(others)
    assert (run / "report_others-test.html").is_file()
    assert (run / "evaluation/test/subjects.csv").read_text().splitlines() == after


def test_an_exam_of_another_cohort_that_the_network_was_trained_on_is_told(world, tmp_path):
    run, others = tmp_path / "run", tmp_path / "others"
    shutil.copytree(world[0] / "run", run)
    program("--mode=phantom", f"--output={others}", "--subjects=3", "--size=32", "--slices=2", "--seed=9", check=True)
    both = splits_in(world[0] / "exams")["train"] & splits_in(others)["train"]
    shutil.copytree(world[0] / "exams" / min(both), others / min(both), dirs_exist_ok=True)
    done = program("--mode=evaluate", f"--workdir={run}", f"--config.data.root={others}", "--split=train", check=True)
    assert f"{min(both)}: warning: name and size of the series are those of an exam that the network was" in done.stdout
    assert done.stdout.count("the network was trained on: its scores") == 1


def splits_in(root):
    """{split: its subjects}, from participants.tsv."""
    rows = [line.split("\t") for line in (root / "participants.tsv").read_text().splitlines()]
    split = rows[0].index("split")
    return {name: {row[0] for row in rows[1:] if row[split] == name} for name in ("train", "validation", "test")}


def test_a_machine_without_git_only_lacks_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    versions = provenance.software_versions()
    assert versions["git"] is None and versions["jax"]


def test_check_says_what_is_usable(world, tmp_path):
    root = exams_copy(world, tmp_path)
    (root / "sub-0003" / "perf" / "sub-0003_dsc.nii.gz").write_bytes(b"broken")
    printed = program("--mode=check", f"--config.data.root={root}", check=True).stdout
    assert "sub-0001" in printed and "sub-0003_dsc.nii.gz" in printed


def test_maps_are_scored_where_nobody_is_there_to_train_on(world, tmp_path):
    root = exams_copy(world, tmp_path)
    lines = (root / "participants.tsv").read_text().splitlines()
    (root / "participants.tsv").write_text(
        "\n".join([lines[0], *[line.split("\t")[0] + "\ttest" for line in lines[1:]]])
    )
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in root.rglob("*_cbf.nii.gz"):
        shutil.copy(path, folder)
    program(
        "--mode=evaluate",
        f"--maps={folder}",
        f"--workdir={tmp_path / 'run'}",
        *runs.exam_overrides(root, world[0] / "cache"),
        check=True,
    )
    summary = json.loads((tmp_path / "run/evaluation/theirs-test/summary.json").read_text())
    assert len(summary["subjects"]) == 5 and set(summary["results"]) == {"theirs", "blank"}
    assert summary["results"]["theirs"]["cbf"]["brain"]["mae"]["mean"] == pytest.approx(0, abs=1e-6)
    assert summary["results"]["theirs"]["cbf"]["scaled"]["ssim"]["n"] == 0
