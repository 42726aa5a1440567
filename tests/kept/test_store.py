"""What is kept between starts: the same comes back, and nothing else does."""

import os

import jax
import pytest

from dscgan_jax.kept import store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where things are kept, for the time of a test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    yield tmp_path / "compiled" / store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def test_what_was_kept_comes_back_for_what_it_was_made_of(folder):
    store.write("program", {"width": 16}, b"content")
    assert store.read("program", {"width": 16}) == b"content"
    assert store.read("program", {"width": 32}) is None
    assert store.read("outline", {"width": 16}) is None
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("code", [["0.10.1", "0.10.2", "0.12.8", "a"], ["0.10.2", "0.10.2", "0.12.8", "b"]])
def test_another_jax_or_another_source_finds_nothing(folder, monkeypatch, code):
    monkeypatch.setattr(store, "_code", lambda: ["0.10.2", "0.10.2", "0.12.8", "a"])
    store.write("program", {}, b"content")
    monkeypatch.setattr(store, "_code", lambda: code)
    assert store.read("program", {}) is None


def test_a_byte_of_the_source_makes_another_name(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("a = 1")
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    store._code.cache_clear()
    before = store._code()
    (tmp_path / "one.py").write_text("a = 2")
    store._code.cache_clear()

    assert before[0] == jax.__version__ and before[:-1] == store._code()[:-1] and before[-1] != store._code()[-1]
    store._code.cache_clear()


def test_source_that_was_edited_since_it_was_imported_keeps_and_finds_nothing(folder, tmp_path, monkeypatch):
    store.write("program", {}, b"content")
    (tmp_path / "edited.py").write_text("a = 1")
    monkeypatch.setattr(store, "PACKAGE", tmp_path)

    assert store.read("program", {}) is None
    store.write("program", {"number": 1}, b"content")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("of_folder", [True, False])
def test_what_others_can_write_is_not_read(folder, of_folder):
    store.write("program", {}, b"content")
    [path] = folder.iterdir()
    assert store.read("program", {}) == b"content"
    (folder if of_folder else path).chmod(0o777)
    assert store.read("program", {}) is None


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:40] + b"x" + b[41:], lambda b: b"", lambda b: b"x" * 32]
)
def test_what_is_damaged_is_not_there(folder, damage):
    store.write("program", {}, b"content of some length")
    [path] = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert store.read("program", {}) is None
    store.write("program", {}, b"content of some length")
    assert store.read("program", {}) == b"content of some length"


def test_the_oldest_go(folder, monkeypatch):
    monkeypatch.setattr(store, "MOST_FILES", 3)
    for number in range(6):
        store.write("program", {"number": number}, b"content")
        [os.utime(path, (1e9 + number, 1e9 + number)) for path in folder.iterdir() if path.stat().st_mtime > 1.5e9]
        assert number > 3 or store.read("program", {"number": 0}) == b"content"  # which is read, and so stays
    assert len(list(folder.iterdir())) == 3
    assert store.read("program", {"number": 5}) == store.read("program", {"number": 0}) == b"content"


def test_a_folder_that_cannot_be_written_keeps_nothing(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    store.write("program", {}, b"content")
    assert store.read("program", {}) is None


@pytest.mark.parametrize("compiled", [None, "gs://bucket/compiled"])
def test_nothing_is_kept_where_there_is_no_folder_of_this_machine(folder, compiled):
    jax.config.update("jax_compilation_cache_dir", compiled)
    store.write("program", {}, b"content")
    assert store.read("program", {}) is None


@pytest.mark.parametrize("name", [".#edited.py", "gone.py"])
def test_source_that_cannot_be_read_is_no_obstacle(folder, tmp_path, monkeypatch, name):
    (tmp_path / name).symlink_to("nowhere")  # as an editor's lock; or while the package is being replaced
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    store.write("program", {}, b"content")
    assert store.read("program", {}) == (b"content" if name.startswith(".") else None)


def test_what_is_kept_on_a_disk_that_can_only_be_read_is_read(folder, monkeypatch):
    store.write("program", {}, b"content")

    def read_only(path):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", read_only)
    assert store.read("program", {}) == b"content"
