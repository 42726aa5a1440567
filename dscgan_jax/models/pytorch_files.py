"""Checkpoint files of PyTorch (`.pth`), read without PyTorch and without running code.

Words: such a file is a *pickle*, a small program for a machine with a stack, beside raw numbers, its *storages*; a
*tensor* is a view of one. Before the program runs, each of its steps is looked at; while it runs, it can name nothing
but what makes tensors and dictionaries of data; and no tensor takes more memory than the file has bytes.
"""

import collections
import dataclasses
import io
import math
import mmap
import pathlib
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from dscgan_jax.errors import InputError, brief

STORAGE_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
OLD_MAGIC = 0x1950A86A20F9469CFC6C  # opens the form that PyTorch wrote before 1.6
# Steps that torch.save never writes, and that make objects by other ways than by calling what was named.
FORBIDDEN = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")
MOST_STEPS = 5_000_000  # of a pickle; a network of 1,000 tensors takes 50,000
TIMES_STORED = 16  # bytes of all tensors over those of all storages: tied weights share one
MOST_DEEP = 200  # containers within one another


@dataclasses.dataclass
class _Storage:
    dtype: np.dtype
    values: np.ndarray | None = None


@dataclasses.dataclass
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _MakeTensor:
    """Makes a tensor of what torch.save wrote of one; a new one each time, that nobody else could find changed."""

    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *unused: Any
    ) -> _Tensor:
        del unused  # requires_grad, hooks, metadata
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        if not all(type(number) is int for number in (offset, *shape, *strides)):
            raise ValueError("a tensor whose shape is no whole numbers")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Builds plain containers and tensors; refuses every other name, so that a file cannot run code."""

    def __init__(self, file: Any, storages: dict[str, _Storage]):
        super().__init__(file, encoding="latin1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _MakeTensor()
        if module == "torch" and name in STORAGE_TYPES:
            return name  # a text can neither be called nor changed
        raise pickle.UnpicklingError(f"{module}.{name} is not data")

    def persistent_load(self, saved: tuple[Any, ...]) -> _Storage:
        _, kind, key = saved[:3]
        return self._storages.setdefault(str(key), _Storage(np.dtype(STORAGE_TYPES[kind])))


def read_checkpoint(path: str | pathlib.Path) -> dict[str, Any]:
    """Reads a `.pth` file of the published implementation, old or zip form, without PyTorch and without running code.

    Returns:
      its dictionary (`generator_state_dict`, `discriminator_state_dict`, `gen_opt_state_dict`, ...), tensors as arrays.

    Raises:
      InputError: the file is absent, damaged, or holds more than data.
    """
    path = pathlib.Path(path)
    try:
        content, storages = _read_zip(path) if zipfile.is_zipfile(path) else _read_old(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        stored = sum(storage.values.nbytes for storage in storages.values() if storage.values is not None)
        return _Arrays(TIMES_STORED * stored).of(content)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint.") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,  # an encrypted archive, containers that hold themselves
        MemoryError,
        OSError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(
            f"{path}: not a readable PyTorch checkpoint ({brief(error)}); expected a file written by torch.save "
            "that holds tensors, numbers, text, lists and dictionaries."
        ) from error


def _load(file: Any, storages: dict[str, _Storage]) -> Any:
    """One pickle, from where the file is: its steps are looked at, then done."""
    begin = file.tell()
    for count, (step, value, _) in enumerate(pickletools.genops(file)):
        if step.name in FORBIDDEN:
            raise pickle.UnpicklingError(f"{step.name} is not data")
        if step.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= cast(int, value) <= count:
            raise pickle.UnpicklingError("its memory would be larger than itself")
        if count > MOST_STEPS:
            raise pickle.UnpicklingError(f"it has more than {MOST_STEPS:,} steps")
    file.seek(begin)
    return _Unpickler(file, storages).load()


def _read_zip(path: pathlib.Path) -> tuple[Any, dict[str, _Storage]]:
    storages: dict[str, _Storage] = {}
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("a zip archive without data.pkl")
        read = _reader_of(archive, path.stat().st_size)
        content = _load(io.BytesIO(read(name)), storages)
        for key, storage in storages.items():
            storage.values = np.frombuffer(read(f"{name.removesuffix('.pkl')}/{key}"), storage.dtype)
    return content, storages


def _reader_of(archive: zipfile.ZipFile, most: int) -> Callable[[str], bytes]:
    """Reads entries as torch.save writes them, unpacked; all of them together are no larger than the file."""
    left = most

    def read(name: str) -> bytes:
        nonlocal left
        entry = archive.getinfo(name)
        left -= entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or left < 0:
            raise ValueError(f"{name} would be larger than the file")
        return archive.read(entry)

    return read


def _read_old(path: pathlib.Path) -> tuple[Any, dict[str, _Storage]]:
    storages: dict[str, _Storage] = {}
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        if _load(file, storages) != OLD_MAGIC:  # a map gives what there is, however much is asked for
            raise pickle.UnpicklingError("unknown opening")
        for _ in range(2):  # protocol version, machine
            _load(file, storages)
        content = _load(file, storages)
        for key in _load(file, storages):
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            storage = storages[key]
            if not 0 <= count * storage.dtype.itemsize <= file.size() - file.tell():
                raise ValueError("a storage would be larger than the file")
            storage.values = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype, count)
    return content, storages


class _Arrays:
    """The same containers, with each tensor as an array of its own.

    Args:
      most_bytes: of all arrays together.
    """

    def __init__(self, most_bytes: int):
        self._left = most_bytes
        self._known: dict[int, Any] = {}

    def of(self, content: Any, depth: int = 0) -> Any:
        """Arrays for tensors; what is there several times is made once."""
        if not isinstance(content, (_Tensor, dict, list, tuple)):
            return content
        if id(content) not in self._known:
            self._known[id(content)] = self._made(content, depth)
        return self._known[id(content)]

    def _made(self, content: Any, depth: int) -> Any:
        if depth > MOST_DEEP:
            raise ValueError(f"containers are nested more than {MOST_DEEP} deep")
        if isinstance(content, _Tensor):
            return self._array(content)
        if isinstance(content, dict):
            return {key: self.of(value, depth + 1) for key, value in dict.items(content)}
        return type(content)(self.of(value, depth + 1) for value in content)

    def _array(self, tensor: _Tensor) -> np.ndarray:
        values, strides = tensor.storage.values, tensor.strides
        if values is None:
            raise ValueError("a tensor whose storage is not there")
        last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, strides, strict=True))
        if min((tensor.offset, *tensor.shape, *strides)) < 0 or (0 not in tensor.shape and last >= len(values)):
            raise ValueError("a tensor reaches outside its storage")
        self._left -= math.prod(tensor.shape) * values.itemsize
        if math.prod(tensor.shape) > len(values) or self._left < 0:
            raise ValueError("a tensor would be larger than its storage")
        view = np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, [step * values.itemsize for step in strides]
        )
        return view.copy()
