"""What `--input` may be, on the command line."""

import dicoms
import pytest
from command_line import program, read
from exams import fake_arrays, write_fake_exam

from dscgan_jax.app import options

ARRAY = fake_arrays(frames=12)[0]


def test_a_folder_of_exams_is_the_root_and_takes_its_options(tmp_path):
    write_fake_exam(tmp_path / "exams")
    for command in (["deconvolve", tmp_path / "exams", tmp_path / "out"], ["deconvolve", f"--input={tmp_path}/exams"]):
        given, config = read(*command, "--config.data.layout=isles2017")
        assert given.reader == options.FOLDER and config.data.root == str(tmp_path / "exams")


def test_a_dicom_folder_is_one_exam(tmp_path):
    dicoms.write_series(tmp_path / "exam", dicoms.Series(ARRAY))
    given, config = read("deconvolve", tmp_path / "exam", tmp_path / "out", "--series=7", "--mask=m.nii")
    assert given.reader == options.ONE_FILE and not config.data.root


@pytest.mark.parametrize("mode", ["deconvolve", "predict"])
def test_two_exams_in_one_dicom_folder_end_in_one_line_and_leave_nothing(tmp_path, mode):
    folder = tmp_path / "Prüfung & zweite"
    dicoms.write_series(folder, dicoms.Series(ARRAY))
    dicoms.write_series(folder, dicoms.Series(ARRAY, patient="PAT-2", study=dicoms.Series.study[:-1] + "2"))
    done = program(mode, folder, tmp_path / "out")
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "out").exists()
    assert done.stderr.startswith(f"error: {folder}: expected the DICOM files of one exam, these are of 2 patients")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["predict", "EXAMS", "OUT", "--series=7"], "--series is given, which --mode=predict --config.data.root"),
        (["deconvolve", "EXAMS", "OUT", "--series=7"], "--series is given, which --mode=deconvolve --config.data.root"),
        (["deconvolve", "--input=EXAMS", "--config.data.root=EXAMS", "--output=OUT"], "say the same; give one of them"),
        (
            ["check", "EXAMS", "--config.data.layout=isles2018", "--config.data.modality=ct"],
            "config.data.layout is one of isles2018, isles2024, which are CT; leave it out",
        ),
    ],
)
def test_what_is_not_read_or_said_twice_is_refused(tmp_path, arguments, reason):
    write_fake_exam(tmp_path / "exams")
    places = {"EXAMS": str(tmp_path / "exams"), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    done = program(*arguments)
    assert done.returncode == 1 and reason in done.stderr and not (tmp_path / "out").exists()
