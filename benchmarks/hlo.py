"""XLA's text of an optimised program -> computations, instructions and the lines of ours that they come from.

Words: an *instruction* has a name, an operation, operands and one result or a tuple of them; a *computation* is a list
of instructions; the *entry* is the computation that the program runs. A fusion names the computation that it runs as
one kernel, a loop the one that it repeats.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
    "token": 0,
}
OURS = "dscgan_jax/"  # the folder that our files are in


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array: type of its values, and lengths of its axes."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many values."""
        return math.prod(self.dims)

    @property
    def value_bytes(self) -> int:
        """Of one value.

        Raises:
          ValueError: the type is not known here.
        """
        if self.dtype not in BYTES:
            raise ValueError(f"type {self.dtype}: unknown, so its bytes cannot be counted; add it to BYTES in hlo.py.")
        return BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Of all values."""
        return self.size * self.value_bytes

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in its computation.
      operation: `fusion`, `custom-call`, `while`, ...
      results: arrays of the result; a tuple's, flattened.
      operands: names of instructions of the same computation.
      given: the text between the parentheses: a parameter's number, a constant's value.
      attributes: the text behind them.
      is_root: whether it is the computation's result.
    """

    name: str
    operation: str
    results: tuple[Shape, ...]
    operands: tuple[str, ...]
    given: str
    attributes: str
    is_root: bool

    @property
    def result(self) -> Shape:
        """The first array."""
        return self.results[0]

    def named(self, attribute: str) -> str | None:
        """The computation (or another word) behind `attribute=`; None where there is none."""
        found = re.search(rf"\b{attribute}=\"?%?([\w.$\-]+)", self.attributes)
        return found[1] if found else None

    def numbers(self, attribute: str) -> tuple[int, ...] | None:
        """`{1,2}` or `["1","2"]` behind an attribute, a pattern; None where there is none."""
        found = re.search(rf"\b{attribute}\"?[=:][{{\[]([\d,\"]*)[}}\]]", self.attributes)
        return tuple(int(one) for one in re.findall(r"\d+", found[1])) if found else None


Computation = tuple[Instruction, ...]


@dataclasses.dataclass(frozen=True)
class Module:
    """A whole program.

    Attributes:
      computations: by name; operands come before those who use them.
      entry: name of the one that runs.
      places: of each stack frame the innermost line of ours in it, `models/unet.py:12`; empty where there is none.
    """

    computations: Mapping[str, Computation]
    entry: str
    places: Mapping[int, str]

    def place(self, instruction: Instruction) -> str:
        """File and line of ours that an instruction comes from; empty where XLA does not say.

        A derivative has the line of what it is the derivative of, and says so; where it is written out (`custom_vjp`),
        JAX knows the line that calls the function.
        """
        found = re.search(r"\bstack_frame_id=(\d+)", instruction.attributes)
        if found is None and (called := instruction.named("calls")):
            return next(filter(None, map(self.place, reversed(self.computations[called]))), "")
        place = self.places.get(int(found[1]), "") if found else ""
        is_derivative = place and re.search(r'\bop_name="[^"]*\btranspose\(', instruction.attributes)
        return f"{place}, derivative" if is_derivative else place


def read(text: str) -> Module:
    """A program from its text, as `compiled.as_text()` gives it.

    Raises:
      ValueError: the text has no entry.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if begun := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = computations.setdefault(begun[2], [])
            entry = begun[2] if begun[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _instruction(line)):
            current.append(instruction)
    if not entry:
        raise ValueError("the text holds no ENTRY computation: it is not the text of an XLA program.")
    return Module({name: tuple(lines) for name, lines in computations.items()}, entry, _places(text))


def _instruction(line: str) -> Instruction | None:
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if head is None:
        return None
    kind, rest = _split_type(line[head.end() :])
    operation, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 1
    given = rest[:end]
    return Instruction(
        name=head[2],
        operation=operation,
        results=_shapes(kind),
        operands=tuple(re.findall(r"%([\w.\-]+)", given)),
        given=given,
        attributes=rest[end + 1 :],
        is_root=bool(head[1]),
    )


def _split_type(text: str) -> tuple[str, str]:
    """`(f32[2]{0}, s8[4]{0}) custom-call(...)` -> the type, and what follows it."""
    end = _closing(text) + 1 if text.startswith("(") else text.index(" ")
    return text[:end], text[end:].lstrip()


def _closing(text: str) -> int:
    """Where the parenthesis closes that `text` begins with."""
    depth = 0
    for place in re.finditer(r"[()]", text):
        depth += 1 if place[0] == "(" else -1
        if depth == 0:
            return place.start()
    raise ValueError(f"a parenthesis does not close: {text[:80]}")


@functools.lru_cache(maxsize=4096)
def _shapes(kind: str) -> tuple[Shape, ...]:
    """Arrays of a type; `/*index=5*/` and layouts are passed over."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", kind)
    return tuple(Shape(dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in found)


def _places(text: str) -> dict[int, str]:
    """Of each stack frame the innermost line of ours, from the tables that stand before the program."""
    files = {number: row.strip('"') for number, row in _table(text, "FileNames").items()}
    locations = {number: _fields(row) for number, row in _table(text, "FileLocations").items()}
    frames = {number: _fields(row) for number, row in _table(text, "StackFrames").items()}

    def place(number: int) -> str:
        while number in frames:
            location = locations[frames[number]["file_location_id"]]
            _, ours, path = files[location["file_name_id"]].rpartition(OURS)
            if ours:
                return f"{path}:{location['line']}"
            parent = frames[number].get("parent_frame_id", 0)
            number = parent if parent != number else 0  # the outermost frame names itself
        return ""

    return {number: place(number) for number in frames}


def _table(text: str, name: str) -> dict[int, str]:
    """{number: row} of a table."""
    found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    rows = found[1].splitlines() if found else []
    return {int(row.partition(" ")[0]): row.partition(" ")[2] for row in rows}


def _fields(row: str) -> dict[str, int]:
    """`{line=3 column=4}` as numbers."""
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", row)}
