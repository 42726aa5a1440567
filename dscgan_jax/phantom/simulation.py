"""A simulated exam in memory, ready for any method, beside its true maps."""

import dataclasses

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.maps import MAPS
from dscgan_jax.phantom.exam import Phantom, draw_phantom


@dataclasses.dataclass(frozen=True)
class Simulation:
    """A simulated exam.

    Attributes:
      exam: as it would be read from a file: series, frame length and echo time alone; the brain is found in it.
      truth: the true maps on the same grid, with the true mask of the brain.
      phantom: everything else that is known, the true AIF and lesion among it.
    """

    exam: Exam
    truth: ExamMaps
    phantom: Phantom


def simulate(preset: str = "acute", seed: int = 0, *, size: int = 0, slices: int | None = None) -> Simulation:
    """Simulates one exam with known truth; the same arguments give the same exam.

    Args:
      preset: `acute` (stroke) or `chronic` (steno-occlusive disease), after the paper's cohorts, `tumour` (a
        glioma whose vessels leak), `varied` (each exam with a protocol and a disease of its own), or `difficult` (acute
        exams that nobody can post-process, of the kind `seed` mod 4).
      seed: of everything that differs between subjects.
      size: rows and columns; 0 = the preset's own number.
      slices: None = the preset's own number.

    Raises:
      InputError: there is no such preset; or the exam is one that the program rejects, as many of `difficult` are.
    """
    phantom = draw_phantom(preset, seed, size=size, slices=slices)
    exam = Exam.from_arrays(
        phantom.series,
        phantom.affine,
        repetition_time=phantom.frame_seconds,
        echo_time=phantom.echo_seconds,
        subject=f"phantom-{preset}-{seed}",
    )
    units = {name: MAPS[name].unit for name in phantom.maps}
    truth = ExamMaps(exam.subject, phantom.maps, units, exam.stored, "the truth of a phantom", mask=phantom.mask)
    return Simulation(exam, truth, phantom)
