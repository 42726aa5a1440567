"""How files are spoiled: bytes, header fields of NIfTI, voxels, JSON values, tables.

Each function changes one file in place and returns what it did; `random` decides everything, so that a number of a kind
is the same harm every time.
"""

import gzip
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import nibabel
import numpy as np

Random = np.random.Generator
Spoil = Callable[[pathlib.Path, Random], str]

# --------------------------------------------------------------------------------------------------------------- bytes


def flipped_bits(path: pathlib.Path, random: Random, first: int = 0, last: int | None = None) -> str:
    """One to eight single bits."""
    content = bytearray(path.read_bytes())
    places = random.integers(first, min(last or len(content), len(content)), int(random.integers(1, 9)))
    for place in places:
        content[place] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    return f"bits flipped at {sorted(map(int, places))[:3]}"


def zeroed(path: pathlib.Path, random: Random) -> str:
    """A block that was never written, as after a power cut."""
    content = bytearray(path.read_bytes())
    begin = int(random.integers(len(content)))
    length = int(min(random.choice([16, 512, 4096, len(content)]), len(content) - begin))
    content[begin : begin + length] = bytes(length)
    path.write_bytes(content)
    return f"{length} bytes zeroed from {begin}"


def cut(path: pathlib.Path, random: Random) -> str:
    """The end is missing; sometimes all of it."""
    content = path.read_bytes()
    length = int(random.choice([0, 1, len(content) - 1, int(random.integers(len(content)))]))
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def inserted(path: pathlib.Path, random: Random) -> str:
    """Bytes that do not belong there, within or at the end."""
    content = path.read_bytes()
    place = int(random.choice([len(content), int(random.integers(len(content) + 1))]))
    more = random.bytes(int(random.integers(1, 2000)))
    path.write_bytes(content[:place] + more + content[place:])
    return f"{len(more)} bytes inserted at {place}"


def lost(path: pathlib.Path, random: Random) -> str:
    """Bytes within are missing, and what follows comes too early."""
    content = path.read_bytes()
    begin, length = int(random.integers(len(content))), int(random.integers(1, 600))
    path.write_bytes(content[:begin] + content[begin + length :])
    return f"{length} bytes lost at {begin}"


def overwritten(path: pathlib.Path, random: Random) -> str:
    """A block of noise."""
    content = bytearray(path.read_bytes())
    begin, length = int(random.integers(len(content))), int(random.choice([8, 512, 4096]))
    content[begin : begin + length] = random.bytes(min(length, len(content) - begin))
    path.write_bytes(content)
    return f"{length} bytes of noise from {begin}"


def removed(path: pathlib.Path, random: Random) -> str:
    """The file is gone."""
    del random
    path.unlink()
    return "removed"


def made_folder(path: pathlib.Path, random: Random) -> str:
    """A folder stands in its place."""
    del random
    path.unlink()
    path.mkdir()
    return "a folder in its place"


BYTES: tuple[Spoil, ...] = (flipped_bits, zeroed, cut, inserted, lost, overwritten)
FILES: tuple[Spoil, ...] = (*BYTES, removed, made_folder)


def one_of(spoils: Sequence[Spoil], path: pathlib.Path, random: Random) -> str:
    """One of several ways."""
    return spoils[int(random.integers(len(spoils)))](path, random)


def one_of_bytes(path: pathlib.Path, random: Random) -> str:
    """One of the ways in which bytes are spoiled."""
    return one_of(BYTES, path, random)


# -------------------------------------------------------------------------------------------------------------- NIfTI

NASTY = (0.0, -1.0, 1e-30, 1e30, np.nan, np.inf, -np.inf, 32767.0, -32768.0, 1.0, 0.001, 1000.0)
FIELDS = (
    *("sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units"),
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "magic", "descrip", "intent_code", "cal_max", "slice_code", "toffset", "dim_info"),
)


def header_field(path: pathlib.Path, random: Random) -> str:
    """One field of the header of an unpacked file with a value that it should not have."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    name = FIELDS[int(random.integers(len(FIELDS)))]
    value = NASTY[int(random.integers(len(NASTY)))]
    fields = header.structarr.copy()
    place = f"{name}"
    with np.errstate(all="ignore"):
        if fields[name].ndim:
            index = int(random.integers(fields[name].size))
            place = f"{name}[{index}]"
            _set(fields[name], index, value, random)
        elif fields[name].dtype.kind == "S":
            fields[name] = random.bytes(int(fields[name].dtype.itemsize))
        else:
            held = fields[name].reshape(1).copy()
            _set(held, 0, value, random)
            fields[name] = held[0]
    path.write_bytes(fields.tobytes() + content[348:])
    return f"{place} = {value:g}"


def _set(array: np.ndarray, index: int, value: float, random: Random) -> None:
    """Whatever the type of the field: what does not fit becomes something else that fits."""
    if array.dtype.kind == "f":
        array[index] = value
    elif np.isfinite(value) and abs(value) <= np.iinfo(array.dtype).max:
        array[index] = int(value)
    else:
        limits = np.iinfo(array.dtype)
        array[index] = int(random.integers(limits.min, limits.max))


def header_bits(path: pathlib.Path, random: Random) -> str:
    """Bits anywhere in the header."""
    return flipped_bits(path, random, 0, 348)


def packed_again(path: pathlib.Path) -> pathlib.Path:
    """`.nii` -> `.nii.gz` beside it, in its place."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))
    path.unlink()
    return packed


def with_values(change: Callable[[np.ndarray, Random], np.ndarray], dtype: Any = None) -> Spoil:
    """What changes the voxels of an unpacked NIfTI file, given as floats, header otherwise kept."""

    def spoil(path: pathlib.Path, random: Random) -> str:
        content = path.read_bytes()
        header = nibabel.Nifti1Header(content[:348], check=False)
        stored = np.dtype(header.get_data_dtype())
        shape = header.get_data_shape()
        values = np.frombuffer(content, stored, int(np.prod(shape)), 352).reshape(shape, order="F")
        changed = change(values.astype(np.float64), random)
        if changed.shape != shape:
            header.set_data_shape(changed.shape)
        if dtype is not None or not np.isfinite(changed).all():
            header.set_data_dtype(np.float32 if dtype is None else dtype)
        with np.errstate(all="ignore"):
            kept = np.dtype(header.get_data_dtype())
            as_stored = changed.astype(np.int64).astype(kept) if kept.kind in "iu" else changed.astype(kept)
        path.write_bytes(header.binaryblock + content[348:352] + as_stored.tobytes(order="F"))
        return getattr(change, "__name__", "values")

    return spoil


# --------------------------------------------------------------------------------------------------------------- JSON

ODD_VALUES = (
    *(None, True, "", "n/a", "1_0", "1,5", "abc", [], {}, [1.5], {"a": 1}, 0, -1, -2.0, 1e-9, 1e30, 10**400),
    *(float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", [float("nan")] * 3, "\u0000", "1" * 5000),
)


def json_value(path: pathlib.Path, random: Random, keys: Sequence[str] = ()) -> str:
    """One value anywhere in a JSON file (or of one of these keys) becomes an odd one, or goes."""
    record = json.loads(path.read_text(encoding="utf-8"))
    holders = [(record, key) for key in keys] if keys else list(_holders(record))
    holder, key = holders[int(random.integers(len(holders)))]
    choice = int(random.integers(-1, len(ODD_VALUES)))
    if choice < 0:
        if isinstance(holder, list):
            del holder[int(key)]
        else:
            holder.pop(key, None)
    else:
        holder[key] = ODD_VALUES[choice]
    path.write_text(json.dumps(record), encoding="utf-8")
    return f"{key} " + ("removed" if choice < 0 else f"= {ODD_VALUES[choice]!r}"[:40])


def _holders(record: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of each value below."""
    if isinstance(record, dict):
        for key, value in record.items():
            yield record, key
            yield from _holders(value)
    elif isinstance(record, list):
        for index, value in enumerate(record):
            yield record, index
            yield from _holders(value)


def json_text(path: pathlib.Path, random: Random) -> str:
    """The text of a sidecar as other programs leave it, or damaged."""
    text = path.read_text(encoding="utf-8")
    ways: dict[str, bytes] = {
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": (text[:-1].rstrip("}\n ") + ', "InstitutionName": "Universit\xe4t"}').encode("latin-1"),
        "nested deeply": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "nested in lists": b"[" * 200_000 + b"]" * 200_000,
        "a list": b"[" + text.encode() + b"]",
        "empty": b"",
        "a number": b"1.5",
        "two objects": text.encode() * 2,
        "comma at the end": text.rstrip("}\n ").encode() + b",}",
        "single quotes": text.replace('"', "'").encode(),
        "key twice": text.rstrip("}\n ").encode() + b', "RepetitionTime": 4.4}',
        "echo twice": text.rstrip("}\n ").encode() + b', "EchoTime": 0.012}',
        "key twice, the same": text.rstrip("}\n ").encode() + f", {text.strip()[1:]}".encode(),
        "zero bytes": text.encode() + bytes(64),
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n",
    }
    name = list(ways)[int(random.integers(len(ways) + 3)) % len(ways)]
    if random.random() < 0.2:
        return cut(path, random)
    path.write_bytes(ways[name])
    return name


# -------------------------------------------------------------------------------------------------------------- tables


def table_cell(path: pathlib.Path, random: Random) -> str:
    """One cell of a tab-separated table becomes odd, its head included."""
    odd = ("", "n/a", "nan", "inf", "-1", "1e400", "1,5", "x", "0", "1_0", "train ", "../x", "\u00a0", '"', "9" * 400)
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    row, value = int(random.integers(len(rows))), odd[int(random.integers(len(odd)))]
    column = int(random.integers(len(rows[row])))
    rows[row][column] = value
    path.write_text("\n".join(map("\t".join, rows)) + "\n", encoding="utf-8")
    return f"row {row}, column {column} = {value[:10]!r}"


def table_shape(path: pathlib.Path, random: Random) -> str:
    """Rows or columns too many, too few, in another order, or separated otherwise."""
    rows = path.read_text(encoding="utf-8").splitlines()
    middle = int(random.integers(1, len(rows)))
    ways: dict[str, Sequence[str]] = {
        "no head": rows[1:],
        "head alone": rows[:1],
        "a row twice": [*rows[: middle + 1], *rows[middle:]],
        "a row less": [*rows[:middle], *rows[middle + 1 :]],
        "commas": [row.replace("\t", ",") for row in rows],
        "spaces": [row.replace("\t", "  ") for row in rows],
        "reversed": [rows[0], *rows[:0:-1]],
        "a column more": [row + "\tx" for row in rows],
        "the last column twice": ["\t".join([*row.split("\t"), row.split("\t")[-1]]) for row in rows],
        "columns exchanged": ["\t".join(row.split("\t")[::-1]) for row in rows],
        "an unclosed quote": [*rows[:middle], '"' + rows[middle], *rows[middle + 1 :]],
        "empty lines": [line for row in rows for line in (row, "")],
        "a tab more": [row + "\t" for row in rows],
    }
    name = list(ways)[int(random.integers(len(ways)))]
    path.write_text("\n".join(ways[name]) + "\n", encoding="utf-8")
    return name
