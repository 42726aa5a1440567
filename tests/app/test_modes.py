"""The modes in this process, on three tiny phantom exams and a run whose network learned nothing."""

import dataclasses
import fcntl
import grp
import json
import pwd

import config_reads
import pytest
import runs
from command_line import parsed

from dscgan_jax import main
from dscgan_jax.app import evaluate, prepare, train
from dscgan_jax.configs import default, temp_tmax
from dscgan_jax.data import preparation
from dscgan_jax.data.exams import load_exam
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.sources import FolderSource
from dscgan_jax.methods import network, network_files
from dscgan_jax.methods.conventional_files import deconvolve_file
from dscgan_jax.pages import report
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.phantom import cohort
from dscgan_jax.training import checkpoints, loop, workdir

pytestmark = pytest.mark.slow

DEMO = "--config=configs/temp_tmax.py:demo"
TINY = [f"--config.{name}={value}" for name, value in {**runs.TINY, "train.steps": 1}.items()]


def run(*arguments):
    """As from the command line, without a process of its own."""
    with parsed(*arguments):
        main.run(main.flags.FLAGS.mode)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    cohort.write_cohort(folder / "exams", preset="acute", subjects=3, seed=5, size=32, slices=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "compiled_within_memory", config_reads.StepThatOnlyCounts)
        run(DEMO, *TINY, f"--workdir={folder / 'run'}", *where(folder))
    return folder


def where(folder):
    return [f"--config.data.root={folder / 'exams'}", f"--config.data.cache_dir={folder / 'cache'}"]


def series_of(folder):
    return folder / "exams" / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz"


def test_maps_are_scored_on_the_grid_of_the_run_and_its_weights_stay_closed(world, tmp_path, monkeypatch):
    """The command line's config is the paper's: 128 pixels, 80 stretched frames, raw signal.

    The run's is the demo's.
    """

    def closed(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr(checkpoints, "load_generator", closed)
    told = {}
    monkeypatch.setattr(evaluate, "print_folder_findings", lambda found, reader: told.update(found))
    run("--mode=evaluate", f"--maps={world / 'exams'}", f"--workdir={world / 'run'}", *where(world))
    assert len(told) == 1  # the only exam of the test split
    records = world / "run" / "evaluation"
    protocols = [
        json.loads((records / name / "summary.json").read_text())["protocol"] for name in ("test", "exams-test")
    ]
    assert protocols[0] == protocols[1]


def test_a_second_training_is_refused_before_it_prepares_and_others_may_read_the_run(world, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.dataset, "prepared", None)
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict({**runs.TINY, "train.steps": 1, "data.root": str(world / "exams")})
    before = runs.snapshot(world / "run")
    with (world / "run" / workdir.LOCK_FILE).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="a run is going on here"):
            train.run(config, world / "run")
        run("--mode=evaluate", f"--workdir={world / 'run'}", f"--config.data.cache_dir={world / 'cache'}")
        network_files.predict_file(
            network.Predictor.from_run(world / "run"), load_exam(series_of(world)), tmp_path / "maps"
        )
    (world / "run" / workdir.LOCK_FILE).unlink()
    changed = {name for name, content in runs.snapshot(world / "run").items() if before.get(name) != content}
    assert not {name for name in changed if not name.startswith(("evaluation/", "maps/", "report"))}


def test_a_run_holds_its_directory_until_it_is_scored(world, monkeypatch):
    held = []
    monkeypatch.setattr(train, "_run", lambda config, run: held.append((run / workdir.LOCK_FILE).is_file()))
    config = temp_tmax.get_config("demo")
    config.update_from_flattened_dict(
        {**runs.TINY, "train.steps": 1, "data.root": str(world / "exams"), "data.cache_dir": str(world / "cache")}
    )
    train.run(config, str(world / "run"))
    assert held == [True] and not (world / "run" / workdir.LOCK_FILE).exists()


class Reached(Exception):
    """What a test wanted to see was reached."""


@pytest.mark.parametrize(
    ("given", "norm", "motion"),
    [
        ([], "per_slice", "none"),
        (["--config.evaluate.norm_at_test=running"], "running", "none"),
        (["--norm=running"], "running", "none"),
        (["--motion=rigid"], "per_slice", "rigid"),
        (["--config.data.motion=rigid", "--config.evaluate.norm_at_test=per_slice"], "per_slice", "rigid"),
    ],
)
def test_predict_takes_the_norm_at_test_and_the_motion_that_are_given(
    world, tmp_path, monkeypatch, given, norm, motion
):
    real, seen = preparation.prepare, []

    def prepared(exam, settings, **_):
        seen.append(settings.motion)
        return real(exam, dataclasses.replace(settings, motion="none"))  # which takes seconds

    def step(self, norm):
        seen.append(norm)
        raise Reached

    monkeypatch.setattr(network.preparation, "prepare", prepared)
    monkeypatch.setattr(network.exams, "with_motion_finding", lambda exam: exam)  # seconds, too
    monkeypatch.setattr(network.Predictor, "compile", lambda self: None)  # beside the reading of the exam
    monkeypatch.setattr(network.Predictor, "_compiled", step)
    with pytest.raises(Reached):
        run(
            "--mode=predict",
            f"--workdir={world / 'run'}",
            f"--input={series_of(world)}",
            f"--output={tmp_path}",
            *given,
        )
    assert seen == [motion, norm]


def test_evaluate_refuses_a_field_that_no_method_of_the_run_reads(world):
    """The run was asked for no baseline; which ones there are is known only once its config is read."""
    arguments = ["--mode=evaluate", f"--workdir={world / 'run'}", f"--config.data.cache_dir={world / 'cache'}"]
    with pytest.raises(InputError, match=r"conventional\.aif is given, which nothing reads: .*baselines is empty"):
        run(*arguments, "--config.conventional.aif=files")
    with pytest.raises(
        InputError, match=r"conventional\.oscillation_index is given.*baselines is csvd; set it to osvd"
    ):
        run(*arguments, "--config.evaluate.baselines=('csvd',)", "--config.conventional.oscillation_index=0.1")


def test_what_the_command_line_says_of_the_exams_overrules_the_run():
    stored, config = default.get_config(), default.get_config()
    stored.data.update(tr_seconds=1.5, te_seconds=0.03, accept=("motion",), root="/theirs", layout="isles2017", size=64)
    stored.evaluate.baselines = ("csvd",)
    merged = evaluate.overruled(stored, config, ())
    assert merged.to_dict() == stored.to_dict()
    config.data.update(tr_seconds=2.0, accept=("truncated",), root="/mine", size=32)
    config.evaluate.baselines, config.conventional.truncation_threshold = (), 0.3
    merged = evaluate.overruled(stored, config, {"conventional.truncation_threshold", "data.te_seconds"})
    assert (merged.data.tr_seconds, merged.data.te_seconds, merged.data.accept) == (2.0, 0.0, ("truncated",))
    assert (merged.data.root, merged.data.layout, merged.data.size) == ("/mine", "bids", 64)
    assert (merged.evaluate.baselines, merged.conventional.truncation_threshold) == (("csvd",), 0.3)


@pytest.fixture
def no_home(monkeypatch):
    """A user whom the system does not know, as containers have them."""

    def unknown(_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.setattr(grp, "getgrgid", unknown)


def test_without_a_home_folder_whatever_needs_no_cache_works(world, tmp_path, no_home):
    run("--mode=check", f"--config.data.root={world / 'exams'}")
    run(
        "--mode=predict",
        f"--workdir={world / 'run'}",
        f"--input={series_of(world)}",
        f"--output={tmp_path / 'predicted'}",
    )
    run(
        "--mode=deconvolve",
        f"--input={series_of(world)}",
        f"--output={tmp_path / 'maps'}",
        "--method=csvd",
        "--aif=files",
    )
    assert (tmp_path / "predicted" / "sub-0001_tmax.nii.gz").is_file() and (
        tmp_path / "maps" / "sub-0001_tmax.nii.gz"
    ).is_file()


def test_without_a_home_folder_and_a_name_exams_are_prepared_into_a_given_cache(world, tmp_path, no_home):
    run(
        "--mode=prepare",
        DEMO,
        "--config.data.size=32",
        f"--config.data.root={world / 'exams'}",
        f"--config.data.cache_dir={tmp_path}",
    )
    assert list(tmp_path.rglob("dataset_info.json"))


@pytest.mark.parametrize("arguments", [["--mode=prepare"], ["--mode=prepare", "EXAMS"], [], ["EXAMS"]], ids=" ".join)
def test_without_a_home_folder_the_cache_must_be_named(world, tmp_path, no_home, arguments):
    given = [f"--config.data.root={world / 'exams'}" if argument == "EXAMS" else argument for argument in arguments]
    workdir = [] if "--mode=prepare" in arguments else [f"--workdir={tmp_path / 'run'}", "--config.train.batch_size=4"]
    with pytest.raises(
        InputError, match=r"^--config\.data\.cache_dir=~/\.cache/dscgan_jax: the home folder is not known"
    ):
        run(DEMO, *given, *workdir)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["input", "output", "mask", "aif"])
def test_a_home_folder_of_nobody_is_named_with_its_flag(world, tmp_path, flag):
    given = {"input": series_of(world), "output": tmp_path / "out", flag: "~nosuchuser/x"}
    with pytest.raises(InputError, match=rf"^--{flag}=~nosuchuser/x: the home folder is not known"):
        run("--mode=deconvolve", *[f"--{name}={value}" for name, value in given.items()])


def test_python_takes_paths_as_text(world, tmp_path):
    predictor = network.Predictor.from_run(str(world / "run"))
    maps = predictor.predict(load_exam(str(series_of(world)))).save(str(tmp_path / "predicted"))
    paths, _ = deconvolve_file(
        str(series_of(world)),
        str(tmp_path / "maps"),
        Settings(method="csvd"),
        aif=str(series_of(world).with_name("sub-0001_aif.tsv")),
        mask=str(series_of(world).with_name("sub-0001_mask.nii.gz")),
    )
    assert all(path.is_file() for path in (*maps, *paths))
    sidecar = json.loads((tmp_path / "predicted" / "sub-0001_tmax.json").read_text())
    assert (sidecar["Settings"]["norm_at_test"], sidecar["Settings"]["motion"]) == ("per_slice", "none")
    assert predictor.step == checkpoints.choose_step(str(world / "run"))
    assert "tmax" in FolderSource("theirs", str(tmp_path / "maps"), ["sub-0001"]).offers["theirs"]
    assert report.write(str(world / "run")).is_file()
