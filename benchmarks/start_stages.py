"""Runs one command of dscgan_jax in this process and writes when its stages began and ended, and what they cost.

python benchmarks/start_stages.py RECORD.json predict exam.nii.gz maps/

Imports nothing but the standard library before the command does: what is imported is a part of what is measured. Each
function in STAGES is wrapped as its module is imported; nothing of the package is changed.
"""

import atexit
import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

BEGUN = time.perf_counter()
BEGUN_CPU = time.process_time()  # what Python itself took to start

# Module -> its functions, the stages of a command; where one is part of another, both are listed.
STAGES = {
    "dscgan_jax.data.nifti": ("_read_now", "read_volume"),
    "dscgan_jax.data.exams": ("load_exam", "_checked_series", "_found_mask"),
    "dscgan_jax.data.preparation": ("prepare",),
    "dscgan_jax.training.weights": ("load",),
    "dscgan_jax.methods.network": ("Predictor.compile", "Predictor._scaled", "Predictor._judged"),
    "dscgan_jax.perfusion.registration": ("estimate_poses",),
    "dscgan_jax.perfusion.measurement": ("measure",),
    "dscgan_jax.perfusion.arterial": ("find_arterial_input",),
    "dscgan_jax.perfusion.leakage": ("corrected",),
    "dscgan_jax.perfusion.parametric": ("compile_fit", "fit", "fitted_curves", "_likeliest_shape"),
    "dscgan_jax.perfusion.conventional": ("invert",),
    "dscgan_jax.evaluation.consistency": ("consistency_of",),
    "dscgan_jax.evaluation.quality": ("quality_of",),
    "dscgan_jax.evaluation.readout": ("read_out", "write"),
    "dscgan_jax.data.derivatives": ("ExamMaps.save",),
    "dscgan_jax.pages.conventional": ("pictures_of", "picture", "page_of"),
    "dscgan_jax.pages.prediction": ("picture", "page_of"),
    "dscgan_jax.pages.viewer.view": ("viewer",),
    "dscgan_jax.pages.viewer.packing": ("curve_codes", "film_codes", "map_codes", "Packed.of"),
    "dscgan_jax.pages.exam": ("write",),
}
COMPILING = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling or loading what is compiled",
}


class Recorder:
    """What ran when, in seconds since the start: (name, thread, begin, end, seconds of this thread's processor)."""

    def __init__(self):
        self.stages: list[tuple[str, str, float, float, float]] = []
        self.imports: dict[str, float] = {}
        self.compiling: dict[str, list[float]] = {}
        self._importing = threading.local()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin, processor = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                end = time.perf_counter() - BEGUN
                thread = threading.current_thread().name
                self.stages.append((name, thread, begin - BEGUN, end, time.thread_time() - processor))

        return timed

    def imported(self, name: str, execute: Callable[[], None]) -> None:
        """Imports a module; its own seconds, without those of what it imports, count for its package."""
        within, self._importing.inner = getattr(self._importing, "inner", 0.0), 0.0
        begin = time.perf_counter()
        try:
            execute()
        finally:
            whole = time.perf_counter() - begin
            package = name.partition(".")[0]
            self.imports[package] = self.imports.get(package, 0.0) + whole - self._importing.inner
            self._importing.inner = within + whole

    def compiled(self, event: str, seconds: float, **_: Any) -> None:
        """JAX traced, lowered or compiled something."""
        if event in COMPILING:
            self.compiling.setdefault(COMPILING[event], []).append(seconds)

    def write(self, path: str) -> None:
        """All of it as JSON."""
        beside = os.times()  # of the process that drew, which has ended
        record = {
            "wall_seconds": time.perf_counter() - BEGUN,
            "cpu_seconds": time.process_time() + beside.children_user + beside.children_system,
            "beside_cpu_seconds": beside.children_user + beside.children_system,
            "before_seconds": BEGUN_CPU,
            "stages": sorted(self.stages, key=lambda stage: stage[2]),
            "imports": self.imports,
            "compiling": {name: [len(each), sum(each)] for name, each in self.compiling.items()},
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record, file)


class Hook(importlib.abc.MetaPathFinder):
    """Times each import, and wraps the stages of a module once it is there."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._looking = threading.local()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """The module as Python finds it, with a loader that is watched."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        execute = spec.loader.exec_module

        def watched(module: ModuleType) -> None:
            self._recorder.imported(name, lambda: execute(module))
            self._wrap(name, module)

        spec.loader.exec_module = watched
        return spec

    def _wrap(self, name: str, module: ModuleType) -> None:
        if name == "jax._src.monitoring":
            module.register_event_duration_secs_listener(self._recorder.compiled)
        for dotted in STAGES.get(name, ()):
            owner, _, attribute = dotted.rpartition(".")
            holder = getattr(module, owner, None) if owner else module
            if holder is None or attribute not in vars(holder):
                raise AttributeError(f"{name} has no {dotted}; STAGES names functions that are there")
            kept = vars(holder)[attribute]
            title = f"{name.removeprefix('dscgan_jax.')}.{dotted}"
            if isinstance(kept, classmethod):
                setattr(holder, attribute, classmethod(self._recorder.wrapped(title, kept.__func__)))
            else:
                setattr(holder, attribute, self._recorder.wrapped(title, kept))


def main() -> None:
    """Runs the command in the arguments."""
    record, *command = sys.argv[1:]
    recorder = Recorder()
    sys.meta_path.insert(0, Hook(recorder))
    atexit.register(recorder.write, os.path.abspath(record))
    sys.argv = ["dscgan-jax", *command]
    from dscgan_jax.main import entry

    entry()


if __name__ == "__main__":
    main()
