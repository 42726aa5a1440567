"""Every message on the page of troubles is provoked here, and is what the program prints; each trouble has its entry.

A scenario is a function whose name is the title of its entry: it spoils an invented exam and gives it to the program.
"""

import pathlib
import re
import shutil
import sys
import tarfile

import dicoms
import numpy as np
import pytest
import runs
from command_line import Done, program
from exams import fake_arrays, truncate, write_fake_cohort, write_fake_exam

from dscgan_jax import shipped
from dscgan_jax.data import nifti
from dscgan_jax.methods import conventional_files
from dscgan_jax.phantom.exam import Phantom, draw_phantom
from dscgan_jax.training import balance

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
OLD_RUN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "old_run.tar.xz"
LEAST_LETTERS = 25  # of a message that are no placeholder: less would fit anything


class Desk:
    """A folder with one exam in it, to be spoiled, and the program to give it to."""

    def __init__(self, phantom: Phantom, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
        self.phantom, self.folder, self.monkeypatch = phantom, folder, monkeypatch
        self.series = phantom.series.astype(np.float32)
        self.affine, self.frame_seconds = phantom.affine, phantom.frame_seconds
        self.sidecar: dict | None = {"RepetitionTime": phantom.frame_seconds, "EchoTime": phantom.echo_seconds}
        self.path, self.out = folder / "exam.nii.gz", folder / "maps"
        self.bottom = int(phantom.series[phantom.mask].mean(axis=0).argmin())  # frame in which the bolus is strongest

    def write(self) -> pathlib.Path:
        changes = {"frame_seconds": self.frame_seconds, "sidecar": self.sidecar}
        nifti.write_volume(self.path, self.series, self.affine, dtype=np.int16, **changes)
        return self.path

    def deconvolved(self, *more) -> Done:
        return program("deconvolve", self.write(), self.out, *more)

    def checked(self) -> Done:
        """The one exam in a folder of exams."""
        path = self.write()
        perf = self.folder / "root" / "sub-0001" / "perf"
        perf.mkdir(parents=True)
        for file in (path, nifti.sidecar_path(path)):
            if file.is_file():
                shutil.move(file, perf / file.name.replace("exam", "sub-0001_dsc"))
        return program("check", self.folder / "root")

    def cohort(self, **changes) -> pathlib.Path:
        """Three exams with maps."""
        return write_fake_cohort(self.folder / "root", 3, **changes)

    def rows(self, *rows: str) -> Done:
        """The three exams with this participants.tsv."""
        root = self.cohort(maps=())
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
        return program("check", root)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A still head with a stroke, 68 frames of 2.22 s."""
    return draw_phantom("acute", (77, 6), size=64, slices=6)


@pytest.fixture
def desk(phantom, tmp_path, monkeypatch) -> Desk:
    return Desk(phantom, tmp_path, monkeypatch)


# ----------------------------------------------------------------------------------------------- the file of the series


def not_a_nifti_file(desk):
    path = desk.folder / "exam.nrrd"
    path.write_bytes(b"NRRD0004")
    return program("deconvolve", path, desk.out)


def a_single_dicom_file(desk):
    path = desk.folder / "IM000001.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM")
    return program("deconvolve", path, desk.out)


def _dicom(desk, frames, **changes):
    """A folder of DICOM files of an exam."""
    folder = desk.folder / "Prüfung 3"
    dicoms.write_series(folder, dicoms.Series(fake_arrays()[0][..., :frames]), **changes)
    return folder


def dicom_without_the_extra(desk):
    folder = _dicom(desk, 1)
    desk.monkeypatch.setitem(sys.modules, "dcm2niix", None)
    return program("deconvolve", folder, desk.out)


def two_exams_in_one_dicom_folder(desk):
    folder = _dicom(desk, 1)
    other = dicoms.Series(fake_arrays()[0][..., :1], patient="PAT-1", study="1.2.826.0.1.3680043.8.498.2")
    dicoms.write_series(folder, other)
    return program("deconvolve", folder, desk.out)


def slices_missing_in_a_dicom_folder(desk):
    return program("deconvolve", _dicom(desk, 12, left_out=((1, 5),)), desk.out)


def dicom_without_perfusion(desk):
    return program("deconvolve", _dicom(desk, 3), desk.out)


def one_volume_instead_of_a_series(desk):
    desk.series = desk.series[..., 0]
    desk.frame_seconds = None
    return desk.deconvolved()


def time_is_not_the_last_axis(desk):
    desk.series = np.moveaxis(desk.series, 3, 2)
    return desk.deconvolved()


def too_few_frames(desk):
    desk.series = desk.series[..., :9]
    return desk.deconvolved()


def damaged_file(desk):
    truncate(desk.write())
    return program("deconvolve", desk.path, desk.out)


def name_that_cannot_be_shown(desk):
    path = desk.write()
    return program("deconvolve", path.rename(path.with_name("ex\nam.nii.gz")), desk.out)


def field_twice_in_a_sidecar(desk):
    sidecar = nifti.sidecar_path(desk.write())
    sidecar.write_text('{"RepetitionTime": 2.22, "EchoTime": 0.03, "EchoTime": 0.04}')
    return program("deconvolve", desk.path, desk.out)


def data_not_fetched(desk):
    desk.path.symlink_to("../.git/annex/objects/exam.nii.gz")
    return program("deconvolve", desk.path, desk.out)


# ------------------------------------------------------------------------------------------------- frames and echo time


def no_repetition_time(desk):
    desk.sidecar, desk.frame_seconds = {"EchoTime": 0.03}, None
    return desk.deconvolved()


def two_repetition_times(desk):
    desk.sidecar["RepetitionTime"] = 0.065
    return desk.deconvolved()


def repetition_time_that_does_not_fit_the_bolus(desk):
    desk.sidecar["RepetitionTime"], desk.frame_seconds = 0.5, None
    return desk.deconvolved()


def repetition_time_in_milliseconds(desk):
    desk.sidecar["RepetitionTime"], desk.frame_seconds = 2220, None
    return desk.checked()


def several_echo_times(desk):
    desk.sidecar["EchoTime"] = [0.012, 0.036]
    return desk.deconvolved()


def no_echo_time(desk):
    del desk.sidecar["EchoTime"]
    desk.monkeypatch.setattr(conventional_files.exam_page, "write", lambda *_: [])  # pictures take longer than all else
    return desk.deconvolved("--method=csvd", "--motion=none")


# -------------------------------------------------------------------------------------------------- what the exam shows


def no_bolus(desk):
    desk.series = desk.series[..., 5:6] + np.zeros(68, np.float32)
    return desk.deconvolved()


def exam_that_ends_too_early(desk):
    desk.series = desk.series[..., : desk.bottom + 3]
    return desk.deconvolved()


def more_than_one_injection(desk):
    desk.series = np.concatenate([desk.series[..., :32], desk.series[..., 2:]], axis=-1)
    return desk.deconvolved()


def frames_in_the_wrong_order(desk):
    desk.series = desk.series[..., sorted(range(68), key=str)]  # 0, 1, 10, 11, ...: by their names
    return desk.deconvolved()


def several_echoes_in_one_series(desk):
    level = desk.series[..., 2:6].mean(axis=-1, keepdims=True)
    later = 0.6 * level * (desk.series / np.maximum(level, 1)) ** 2
    desk.series = np.stack([desk.series, later], axis=-1).reshape(*desk.series.shape[:3], -1)
    return desk.deconvolved()


def normalised_signal(desk):
    desk.series = desk.series - desk.series[..., :1]
    return desk.deconvolved()


def missing_values(desk):
    desk.series[:, :, 3, desk.bottom] = 0
    return desk.checked()


def step_of_the_gain(desk):
    desk.series[..., 45:] *= 1.3
    return desk.checked()


# --------------------------------------------------------------------------------------------------------- masks, AIF


def mask_on_another_grid(desk):
    mask = np.ones((32, 32, 6), np.uint8)
    nifti.write_volume(desk.folder / "mask.nii.gz", mask, desk.affine, dtype=np.uint8)
    return desk.deconvolved(f"--mask={desk.folder / 'mask.nii.gz'}")


def mask_with_another_affine(desk):
    moved = desk.affine.copy()
    moved[:3, 3] += 20
    nifti.write_volume(desk.folder / "mask.nii.gz", desk.phantom.mask, moved, dtype=np.uint8)
    return desk.deconvolved(f"--mask={desk.folder / 'mask.nii.gz'}")


def mask_without_a_part_of_the_brain(desk):
    mask = desk.phantom.mask.copy()
    mask[:32] = False
    nifti.write_volume(desk.folder / "mask.nii.gz", mask, desk.affine, dtype=np.uint8)
    desk.monkeypatch.setattr(conventional_files.exam_page, "write", lambda *_: [])  # pictures take longer than all else
    return desk.deconvolved(f"--mask={desk.folder / 'mask.nii.gz'}", "--method=csvd", "--scale=none", "--motion=none")


def no_plausible_aif(desk):
    series = write_fake_exam(desk.folder, maps=()) / "sub-0001_dsc.nii.gz"
    mask = series.with_name("sub-0001_mask.nii.gz")
    return program("deconvolve", series, desk.out, f"--mask={mask}")


def _with_aif(desk, seconds, concentration):
    rows = "".join(f"{s:.3f}\t{c:.6f}\n" for s, c in zip(seconds, concentration, strict=True))
    (desk.folder / "aif.tsv").write_text("time_seconds\tconcentration_mM\n" + rows)
    return desk.deconvolved(f"--aif={desk.folder / 'aif.tsv'}", "--motion=none")


def aif_at_other_times(desk):
    return _with_aif(desk, 1000 * desk.phantom.arterial_seconds, desk.phantom.arterial_mm)


def aif_in_another_unit(desk):
    return _with_aif(desk, desk.phantom.arterial_seconds, 1000 * desk.phantom.arterial_mm)


# --------------------------------------------------------------------------------------------------- folders of exams


def no_exams_in_the_folder(desk):
    (desk.folder / "root" / "patient-1").mkdir(parents=True)
    return program("check", desk.folder / "root")


def table_without_participant_id(desk):
    return desk.rows("subject\tsplit", "sub-0001\ttrain")


def subject_in_two_rows(desk):
    return desk.rows("participant_id\tsplit", "sub-0001\ttrain", "sub-0001\ttest")


def split_for_some_subjects_only(desk):
    return desk.rows("participant_id\tsplit", "sub-0001\ttrain", "sub-0002\ttest", "sub-0003\tn/a")


def table_without_rows(desk):
    return desk.rows("participant_id\tsplit")


def splits_in_another_column(desk):
    return desk.rows("participant_id\tspilt", "sub-0001\ttrain", "sub-0002\ttest", "sub-0003\ttest")


def unknown_split(desk):
    return desk.rows("participant_id\tsplit", "sub-0001\tvalid", "sub-0002\ttrain", "sub-0003\ttest")


def subject_without_a_folder(desk):
    return desk.rows("participant_id", "sub-0001", "sub-0002", "sub-0003", "sub-0004")


def missing_map(desk):
    root = desk.cohort(maps=("cbf",))
    return program("prepare", root, f"--config.data.cache_dir={desk.folder / 'cache'}")


def map_with_a_hole(desk):
    path = write_fake_exam(desk.folder / "root") / "sub-0001_tmax.nii.gz"
    tmax = nifti.read_volume(path, 3)
    tmax.data[:, :10, 1] = 0
    nifti.write_volume(path, tmax.data, tmax.affine)
    return program("check", desk.folder / "root")


def map_in_another_unit(desk):
    path = write_fake_exam(desk.folder / "root") / "sub-0001_tmax.nii.gz"
    tmax = nifti.read_volume(path, 3)
    nifti.write_volume(path, 1000 * tmax.data, tmax.affine)
    return program("check", desk.folder / "root")


# ----------------------------------------------------------------------------------------------------------- networks


def folder_that_is_no_run(desk):
    return program("predict", desk.write(), desk.out, f"--workdir={desk.folder}")


def _run(desk) -> pathlib.Path:
    """A tiny run, trained by an older version."""
    with tarfile.open(OLD_RUN) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # from 3.11.4 on
        archive.extractall(desk.folder / "old")
    return desk.folder / "old" / "run"


def damaged_checkpoint(desk):
    run = _run(desk)
    shutil.rmtree(run / "checkpoints" / "6" / "generator")
    return program("predict", desk.write(), desk.out, f"--workdir={run}")


def damaged_prepared_data(desk):
    arguments = ("prepare", desk.cohort(), f"--config.data.cache_dir={desk.folder / 'cache'}", "--config.data.size=16")
    program(*arguments, check=True)
    description = next((desk.folder / "cache").rglob("metadata.json"))
    description.write_text(description.read_text().replace("1", "2", 1))
    return program(*arguments)


def run_with_another_config(desk):
    cache = f"--config.data.cache_dir={desk.folder / 'cache'}"
    return program("train", "--config=configs/temp_tmax.py:demo", f"--workdir={_run(desk)}", cache)


def damaged_weights(desk):
    weights = desk.folder / "mine.safetensors"
    shutil.copy(shipped.weights_file("physics"), weights)
    truncate(weights)
    return program("predict", desk.write(), desk.out, f"--model={weights}")


def exam_unlike_the_training_exams(desk):
    desk.frame_seconds = desk.sidecar["RepetitionTime"] = 7.0
    return program("predict", desk.write(), desk.out)


def gpu_asked_for_but_not_found(desk):
    desk.monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    return desk.deconvolved()


def batch_that_does_not_fit_into_memory(desk):
    return program("train", "--config.train.batch_size=2000000000", f"--workdir={desk.folder / 'run'}")


# --------------------------------------------------------------------------------------------------- the command line


def misspelt_field(desk):
    return program("train", "--config.train.batchsize=8")


def option_that_the_mode_does_not_read(desk):
    return program("predict", "exam.nii.gz", "maps", "--method=osvd")


def unknown_config(desk):
    return program("train", "--config=configs/tmax.py")


def decimal_comma(desk):
    return program("deconvolve", "exam.nii.gz", "maps", "--tr=1,5")


def unknown_name_to_accept(desk):
    return program("check", desk.cohort(maps=()), "--accept=motion")


def _trained(desk, *more):
    """A tiny run on three exams, of a few steps."""
    root = write_fake_cohort(desk.folder / "root", 3)
    places = (f"--workdir={desk.folder / 'run'}", f"--config.data.cache_dir={desk.folder / 'cache'}")
    fields = {**runs.QUICK, "train.steps": 3, "train.batch_size": 4, "data.root": root}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    return program("train", "--config=configs/temp_tmax.py:demo", *given, *places, *more)


def loss_that_is_not_finite(desk):
    return _trained(desk, "--config.train.learning_rate=1e30")


def discriminator_that_teaches_nothing(desk):
    desk.monkeypatch.setattr(balance, "LONG", 2)
    desk.monkeypatch.setattr(balance, "NEVER", 0.2)
    return _trained(desk, "--config.train.discriminator_learning_rate=1e-30")


def maps_at_the_ends_of_their_range(desk):
    return _trained(desk, "--config.train.learning_rate=3.0")


def disk_full(desk):
    return program("phantom", desk.out, "--subjects=3", "--size=32", "--slices=2", file_limit=20)


def folder_that_is_gone_or_read_only(desk):
    desk.monkeypatch.setattr(conventional_files.exam_page, "write", _removed)
    return program("deconvolve", desk.write(), desk.out, "--method=csvd", "--scale=none", "--motion=none")


def _removed(place, *_):
    """Somebody takes the output away just before the page is written."""
    shutil.rmtree(place.parent)
    (place / "exam.html").write_text("")


def output_that_is_a_file(desk):
    desk.out.write_text("not a folder")
    return desk.deconvolved()


# ------------------------------------------------------------------------------------------------------------ the page

SCENARIOS = {
    name: scenario
    for name, scenario in dict(globals()).items()
    if not name.startswith("_") and getattr(getattr(scenario, "__code__", None), "co_varnames", ())[:1] == ("desk",)
}


def entries() -> dict[str, str]:
    """{title of an entry: the message that it shows}."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^### ([^\n]*)\n\n```text\n(.*?)```\n\n[^#\s]", text, re.DOTALL | re.MULTILINE))


def name_of(title: str) -> str:
    return re.sub(r"\W+", "_", title.lower())


def pattern_of(message: str) -> re.Pattern:
    """What fits a printed line, of which `…` may be anything; the page breaks long lines."""
    words = " ".join(message.split())
    return re.compile(".+?".join(map(re.escape, words.split("…"))))


def test_every_scenario_has_one_entry_and_every_entry_a_scenario():
    titles = re.findall(r"^### (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(titles) == len(set(titles)) and set(entries()) == set(titles), "an entry is title, message, words"
    assert {name_of(title) for title in titles} == set(SCENARIOS)


@pytest.mark.slow
@pytest.mark.parametrize("title", entries())
def test_the_program_prints_what_the_page_shows(desk, title):
    message = entries()[title]
    assert len(re.sub(r"\W", "", message)) >= LEAST_LETTERS
    done = SCENARIOS[name_of(title)](desk)
    printed = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
    assert any(pattern_of(message).fullmatch(line) for line in printed), "\n".join(printed)
    assert done.returncode == message.startswith("error:")
    if done.returncode:
        assert not desk.out.is_dir(), "nothing is half-written"
        assert printed[-1].startswith("error:") and len([line for line in printed if line.startswith("error:")]) == 1


def test_a_message_that_the_program_does_not_print_would_fail():
    shown = pattern_of("error: …: the series is zero everywhere; export it\n  again.")
    assert shown.fullmatch("error: a/b.nii: the series is zero everywhere; export it again.")
    assert not shown.fullmatch("error: a/b.nii: the series is zero; export it again.")
    assert not shown.fullmatch("error: a/b.nii: the series is zero everywhere; export it again. More.")
