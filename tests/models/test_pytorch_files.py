"""Checkpoint files of PyTorch are data: whatever they hold, reading one runs nothing and costs one line.

It takes no more memory than some times the bytes of the file.
"""

import contextlib
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.models import pytorch_files

STORED = np.arange(6, dtype="<f4")


def write_zip(path, pickled, storages=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("epoch0/data.pkl", pickled)
        for key, content in (storages or {"0": STORED.tobytes()}).items():
            archive.writestr(f"epoch0/data/{key}", content)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind="FloatStorage", key="0") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(6) + b"tQ"


def tensor(shape, strides, offset=0, **named) -> bytes:
    """The steps that rebuild a tensor, as torch.save writes them."""
    arguments = storage(**named) + number(offset) + numbers(*shape) + numbers(*strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def holding(*steps: bytes) -> bytes:
    """A pickle of a dictionary with these values."""
    items = b"".join(text(str(index)) + step for index, step in enumerate(steps))
    return b"\x80\x02}(" + items + b"u."


def refused(path) -> str:
    with pytest.raises(InputError, match="not a readable PyTorch checkpoint") as error:
        pytorch_files.read_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


def test_a_tensor_comes_back_as_it_was_written(tmp_path):
    path = write_zip(tmp_path / "good.pth", holding(tensor((2, 3), (3, 1)), tensor((3, 2), (1, 3)), tensor((), (), 5)))
    whole, turned, last = pytorch_files.read_checkpoint(path).values()
    np.testing.assert_array_equal(whole, STORED.reshape(2, 3))
    np.testing.assert_array_equal(turned, STORED.reshape(2, 3).T)
    assert last == 5


class Calls:
    """Is unpickled by calling something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


MARKER = "ran"
RUNS_CODE = {
    "a function of the system": lambda file: pickle.dumps(Calls(os.system, f"touch {file}")),
    "eval": lambda file: pickle.dumps(Calls(eval, f"open({str(file)!r}, 'w')")),
    "open": lambda file: pickle.dumps(Calls(open, str(file), "w")),
    "a name with a dot": lambda file: (
        b"\x80\x04" + text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93."
    ),
    "the globals of what makes tensors": lambda file: b"cdscgan_jax.models.pytorch_files\n_MakeTensor\n.",
    "builtins by way of collections": lambda file: b"ccollections\n__builtins__\n.",
    "a method of OrderedDict": lambda file: b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.",
    "INST": lambda file: b"(" + b"S'touch " + str(file).encode() + b"'\nios\nsystem\n.",
    "OBJ": lambda file: b"(cos\nsystem\nS'touch " + str(file).encode() + b"'\no.",
    "OBJ of a class that may be named": lambda file: b"(ccollections\nOrderedDict\no.",
    "NEWOBJ": lambda file: b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "an extension": lambda file: b"\x80\x02\x82\x01.",
    "a storage type that is called": lambda file: b"ctorch\nFloatStorage\n(K\x01tR.",
    "a function whose defaults are changed": lambda file: (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__defaults__") + b"Ns\x86b."
    ),
    "a storage type that is changed": lambda file: b"\x80\x02ctorch\nFloatStorage\n}" + text("kind") + b"Nsb.",
}


@pytest.mark.parametrize("how", RUNS_CODE)
@pytest.mark.parametrize("form", ["zip", "old"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, how, form):
    path, marker = tmp_path / "bad.pth", tmp_path / MARKER
    pickled = RUNS_CODE[how](marker)
    if form == "zip":
        write_zip(path, pickled)
    else:
        path.write_bytes(pickled)
    refused(path)
    assert not marker.exists()


def test_what_is_set_on_a_dictionary_is_not_called(tmp_path):
    steps = b"ccollections\nOrderedDict\n)R}" + text("items") + b"ctorch._utils\n_rebuild_tensor_v2\nsb"
    assert pytorch_files.read_checkpoint(write_zip(tmp_path / "odd.pth", holding(steps))) == {"0": {}}


def nested(opening: bytes, closing: bytes, times=200_000) -> bytes:
    return holding(opening * times + closing * times)


@pytest.mark.parametrize(
    "pickled",
    [
        nested(b"]", b"a", 200_000)[:-2] + b"u.",
        holding(b"]" * 200_001 + b"a" * 200_000),
        holding(b"(" * 200_000 + b"t" * 200_000),
        holding(b"]q\x00h\x00a"),  # a list that holds itself
    ],
    ids=["unfinished", "lists", "tuples", "itself"],
)
def test_containers_nested_200_000_deep_cost_one_line(tmp_path, pickled):
    refused(write_zip(tmp_path / "deep.pth", pickled))


def test_a_container_that_is_there_often_is_read_once(tmp_path):
    doubled = b"]q\x00" + b"".join(
        b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60)
    )  # 2^60 lists, if each were made anew
    content = pytorch_files.read_checkpoint(write_zip(tmp_path / "many.pth", holding(doubled)))["0"]
    for _ in range(60):
        assert len(content) == 2 and content[0] is content[1]
        content = content[0]


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((2**40,), (0,), 0),  # 4 TiB of one value
        ((2**20, 2**20), (0, 0), 0),
        ((7,), (1,), 0),
        ((3, 3), (1, 1), 0),  # within the storage, and more than it
        ((3,), (1,), 4),
        ((2, 2), (4, 2), 0),
        ((3,), (-1,), 5),
        ((1,), (1,), -1),
        ((-1,), (1,), 0),
        ((2, 3), (3,), 0),
        ((2,), (2**62,), 0),
    ],
    ids=str,
)
def test_a_tensor_that_is_larger_than_its_storage_is_refused_before_it_is_made(tmp_path, shape, strides, offset):
    refused(write_zip(tmp_path / "large.pth", holding(tensor(shape, strides, offset))))


def test_many_tensors_of_one_storage_cannot_take_more_than_some_times_its_bytes(tmp_path):
    path = write_zip(tmp_path / "tied.pth", holding(*[tensor((6,), (1,))] * 16))
    assert len(pytorch_files.read_checkpoint(path)) == 16
    assert "larger" in refused(write_zip(tmp_path / "bomb.pth", holding(*[tensor((6,), (1,))] * 17)))


def test_packed_entries_are_refused_before_they_are_unpacked(tmp_path):
    zeros = {"0": bytes(2**24)}
    path = write_zip(tmp_path / "bomb.pth", holding(tensor((6,), (1,))), zeros, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16 and "larger than the file" in refused(path)


def test_entries_that_lie_upon_one_another_are_refused(tmp_path):
    """Two names for the same bytes: a quadratic bomb in small."""
    steps = [tensor((6,), (1,), key=str(key)) for key in range(2)]
    path = write_zip(tmp_path / "twice.pth", holding(*steps), {"0": bytes(2**20), "1": b""})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    entries = [content.index(f"epoch0/data/{key}".encode(), directory) - 46 for key in range(2)]
    content[entries[1] + 16 : entries[1] + 28] = content[entries[0] + 16 : entries[0] + 28]  # checksum and sizes
    content[entries[1] + 42 : entries[1] + 46] = content[entries[0] + 42 : entries[0] + 46]  # place
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memory of 2^31 places
        b"\x80\x04\x8e" + struct.pack("<q", 2**40) + b"abc.",  # a text of 1 TiB
        b"\x80\x04\x95" + struct.pack("<q", 2**40) + b"N.",  # a frame of 1 TiB
        b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        b"\x80\x02}.",
        b"\x80\x02N.",
        b"",
        b".",
        b"\x80\x09.",
    ],
    ids=["memory", "text", "frame", "number", "nothing in it", "none", "empty", "stop", "protocol"],
)
def test_what_a_pickle_announces_is_not_allocated(tmp_path, pickled):
    path = write_zip(tmp_path / "odd.pth", pickled)
    if pickled.endswith(b"}."):
        assert pytorch_files.read_checkpoint(path) == {}
    else:
        refused(path)
    (tmp_path / "old.pth").write_bytes(pickled)
    refused(tmp_path / "old.pth")


RAW = struct.pack("<q", 6) + STORED.tobytes()


def old_form(content: bytes, keys=("0",), raw=RAW) -> bytes:
    head = [pickle.dumps(value, 2) for value in (pytorch_files.OLD_MAGIC, 1001, {"little_endian": True})]
    return b"".join([*head, content, pickle.dumps(list(keys), 2), raw])


def test_the_old_form_gives_the_same_and_its_counts_are_held_against_the_file(tmp_path):
    path, content = tmp_path / "old.pth", holding(tensor((2, 3), (3, 1)))
    path.write_bytes(old_form(content))
    np.testing.assert_array_equal(pytorch_files.read_checkpoint(path)["0"], STORED.reshape(2, 3))
    for count in (-1, 7, 2**40, -(2**62)):
        path.write_bytes(old_form(content, raw=struct.pack("<q", count) + STORED.tobytes()))
        refused(path)
    path.write_bytes(old_form(content, keys=("1",)))
    refused(path)


def test_no_accident_to_a_file_costs_more_than_one_line(tmp_path):
    whole = write_zip(tmp_path / "good.pth", holding(tensor((2, 3), (3, 1)), b"]K\x01a", text("cpu"))).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "spoiled.pth"
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 3):
            content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content[: int(random.choice([len(content), int(random.integers(len(content)))]))])
        with contextlib.suppress(InputError):  # anything else fails the test
            pytorch_files.read_checkpoint(path)


@pytest.mark.parametrize("name", ["epoch1", "unet_epoch9"])
def test_a_truncated_file_is_refused_by_name(whole_golden, tmp_path, name):
    whole = (whole_golden / f"{name}.pth").read_bytes()
    short = tmp_path / "short.pth"
    short.write_bytes(whole[: len(whole) // 2])
    refused(short)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.pth").write_text("no weights here")
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    (tmp_path / "arrays.pth").write_bytes(buffer.getvalue())
    for name in ("text.pth", "arrays.pth"):
        refused(tmp_path / name)
    with pytest.raises(InputError, match="there is no such checkpoint"):
        pytorch_files.read_checkpoint(tmp_path / "absent.pth")
