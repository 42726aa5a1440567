"""A run becomes a file, the file predicts as the run did; without a model the shipped network is taken.

On tiny phantom exams and weights that learned nothing.
"""

import json
import pathlib
import zipfile

import config_reads
import numpy as np
import pytest
import runs
from command_line import program

import dscgan_jax
from dscgan_jax import shipped
from dscgan_jax.data import nifti
from dscgan_jax.data.exams import load_exam
from dscgan_jax.methods.network import Predictor
from dscgan_jax.phantom import cohort
from dscgan_jax.training import loop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Exams in `exams`, a run that is scored in `run`, its network in `small.safetensors`."""
    folder = tmp_path_factory.mktemp("world")
    cohort.write_cohort(folder / "exams", preset="acute", subjects=3, seed=5, size=32, slices=1)
    tiny = runs.overrides(folder / "exams", folder / "cache", runs.QUICK, train__steps=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "compiled_within_memory", config_reads.StepThatOnlyCounts)
        program(*tiny, "--config.model.upsample=resize", f"--workdir={folder / 'run'}", check=True)
    program("export", folder / "run", folder / "small.safetensors", check=True)
    return folder


@pytest.fixture
def series(world):
    return world / "exams" / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz"


def sidecar_in(folder: pathlib.Path):
    return json.loads((folder / "sub-0001_tmax.json").read_text())


def test_the_file_predicts_as_the_run_does_and_says_what_it_is(world, series, tmp_path):
    of_run = program("predict", series, tmp_path / "run", f"--workdir={world / 'run'}", check=True)
    of_file = program("predict", series, tmp_path / "file", f"--model={world / 'small.safetensors'}", check=True)
    first, second = (
        nifti.read_volume(tmp_path / name / "sub-0001_tmax.nii.gz", dims=3).data for name in ("run", "file")
    )
    np.testing.assert_array_equal(first, second)
    assert "network: run 0.1.0" in of_run.stdout and "network: small 0.1.0" in of_file.stdout
    model = sidecar_in(tmp_path / "file")["Model"]
    assert (model["name"], model["version"]) == ("small", dscgan_jax.__version__)
    assert (
        model["trained_on"] == "exams of exams" and model["sha256"] == sidecar_in(tmp_path / "run")["Model"]["sha256"]
    )
    page = (tmp_path / "file" / "sub-0001.html").read_text()
    assert f"small 0.1.0 (step 1, {model['sha256'][:12]}), trained on exams of exams" in page


def test_its_card_tells_of_exams_ranges_scores_and_limits(world):
    card = (world / "small.md").read_text()
    for words in (
        "Research use only",
        "time before the bolus in s",
        "| Tmax | s |",
        "null_median",
        "Not a medical device",
    ):
        assert words in card
    assert str(world) not in card
    [digest] = {line.split("`")[1] for line in card.splitlines() if "SHA-256" in line}
    assert digest == Predictor.from_file(world / "small.safetensors").sha256


def test_without_a_model_the_shipped_network_is_taken_and_a_config_that_is_given_names_its_own_run(
    world, series, tmp_path, monkeypatch
):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    missing = program("predict", series, tmp_path / "maps")
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1 and not (tmp_path / "maps").exists()
    assert "comes without weights of the network physics" in missing.stderr
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "physics.safetensors").write_bytes((world / "small.safetensors").read_bytes())
    program("--mode=predict", f"--input={series}", f"--output={tmp_path / 'maps'}", check=True)
    assert sidecar_in(tmp_path / "maps")["Model"]["sha256"] == Predictor.shipped().sha256
    monkeypatch.chdir(tmp_path)
    own = program("predict", series, tmp_path / "own", "--config=configs/temp_cbf.py")
    assert "runs/temp_cbf: there is no such folder" in own.stderr


def test_a_mask_cuts_the_maps(world, series, tmp_path):
    exam = load_exam(series)
    half = exam.mask & (np.arange(exam.mask.shape[0]) < exam.mask.shape[0] // 2)[:, None, None]
    nifti.write_volume(tmp_path / "mask.nii.gz", exam.stored.to_stored(half), exam.stored.affine, dtype=np.uint8)
    file = f"--model={world / 'small.safetensors'}"
    program("predict", series, tmp_path / "maps", file, f"--mask={tmp_path / 'mask.nii.gz'}", check=True)
    tmax = exam.stored.to_ras(nifti.read_volume(tmp_path / "maps" / "sub-0001_tmax.nii.gz", dims=3).data)
    assert (tmax != 0)[half].mean() > 0.9 and not tmax[~half].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=NOWHERE"], "there is no such file or folder"),
        (["--model=FILE", "--workdir=RUN"], "--model and --workdir say the same"),
        (["--model=FILE", "--step=latest"], "--step=latest chooses a checkpoint of a run"),
        (["--model=EXAMS"], "holds no checkpoints; give the --model of a trained run"),
        (["--model=SERIES"], "it is a gzip archive"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(world, series, tmp_path, arguments, words):
    places = {
        "NOWHERE": tmp_path / "nowhere",
        "FILE": world / "small.safetensors",
        "RUN": world / "run",
        "EXAMS": world / "exams",
        "SERIES": series,
    }
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    done = program("predict", series, tmp_path / "maps", *arguments)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert not (tmp_path / "maps").exists()


def test_a_run_and_its_file_become_the_same_program_but_for_their_name(world, tmp_path):
    about = {}
    for name, network in (("run", f"--workdir={world / 'run'}"), ("small", f"--model={world / 'small.safetensors'}")):
        file = tmp_path / f"{name}.stablehlo"
        done = program("export", "--format=stablehlo", network, f"--output={file}", "--norm=per_slice", check=True)
        assert f"{name} 0.1.0" in done.stdout and "Research use only" in done.stdout
        with zipfile.ZipFile(file) as archive:
            about[name] = json.loads(archive.read("metadata.json")), archive.read("program.jax")
    assert about["run"][1] == about["small"][1] and about["run"][0]["norm"] == "per_slice"
    assert about["run"][0] == about["small"][0] | {"name": "run"}
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=physics", "--output=OUT/a.safetensors"], "expected a file called NAME.stablehlo"),
        (["--model=physics", "--output=OUT/nowhere/a.stablehlo"], "there is no folder"),
        (["--model=physics", "--output=FILE.stablehlo"], "is there already"),
        (["--model=physics", "--output=OUT/a.stablehlo", "--norm=running"], "no batch norm, and one way; leave it out"),
        (["--model=physics", "--output=OUT/a.stablehlo", "--norm=slice"], "per_slice"),
        (["--model=physics", "--workdir=RUN", "--output=OUT/a.stablehlo"], "--model and --workdir say the same"),
        (["--model=OUT/none.safetensors", "--output=OUT/a.stablehlo"], "there is no such file or folder"),
        (["--model=FILE.stablehlo", "--output=OUT/a.stablehlo"], "it is a zip archive"),
        (["--workdir=EXAMS", "--output=OUT/a.stablehlo"], "holds no checkpoints"),
        (["--model=physics", "--output=OUT/a.stablehlo", "--step=latest"], "chooses a checkpoint of a run"),
        (["--model=physics", "--output=OUT/a.stablehlo", "--format=onnx"], "stablehlo"),
        (["--model=physics"], "needs --output=PATH"),
    ],
)
def test_what_cannot_become_a_program_is_one_line(world, tmp_path, arguments, words):
    there = world / "there.stablehlo"
    there.write_bytes(b"PK\x03\x04something of the user's")
    places = {"OUT": tmp_path, "FILE.stablehlo": there, "RUN": world / "run", "EXAMS": world / "exams"}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    chosen = [] if any(one.startswith("--format") for one in arguments) else ["--format=stablehlo"]
    done = program("export", *chosen, *arguments)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert not list(tmp_path.iterdir()) and there.read_bytes().endswith(b"the user's")


def test_a_file_of_weights_called_a_program_is_told_of_the_flag(world, tmp_path):
    done = program("export", world / "run", tmp_path / "a.stablehlo")
    assert done.returncode == 1 and "a program needs --format=stablehlo" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "words"),
    [("small.pth", "expected a file called NAME.safetensors"), ("nowhere/a.safetensors", "there is no folder")],
)
def test_what_cannot_become_a_file_of_weights_is_refused(world, tmp_path, output, words):
    done = program("export", world / "run", tmp_path / output)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert not list(tmp_path.iterdir())
