"""Work for processes that tests start: they import it from here."""

import dataclasses
import os
import signal
import sys
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Chores:
    """What a task says: a number is squared, a word is done."""

    def begin(self):
        """Once in each process."""
        return do


def do(task):
    """The square of a number with the cores it was found on, or the end of this process."""
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fails":
        sys.exit("the last word")
    if task == "sleeps":
        time.sleep(60)
    return task**2, sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"], os.getpid()


MIDDLES = {"cbf": 30.0, "cbv": 3.0, "mtt": 6.0, "tmax": 5.0, "ttp": 30.0}


@dataclasses.dataclass(frozen=True)
class Maps:
    """Maps of a cohort without any computing: about `MIDDLES` in the brain.

    Attributes:
      version: of the method.
      mode: as which the cohort is made.
    """

    version: int = 1
    mode: str = "deconvolve"

    def made_of(self):
        """As `methods.cohort.Work` wants it, and so on."""
        return {"mode": self.mode, "maps": self.version}

    def about(self):
        """The method."""
        return {"method": "plain"}

    def maker(self):
        """What makes them."""
        return made


def made(exam, files):
    """Plain maps and a page without pictures; kills its process where the exam comes with a file `killed`."""
    from dscgan_jax.data.derivatives import ExamMaps
    from dscgan_jax.evaluation.readout import read_out
    from dscgan_jax.maps import MAPS
    from dscgan_jax.methods.exam_files import Result, write_mask

    if (files.series.parent / "killed").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    ramp = np.linspace(0.9, 1.1, exam.mask.shape[0], dtype=np.float32)[:, None, None]
    volumes = {name: exam.mask * ramp * np.float32(middle) for name, middle in MIDDLES.items()}
    units = {name: spec.unit for name, spec in MAPS.items()}
    maps = ExamMaps(exam.subject, volumes, units, exam.stored, findings=exam.findings, mask=exam.mask)

    def write(folder):
        maps.save(folder)
        write_mask(folder, maps)
        (folder / f"{exam.subject}_page.html").write_text("a page")
        return f"{exam.subject}_page.html"

    return Result(maps, read_out(maps), write, aif_quality=0.5)
