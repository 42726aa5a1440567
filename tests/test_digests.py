"""Files that are written once: whatever becomes of one of them is noticed, and its name told."""

import pytest

from dscgan_jax import digests


@pytest.fixture
def folder(tmp_path):
    for name in ("a/one", "a/two", "b/three"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(100))
    digests.write(tmp_path, [path for path in tmp_path.rglob("*") if path.is_file()])
    return tmp_path


def flip(path):
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flip, "a/two is not what was written"),
        (lambda path: path.unlink(), "a/two is gone"),
        (lambda path: path.write_bytes(bytes(99)), "a/two is not"),
        (lambda path: (path.unlink(), path.mkdir()), "a/two is gone"),
    ],
)
def test_one_bit_is_enough(folder, spoil, words):
    digests.check(folder)
    spoil(folder / "a" / "two")
    with pytest.raises(digests.Damaged, match=words):
        digests.check(folder)
    digests.check(folder, ["b/"])  # what is not read need not be whole


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a/one": 5}', "[" * 10**5, "\udcff"])
def test_damaged_digests_are_damage(folder, text):
    (folder / digests.NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(digests.Damaged):
        digests.check(folder)


def test_folders_of_older_versions_and_files_that_came_later_are_read(folder):
    (folder / "a" / "four").touch()
    digests.check(folder)
    (folder / digests.NAME).unlink()
    flip(folder / "a" / "one")
    digests.check(folder)
