"""What comes with a file is data: it is not executed, names no place outside the output, is no markup of a page.

Texts of headers, which may name a patient, are copied nowhere.
"""

import ast
import collections
import html.parser
import json
import pathlib
import shutil
import tarfile

import dicoms
import exams as invented
import nibabel
import numpy as np
import pytest
from command_line import program

from dscgan_jax.data import exams, layouts, nifti, subject_files
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.errors import InputError
from dscgan_jax.phantom.exam import Phantom, draw_phantom

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "dscgan_jax"
OLD_RUN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "old_run.tar.xz"
CANARY = "CANARY^PATIENT"
QUICK = ("--method=csvd", "--motion=none", "--scale=none")
MARKUP = "<img src=x onerror=alert(1)>"
FIELDS = (
    *("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "InstitutionAddress", "StationName"),
    *(
        "DeviceSerialNumber",
        "SeriesDescription",
        "ProtocolName",
        "StudyDescription",
        "ImageComments",
        "AccessionNumber",
    ),
)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return draw_phantom("acute", (77, 5), size=32, slices=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A tiny run, trained by an older version."""
    folder = tmp_path_factory.mktemp("run")
    with tarfile.open(OLD_RUN) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # from 3.11.4 on
        archive.extractall(folder)
    return folder / "run"


def write_exam(path: pathlib.Path, phantom: Phantom, text: str = "", maps: bool = False) -> pathlib.Path:
    """A series with `text` in each field of header and sidecar that holds some."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {"RepetitionTime": phantom.frame_seconds, "EchoTime": phantom.echo_seconds}
    sidecar |= dict.fromkeys(FIELDS, text) | {"Sequence": {"Name": [text]}} if text else {}
    volumes = {path: phantom.series.astype(np.int16)}
    if maps:
        stem = path.name.removesuffix("_dsc.nii.gz")
        volumes |= {path.with_name(f"{stem}_{name}.nii.gz"): volume for name, volume in phantom.maps.items()}
    for file, data in volumes.items():
        header = nibabel.Nifti1Header()
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            header[field] = text.encode()
        image = nibabel.Nifti1Image(data, phantom.affine, header)
        if data.ndim == 4:
            image.header.set_xyzt_units("mm", "sec")
            image.header["pixdim"][4] = phantom.frame_seconds
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text.encode()))
        nibabel.save(image, file)
    nifti.sidecar_path(path).write_text(json.dumps(sidecar))
    if text:
        name_twice(nifti.sidecar_path(path), "PatientName", f"{text}^SECOND")
    return path


def name_twice(sidecar: pathlib.Path, field: str, text: str) -> None:
    """Adds a field to a JSON file that has it already, with another value."""
    sidecar.write_text(f"{sidecar.read_text().rstrip()[:-1]}, {json.dumps(field)}: {json.dumps(text)}}}")


def write_folder(root: pathlib.Path, phantom: Phantom, text: str) -> pathlib.Path:
    """Three exams with maps, and a table that says more than it should."""
    for number in (1, 2, 3):
        write_exam(root / f"sub-{number}" / "perf" / f"sub-{number}_dsc.nii.gz", phantom, text, maps=True)
    rows = [f"sub-{n}\t{split}\t{text}\n" for n, split in ((1, "train"), (2, "validation"), (3, "test"))]
    (root / "participants.tsv").write_text("participant_id\tsplit\tname\n" + "".join(rows))
    (root / "dataset_description.json").write_text(json.dumps({"Name": text, "Authors": [text]}))
    return root


def traces(folder: pathlib.Path, texts: tuple[str, ...]) -> list[str]:
    """Files below a folder that hold one of the texts, packed ones looked into."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        if path.name.endswith(".nii.gz"):
            content += nibabel.load(path).header.binaryblock
        if any(text.encode(coding) in content for text in texts for coding in ("utf-8", "latin-1")):
            found.append(path.name)
    return found


@pytest.mark.slow
def test_no_text_of_a_header_comes_into_outputs_or_messages(phantom, run, tmp_path):
    root, out = write_folder(tmp_path / "root", phantom, CANARY), tmp_path / "out"
    series = root / "sub-1" / "perf" / "sub-1_dsc.nii.gz"
    cache = f"--config.data.cache_dir={out / 'cache'}"
    truncated = write_exam(tmp_path / "cut_dsc.nii.gz", phantom, CANARY)
    invented.truncate(truncated)
    twice = write_exam(tmp_path / "twice" / "sub-1" / "perf" / "sub-1_dsc.nii.gz", phantom, CANARY)
    name_twice(nifti.sidecar_path(twice), "EchoTime", CANARY)
    shutil.copytree(root / "sub-2", twice.parents[2] / "sub-2")
    said = [
        program("deconvolve", series, out / "one", *QUICK, "--debug", check=True),
        program("deconvolve", root, out / "cohort", *QUICK, "--workers=1", check=True),
        program("check", root, out / "check", check=True),
        program("prepare", root, cache, "--config.data.size=16", check=True),
        program("predict", series, out / "predicted", f"--model={run}", "--beside=csvd", check=True),
        program("evaluate", f"--maps={out / 'one'}", f"--config.data.root={root}", cache, "--split=train"),
        program("deconvolve", truncated, out / "none", *QUICK),
        program("deconvolve", twice.parents[2], out / "doubled", *QUICK, "--workers=1"),
    ]
    assert [done.returncode for done in said] == [0] * 6 + [1, 1], said[-3].stderr
    assert "EchoTime is there twice" in (out / "doubled" / "summary.csv").read_text()
    assert not traces(out, (CANARY,)) and len(list(out.rglob("*.html"))) >= 6
    assert not any(CANARY in done.stdout + done.stderr for done in said)
    assert traces(root, (CANARY,)), "it was there to be found"


@pytest.mark.slow
def test_no_text_of_a_dicom_header_comes_into_outputs_or_messages(phantom, tmp_path):
    pytest.importorskip("dcm2niix")
    array = phantom.series.transpose(0, 1, 2, 3)
    size = tuple(float(edge) for edge in np.linalg.norm(phantom.affine[:3, :3], axis=0))
    changes = {"frame_seconds": phantom.frame_seconds, "voxel_mm": size, "tilt_degrees": 0.0}
    dicoms.write_series(tmp_path / "exam", dicoms.Series(array, **changes))
    done = program("deconvolve", tmp_path / "exam", tmp_path / "out", *QUICK, check=True)
    assert not traces(tmp_path / "out", dicoms.SECRETS)
    assert not any(secret in done.stdout + done.stderr for secret in dicoms.SECRETS)
    for path in list((tmp_path / "exam").iterdir())[::2]:
        path.write_bytes(path.read_bytes()[:700])
    refused = program("deconvolve", tmp_path / "exam", tmp_path / "none", *QUICK)
    assert refused.returncode == 1 and not any(secret in refused.stderr for secret in dicoms.SECRETS)


class Elements(html.parser.HTMLParser):
    """Counts what a browser would make of a page: elements, and attributes that run a script."""

    def __init__(self):
        super().__init__()
        self.tags, self.handlers = collections.Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


@pytest.mark.slow
@pytest.mark.parametrize("name", [MARKUP, "x'\"><script>alert(1)<", "{{7*7}}${7}", r"$\frac$_^{", "--help", "%s%n"])
def test_names_of_files_are_shown_as_they_are(phantom, tmp_path, name):
    pages = {}
    for subject in (name, "plain"):
        series = write_exam(tmp_path / "in" / f"{subject}_dsc.nii.gz", phantom)
        program("deconvolve", series, tmp_path / subject, *QUICK, check=True)
        pages[subject] = elements((tmp_path / subject / f"{subject}.html").read_text(encoding="utf-8"))
    assert pages[name].tags == pages["plain"].tags and not pages[name].handlers


@pytest.mark.slow
def test_names_from_folders_and_tables_are_no_markup_of_any_page(phantom, run, tmp_path):
    """Also that of a row without a folder, which may hold what no file can be called."""
    root, script = tmp_path / "root", "<script>alert(1)</script>"
    subject = f"sub-{MARKUP}"
    write_exam(root / subject / "perf" / f"{subject}_dsc.nii.gz", phantom, maps=True)
    write_exam(root / "sub-2" / "perf" / "sub-2_dsc.nii.gz", phantom, maps=True)
    (root / "participants.tsv").write_text(f"participant_id\tsplit\n{subject}\ttest\nsub-2\ttest\n{script}\ttest\n")
    out = tmp_path / "out"
    program("check", root, out / "check", check=False)
    program("deconvolve", root, out / "cohort", *QUICK, "--workers=1")
    (root / "participants.tsv").write_text(f"participant_id\tsplit\n{subject}\ttest\nsub-2\ttest\n")
    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    how = (f"--config.data.root={root}", cache, "--config.evaluate.baselines=()")
    program("evaluate", f"--maps={root / subject / 'perf'}", *how)
    program("evaluate", f"--workdir={run}", *how)
    pages = [*out.rglob("*.html"), *run.rglob("*.html")]
    assert {"check.html", "cohort.html", f"{subject}.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = elements(text)
        assert not found.handlers and "alert(1)" not in "".join(_scripts(text)), page
        assert script not in text, page


def _scripts(text: str) -> list[str]:
    """The contents of scripts that run: data of viewers are none."""
    return [part.partition("</script>")[0] for part in text.split("<script>")[1:]]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\tb", "b\u202egnp.x", "\udcff"])
def test_names_that_cannot_be_shown_are_refused_in_one_line(phantom, tmp_path, name):
    series = write_exam(tmp_path / "plain_dsc.nii.gz", phantom)
    odd = series.rename(series.with_name(f"{name}_dsc.nii.gz"))
    done = program("deconvolve", odd, tmp_path / "out", *QUICK)
    assert done.returncode == 1 and "rename its file or folder" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.strip().isprintable() and not (tmp_path / "out").exists()
    if "\n" not in name and "\udcff" not in name:
        (tmp_path / "root" / "sub-1" / "perf").mkdir(parents=True)
        (tmp_path / "root" / "sub-1" / "perf" / "sub-1_dsc.nii.gz").touch()
        (tmp_path / "root" / "participants.tsv").write_text(f"participant_id\nsub-1\nsub-{name}\n")
        if "\t" not in name:
            with pytest.raises(InputError, match="has no folder") as refused:
                layouts.find_subjects(tmp_path / "root")
            assert str(refused.value).isprintable()


@pytest.mark.parametrize("subject", ["../x", "/tmp/x", "a/../../x", "..", ".", "", "a/b"])
def test_no_identifier_leads_out_of_the_output(phantom, tmp_path, subject):
    with pytest.raises(InputError, match="cannot be that of an exam"):
        exams.Exam.from_arrays(phantom.series, phantom.affine, repetition_time=2.0, subject=subject)
    with pytest.raises(InputError, match="cannot be that of an exam"):
        subject_files.SubjectFiles(subject, tmp_path / "x_dsc.nii.gz")
    if subject not in ("", "."):
        volumes = {"tmax": np.zeros(phantom.mask.shape, np.float32)}
        grid = exams.StoredGrid.of(phantom.mask, phantom.affine)
        maps = ExamMaps("x", volumes, {"tmax": "s"}, grid)
        (tmp_path / "in").mkdir()
        if subject != "..":
            with pytest.raises(InputError, match="another folder"):
                maps.save(tmp_path / "in" / "out", subject)
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("word", ["../x", "/x", "a b", "<b>", "a-b", "ä"])
def test_desc_is_a_word(tmp_path, word):
    done = program("deconvolve", tmp_path / "x.nii.gz", tmp_path / "out", f"--desc={word}")
    assert done.returncode == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_links_in_the_output_are_replaced_and_never_followed(phantom, tmp_path):
    series = write_exam(tmp_path / "sub-1_dsc.nii.gz", phantom)
    out, target = tmp_path / "out", tmp_path / "target"
    program("deconvolve", series, out, *QUICK, check=True)
    target.write_text("somebody's")
    for name in ("sub-1_tmax.nii.gz", "sub-1_tmax.json", "sub-1.html", "sub-1_readout.csv", "sub-1_aif.tsv"):
        (out / name).unlink()
        (out / name).symlink_to(target)
    program("deconvolve", series, out, *QUICK, check=True)
    assert target.read_text() == "somebody's" and not [path for path in out.iterdir() if path.is_symlink()]


@pytest.mark.slow
def test_a_link_in_the_output_of_a_cohort_that_leads_out_of_it_costs_that_exam(phantom, tmp_path):
    root, out, elsewhere = tmp_path / "root", tmp_path / "out", tmp_path / "elsewhere"
    for number in (1, 2):
        write_exam(root / f"sub-{number}" / "perf" / f"sub-{number}_dsc.nii.gz", phantom)
    program("deconvolve", root, out, *QUICK, "--workers=1", check=True)
    shutil.rmtree(out / "sub-2")
    elsewhere.mkdir()
    (out / "sub-2").symlink_to(elsewhere)
    done = program("deconvolve", root, out, *QUICK, "--workers=1")
    assert done.returncode == 1 and "leads to" in done.stdout + done.stderr and not list(elsewhere.iterdir())


# -------------------------------------------------------------------------------------------------- what would execute

RUNNERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "torch"}
ONE_PLACE = "models/pytorch_files.py"  # whose Unpickler names nothing but data


def test_the_package_has_no_way_to_execute_what_it_reads():
    """Of itself: pickles, evaluated texts and arrays of objects are read nowhere, but by the one Unpickler."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("configs/"):
            continue  # code, and the docs say so
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNERS:
                found.append(f"{name}: {node.func.id}")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None) or ""
                names = {module.partition(".")[0], *(alias.name.partition(".")[0] for alias in node.names)}
                found += [f"{name}: {one}" for one in sorted(names & LOADERS) if name != ONE_PLACE]
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell") and not _is_false(node.value):
                found.append(f"{name}: {node.arg}")
            if isinstance(node, ast.Attribute) and node.attr in ("system", "popen", "extractall"):
                found.append(f"{name}: {node.attr}")
    assert not found
    text = (PACKAGE / ONE_PLACE).read_text(encoding="utf-8")
    assert "pickle.load" not in text and text.count("pickle.Unpickler") == 1


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_the_docs_say_that_a_config_file_is_code():
    text = " ".join((PACKAGE.parent / "docs" / "start.md").read_text(encoding="utf-8").split())
    assert "A config file is Python code" in text and "of somebody whom you trust" in text
