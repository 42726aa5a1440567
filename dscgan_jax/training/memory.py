"""How this process takes memory from the system."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's names, from its malloc.h


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back; does nothing with another library.

    A training step on a CPU allocates some hundred MiB in large arrays and frees them again. By default each comes new
    from the system, page by page, which took a sixth of a step.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
