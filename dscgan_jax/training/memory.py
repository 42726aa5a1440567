"""How this process takes memory from the system, and what a user reads where there is not enough."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

from dscgan_jax.errors import InputError

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's names, from its malloc.h
_MADV_HUGEPAGE = 14  # Linux' name, from its mman.h
_PAGE = 2**21  # bytes of a huge one


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step instead of giving it back; does nothing with another library.

    A training step on a CPU allocates some hundred MiB in large arrays and frees them again. By default each comes new
    from the system, page by page, which took a sixth of a step.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never


def take_huge_pages() -> None:
    """Asks Linux for huge pages where glibc will put large arrays, after `keep_freed_memory`; does nothing elsewhere.

    What compiling leaves of the heap is full of holes, and arrays in pages of 4 kB among them are slow to walk through:
    a training that compiled its step took 0.95 to 1.05 s a step, with huge pages 0.70 to 0.85 s (docs/speed.md).
    """
    with contextlib.suppress(OSError, AttributeError, ValueError):
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        # Address space alone: nothing is written, so no memory is taken; the heap keeps it when it is freed again.
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        if block := libc.malloc(n_bytes):
            begin = -(-block // _PAGE) * _PAGE
            libc.madvise(begin, (block + n_bytes - begin) // _PAGE * _PAGE, _MADV_HUGEPAGE)
            libc.free(block)


def compiled_within_memory(jitted: Any, *arguments: Any) -> Any:
    """The compiled program of a jitted function for such arguments; shapes are enough.

    Raises:
      MemoryError: on a CPU, where the system would kill the process without a word instead of refusing.
    """
    import jax  # here, because `keep_freed_memory` comes before JAX

    compiled = jitted.lower(*arguments).compile()
    if jax.default_backend() == "cpu":
        analysis = compiled.memory_analysis()
        needed = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
        if needed > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError(f"{needed / 2**30:.0f} GiB")
    return compiled


@contextlib.contextmanager
def out_of_memory_named(config: Any) -> Iterator[None]:
    """Within it, names the fields to lower when memory runs out.

    Raises:
      InputError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"out of memory at config.train.batch_size={config.train.batch_size}, "
            f"config.model.width={config.model.width}, config.data.size={config.data.size}; lower one of them, or "
            "take the batch in parts (config.train.accumulate)."
        ) from error
