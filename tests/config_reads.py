"""Which fields of a config the modes really read: the program runs in this process, and every access is written down.

What is only checked, copied, printed or stored does not count.
"""

import contextlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import ml_collections
import runs
from command_line import parsed

from dscgan_jax import main
from dscgan_jax.configs import default
from dscgan_jax.training import loop

PACKAGE = pathlib.Path(main.__file__).resolve().parent
NOBODY = "nobody"  # a field that nobody reads, planted into each section
# Functions below which a read is no use: (file, function).
NO_USE = {
    *(("settings.py", name) for name in ("check", "check_fields", "to_json", "sha256", "from_json", "check_same_run")),
    *(("main.py", name) for name in ("read_command", "read_config", "_with_flags", "_check_paths")),
    ("evaluate.py", "overruled"),
    ("places.py", "progress"),
    *(("train.py", name) for name in ("scaled_rates", "hint_at_demo")),
    ("conventional.py", "check_baselines"),
    ("options.py", "check"),
    ("options.py", "check_methods"),
    ("memory.py", "out_of_memory_named"),
    ("workdir.py", "check_workdir"),
}


class Reads:
    """Paths of the fields that were read, by the mode that ran."""

    def __init__(self):
        self.of_mode: dict[str, set[str]] = {}
        self._mode = ""
        config = default.get_config()
        self._sections = {frozenset(config): ""} | {
            frozenset(section): f"{name}."
            for name, section in config.items()
            if isinstance(section, ml_collections.ConfigDict)
        }

    def run(self, reader: str, *arguments) -> None:
        """What the program does with these arguments, as one of `options.READERS`."""
        self._mode = reader
        with parsed(*arguments):
            main.run(main.flags.FLAGS.mode)

    def note(self, config: ml_collections.ConfigDict, field: str) -> None:
        """Counts one access, if package code asked for a value in order to use it."""
        frame = sys._getframe(2)
        if frame.f_code.co_name == "__getattr__":
            frame = frame.f_back
        section = self._sections.get(frozenset(config._fields))
        if section is None or PACKAGE not in pathlib.Path(frame.f_code.co_filename).parents:
            return
        while frame is not None:
            path = pathlib.Path(frame.f_code.co_filename)
            if PACKAGE in path.parents and (path.name, frame.f_code.co_name) in NO_USE:
                return
            frame = frame.f_back
        self.of_mode.setdefault(self._mode, set()).add(section + field)


@contextlib.contextmanager
def recorded(monkeypatch):
    """Within it, accesses are written down, and each section of the config has a field more."""
    real_config, real_item = default.get_config, ml_collections.ConfigDict.__getitem__

    def with_a_field_more(variant=None):
        config = real_config(variant)
        for section in (config, *config.values()):
            if isinstance(section, ml_collections.ConfigDict):
                section[NOBODY] = 0
        return config

    with monkeypatch.context() as patched:
        patched.setattr(default, "get_config", with_a_field_more)
        reads = Reads()

        def item(self, key):
            reads.note(self, key)
            return real_item(self, key)

        patched.setattr(ml_collections.ConfigDict, "__getitem__", item)
        yield reads


class StepThatOnlyCounts:
    """Stands in for the compiled training step, which takes seconds to compile and knows no config."""

    def __init__(self, *_):
        pass

    def memory_analysis(self):
        return None

    def __call__(self, state, batch):
        return state.replace(step=state.step + 1), dict.fromkeys(("loss_l1", "loss_d", "loss_g"), jnp.ones(()))


def of_every_mode(folder: pathlib.Path, monkeypatch) -> dict[str, set[str]]:
    """Each mode once, on three tiny phantom exams: reader -> fields. Takes some seconds."""

    def given(**fields):
        return [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]

    tiny = {name.replace(".", "__"): value for name, value in runs.TINY.items()}
    tiny |= {
        "train__steps": 0,
        "train__epochs": 1.0,
        "train__learning_rate_scaling": "linear",
        "evaluate__baselines": "('csvd',)",
        "conventional__aif": "files",
    }
    exams, run, cache = folder / "exams", folder / "run", given(data__cache_dir=folder / "cache")
    demo = "--config=configs/temp_tmax.py:demo"
    series = exams / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz"
    conventional = ["--method=csvd", *given(conventional__aif="files")]
    monkeypatch.setattr(loop, "compiled_within_memory", StepThatOnlyCounts)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)  # which stands for config.data.cache_dir
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # compiled programs stay in the session's folder
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)  # with it nobody needs a folder for programs
    with recorded(monkeypatch) as reads:
        reads.run("phantom", "--mode=phantom", f"--output={exams}", "--subjects=3", "--size=32", "--slices=1")
        reads.run("check", "--mode=check", *given(data__root=exams))
        phantom = given(phantom__subjects=3, phantom__size=32, phantom__slices=1)
        reads.run("prepare", "--mode=prepare", demo, *given(data__size=32), *phantom, *cache)
        reads.run("prepare", "--mode=prepare", demo, *given(data__size=32, data__root=exams), *cache)
        reads.run("train", demo, f"--workdir={run}", *phantom, *given(**tiny), *cache)
        reads.run("export", "--mode=export", f"--workdir={run}", f"--output={folder / 'run.safetensors'}")
        program = ["--mode=export", "--format=stablehlo", f"--output={folder / 'run.stablehlo'}"]
        norm = given(evaluate__norm_at_test="running")
        reads.run("export --format=stablehlo", *program, f"--workdir={run}", *norm)
        reads.run(
            "predict --input",
            "--mode=predict",
            f"--workdir={run}",
            f"--input={series}",
            f"--output={folder / 'predicted'}",
            "--motion=none",
            *given(evaluate__norm_at_test="running"),
            *cache,
        )
        reads.run(
            "predict --config.data.root",
            "--mode=predict",
            f"--workdir={run}",
            f"--output={folder / 'predicted_cohort'}",
            "--motion=none",
            "--workers=1",
            *given(data__root=exams, evaluate__norm_at_test="running"),
            *cache,
        )
        reads.run(
            "deconvolve --input",
            "--mode=deconvolve",
            f"--input={series}",
            f"--output={folder / 'maps'}",
            *conventional,
            *cache,
        )
        reads.run(
            "deconvolve --config.data.root",
            "--mode=deconvolve",
            f"--output={folder / 'taught'}",
            "--workers=1",
            *conventional,
            *cache,
            *given(data__root=exams),
        )
        reads.run("evaluate", "--mode=evaluate", f"--workdir={run}", *cache, *given(data__root=exams))
        reads.run(
            "evaluate --maps",
            "--mode=evaluate",
            f"--maps={exams}",
            f"--workdir={folder / 'records'}",
            demo,
            *given(data__root=exams, data__size=32),
            *cache,
        )
        reads.run(
            "evaluate --maps --workdir",
            "--mode=evaluate",
            f"--maps={exams}",
            f"--workdir={run}",
            *cache,
            *given(data__root=exams),
        )
    return reads.of_mode
