"""How a training takes memory from the system."""

import pathlib
import subprocess
import sys

import pytest

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage")
SAYS = """
from dscgan_jax.training import memory
memory.keep_freed_memory()
memory.take_huge_pages()
heaps = open("/proc/self/smaps").read().split("[heap]")[1:]
flags = [heap.split("VmFlags:")[1].splitlines()[0].split() for heap in heaps]
resident = int(open("/proc/self/statm").read().split()[1]) * 4096
print(any("hg" in of_heap for of_heap in flags), resident < 2**28)
"""


@pytest.mark.skipif(not HUGE_PAGES.is_dir(), reason="Linux has no huge pages here")
def test_the_heap_has_huge_pages_and_no_memory_is_taken_for_them():
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
