"""Some of the spoiled files with the suite: none of them brings the program down or comes out wrong in silence."""

import numpy as np
import pytest
from harm import mutants, readers, spoil
from harm.records import Records, counted

from dscgan_jax.errors import InputError

EACH = 2  # of each kind


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return mutants.Bench(tmp_path_factory.mktemp("harms"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutants.KINDS)
def test_spoiled_files_are_refused_told_or_right(bench, kind):
    for number in range(EACH):
        harm = bench.done(kind, number)
        assert harm.outcome in mutants.PART.kept, harm


def test_the_same_number_is_the_same_harm(tmp_path):
    path = tmp_path / "file"
    contents = []
    for number in (3, 3, 4):
        path.write_bytes(bytes(range(256)) * 40)
        spoil.one_of(spoil.BYTES, path, np.random.default_rng([0, number]))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


class Bad(readers.Reader):
    """Whatever can become of a file, by what is in it."""

    def make(self, folder):
        (folder / "sub-1.txt").write_text("clean")

    def read(self, folder, output):
        text = (folder / "sub-1.txt").read_text()
        found = frozenset({("noisy", "note")} if text == "told" else ())
        if text == "refused":
            raise InputError(f"{folder / 'sub-1.txt'}: no.")
        if text == "half":
            output.mkdir()
            (output / "left").touch()
            raise InputError(f"{folder / 'sub-1.txt'}: no.")
        if text == "lines":
            raise InputError(f"{folder / 'sub-1.txt'}: no,\nno.")
        if text == "nameless":
            raise InputError("no.")
        if text == "defect":
            raise OSError("no")
        while text == "for ever":
            pass
        return readers.Read({"a": np.float32([text in ("wrong", "told")])}, None, found)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("right", "right"),
        ("told", "told"),
        ("refused", "refused in one line"),
        ("wrong", "wrong in silence"),
        ("half", "half written"),
        ("lines", "traceback"),
        ("nameless", "traceback"),
        ("defect", "traceback"),
        ("for ever", "hang"),
    ],
)
def test_each_outcome_is_recognised(tmp_path, monkeypatch, text, outcome):
    kind = mutants.Kind(Bad, lambda folder, random: str((folder / "sub-1.txt").write_text(text)))
    monkeypatch.setattr(mutants, "KINDS", {"one": kind})
    monkeypatch.setattr(mutants, "SECONDS", 0.3)
    assert mutants.Bench(tmp_path).done("one", 0).outcome == outcome


def test_the_study_goes_on_where_it_was_stopped_and_knows_what_killed_it(tmp_path, monkeypatch, capsys):
    kind = mutants.Kind(Bad, lambda folder, random: str((folder / "sub-1.txt").write_text("right")))
    monkeypatch.setattr(mutants, "KINDS", {"one": kind})
    mutants.run(tmp_path, 2)
    (tmp_path / "mutants.now").write_text('["one", 2]')
    mutants.run(tmp_path, 4)
    records = Records(tmp_path, mutants.PART)
    assert counted(records.harms) == {"one": {"right": 3, "traceback": 1}}
    assert [harm.said for harm in records.harms if harm.outcome == "traceback"] == ["the process died"]


def test_what_a_person_would_call_wrong():
    brain = np.ones((20, 10, 1), bool)
    clean = {name: np.full(brain.shape, 20.0) for name in ("tmax", "cbf")}
    some = np.zeros(brain.shape, bool)
    some[:2, :1] = True  # 1 %

    def differ(name, by, where):
        return readers.maps_differ(clean, clean | {name: clean[name] + by * where}, brain)

    assert not differ("tmax", 0.09, brain) and differ("tmax", 0.11, brain)
    assert not differ("tmax", 9.0, some) and differ("tmax", 1.1, some | np.roll(some, 5))
    assert not differ("cbf", 0.5, brain) and differ("cbf", -0.7, brain) and differ("cbf", np.nan, some)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    moved = affine.copy()
    moved[0, 3] = 4.9
    assert not readers.places_differ(affine, moved, brain.shape)
    moved[0, 3] = 5.1
    assert readers.places_differ(affine, moved, brain.shape)
    assert readers.places_differ(affine, np.full((4, 4), np.nan), brain.shape)
