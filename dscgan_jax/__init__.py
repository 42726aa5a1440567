"""Perfusion maps (CBF, CBV, MTT, Tmax, TTP) from DSC-MRI series with conditional GANs. Research use only.

In Python, with everything imported when it is first used:

>>> import dscgan_jax as dj
>>> phantom = dj.simulate("acute", seed=0, size=96, slices=4)  # or dj.load_exam("sub-1_dsc.nii.gz")
>>> maps = dj.deconvolve(phantom.exam)  # or dj.Predictor.from_run("runs/mine").predict(phantom.exam)
>>> maps["tmax"].shape, maps.unit("tmax")
((96, 96, 4), 's')
>>> dj.evaluate(maps, phantom.truth)["tmax"]["pearson_r"] > 0.9
True

`maps.save("out/")` writes NIfTI files with their sidecars, on the axes of the series' file.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dscgan_jax.data.derivatives import ExamMaps
    from dscgan_jax.data.exams import Exam, load_exam
    from dscgan_jax.data.layouts import find_subjects
    from dscgan_jax.errors import InputError
    from dscgan_jax.evaluation.readout import read_out
    from dscgan_jax.evaluation.score import agreement as evaluate
    from dscgan_jax.findings import Finding
    from dscgan_jax.maps import MAPS
    from dscgan_jax.methods.conventional import deconvolve
    from dscgan_jax.methods.network import Predictor
    from dscgan_jax.phantom.simulation import simulate

__version__ = "0.1.0"
__all__ = [
    "MAPS",
    "Exam",
    "ExamMaps",
    "Finding",
    "InputError",
    "Predictor",
    "deconvolve",
    "evaluate",
    "find_subjects",
    "load_exam",
    "read_out",
    "simulate",
]

# Where each public name is: module, and its name there.
_PLACES = {
    "MAPS": ("maps", "MAPS"),
    "Exam": ("data.exams", "Exam"),
    "ExamMaps": ("data.derivatives", "ExamMaps"),
    "Finding": ("findings", "Finding"),
    "InputError": ("errors", "InputError"),
    "Predictor": ("methods.network", "Predictor"),
    "deconvolve": ("methods.conventional", "deconvolve"),
    "evaluate": ("evaluation.score", "agreement"),
    "find_subjects": ("data.layouts", "find_subjects"),
    "load_exam": ("data.exams", "load_exam"),
    "read_out": ("evaluation.readout", "read_out"),
    "simulate": ("phantom.simulation", "simulate"),
}


def __getattr__(name: str) -> Any:
    """The public names, each imported when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*globals(), *__all__})
