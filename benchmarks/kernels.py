"""A compiled program as kernels: what each is, the bytes it reads and writes, its matrix operations.

Bytes are those of operands and results of every kernel: what a cache would save is not known here, nor what a library
moves within a call. Of an operand that a kernel takes slices of, the slices count; a slice that is
written into a large array in place counts alone, too. A loop's body counts as often as it runs. Workspaces of libraries
do not count.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

from hlo import Computation, Instruction, Module, Shape

# Names for values that exist already, or that something else has begun.
NO_KERNEL = {
    *("parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all", "partition-id", "replica-id"),
    *("optimization-barrier", "opt-barrier", "add-dependency"),
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
CONVOLUTION_OUTPUT = {  # library calls: which operand (None: the result) is what a forward convolution would give
    "__cudnn$convForward": None,
    "__cudnn$convBiasActivationForward": None,
    "__cudnn$convBackwardInput": 0,
    "__cudnn$convBackwardFilter": 1,
}
PALLAS = ("__gpu$xla.gpu.triton", "mosaic_gpu")  # beginnings of what a Pallas kernel is called
PROPORTIONAL = {"reduce", "reduce-window", "dot", "convolution", "custom-call", "scatter", "sort", "map", "fusion"}
SLICES = {"slice", "dynamic-slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel, with all its runs.

    Attributes:
      name: of the instruction.
      kind: `fusion`, `matrix product`, `convolution`, `copy`, `collective`, `Pallas kernel` (whose operations are not
        in the text: 0), or another operation.
      times: runs in one run of the program.
      read_bytes, written_bytes: of one run.
      flops: of one run, matrix products and convolutions alone, a multiplication and an addition counted as two.
      made: arrays that it writes anew; what it changes in place is left out.
      place: file and line of ours; empty where XLA does not say.
    """

    name: str
    kind: str
    times: int
    read_bytes: int
    written_bytes: int
    flops: int
    made: tuple[Shape, ...]
    place: str

    @property
    def moved_bytes(self) -> int:
        """Of all runs."""
        return self.times * (self.read_bytes + self.written_bytes)


@dataclasses.dataclass(frozen=True)
class Collective:
    """All messages between devices of one operation and one type; bytes are those that a device gives."""

    operation: str
    dtype: str
    number: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Arrays of one shape that one line of ours has made, `number` of them."""

    shape: Shape
    place: str
    number: int


@dataclasses.dataclass(frozen=True)
class KindTotal:
    """Kernels of one kind: how many are launched, their bytes and matrix operations in one run of the program."""

    kind: str
    launches: int
    moved_bytes: int
    flops: int


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program does in one run."""

    kernels: tuple[Kernel, ...]
    collectives: tuple[Collective, ...]

    @property
    def moved_bytes(self) -> int:
        """Of all kernels."""
        return sum(kernel.moved_bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Of all matrix products and convolutions."""
        return sum(kernel.times * kernel.flops for kernel in self.kernels)

    def kinds(self) -> list[KindTotal]:
        """Kernels by kind, most bytes first."""
        found = {kind: [one for one in self.kernels if one.kind == kind] for kind in {one.kind for one in self.kernels}}
        totals = [
            KindTotal(
                kind,
                sum(one.times for one in kernels),
                sum(one.moved_bytes for one in kernels),
                sum(one.times * one.flops for one in kernels),
            )
            for kind, kernels in found.items()
        ]
        return sorted(totals, key=lambda total: (-total.moved_bytes, total.kind))

    def largest(self, number: int) -> list[Buffer]:
        """The largest arrays that kernels make, largest first."""
        found = collections.Counter((shape, kernel.place) for kernel in self.kernels for shape in kernel.made)
        buffers = [Buffer(shape, place, many) for (shape, place), many in found.items()]
        return sorted(buffers, key=lambda one: (-one.shape.nbytes, one.place, str(one.shape)))[:number]


def program_of(module: Module) -> Program:
    """Kernels and collectives of a program.

    Raises:
      ValueError: a loop whose number of runs is not known, a branch, or an operation whose cost is not known here.
    """
    kernels, sent = [], collections.Counter()
    for instruction, computation, times in _running(module, module.entry, 1):
        shapes = {one.name: one.results for one in computation}
        kernel = _kernel(module, instruction, shapes, times)
        kernels.append(kernel)
        if kernel.kind == "collective":
            for shape in _operand_shapes(instruction, shapes):
                sent[_base(instruction.operation), shape.dtype, "number"] += times
                sent[_base(instruction.operation), shape.dtype, "nbytes"] += times * shape.nbytes
    collectives = tuple(
        Collective(operation, dtype, sent[operation, dtype, "number"], sent[operation, dtype, "nbytes"])
        for operation, dtype in sorted({key[:2] for key in sent})
    )
    return Program(tuple(kernels), collectives)


def _base(operation: str) -> str:
    return operation.removesuffix("-start")


def _running(module: Module, name: str, times: int) -> Iterator[tuple[Instruction, Computation, int]]:
    """Instructions that become kernels, with their computation and how often each runs."""
    computation = module.computations[name]
    for one in computation:
        if one.operation in NO_KERNEL or one.operation.endswith("-done") or one.operation == "async-update":
            continue
        if one.operation == "while":
            yield from _running(module, str(one.named("body")), times * _trips(one))
        elif one.operation == "call":
            yield from _running(module, str(one.named("to_apply")), times)
        elif one.operation == "async-start":
            yield from _running(module, str(one.named("calls")), times)
        elif one.operation == "conditional":
            raise ValueError(f"{one.name}: a branch, of which nobody knows how often it runs; it cannot be counted.")
        else:
            yield one, computation, times


def _trips(loop: Instruction) -> int:
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if found is None:
        raise ValueError(f"{loop.name}: a loop, of which nobody knows how often it runs; it cannot be counted.")
    return int(found[1])


def _kernel(module: Module, one: Instruction, shapes: dict[str, tuple[Shape, ...]], times: int) -> Kernel:
    inside = module.computations[str(one.named("calls"))] if one.operation == "fusion" else None
    if inside is not None:
        traffic = _traffic(inside)
        flops, kind = _fused(inside)
    else:
        traffic = _plain_traffic(one, shapes)
        flops, kind = _flops(one, shapes), _kind(one)
    return Kernel(one.name, kind, times, traffic.read, traffic.written, flops, traffic.made, module.place(one))


def _kind(one: Instruction) -> str:
    """What a lone instruction is."""
    target = one.named("custom_call_target") or ""
    if one.operation == "dot" or target.startswith("__cublas"):
        return "matrix product"
    if one.operation == "convolution" or target in CONVOLUTION_OUTPUT:
        return "convolution"
    if one.operation in ("copy", "copy-start"):
        return "copy"
    if _base(one.operation) in COLLECTIVES:
        return "collective"
    if target.startswith(PALLAS):
        return "Pallas kernel"
    return target or one.operation


def _fused(inside: Computation) -> tuple[int, str]:
    """Matrix operations of a fusion; it is called after a product or a convolution in it."""
    shapes = {one.name: one.results for one in inside}
    kinds = {_kind(one) for one in inside}
    kind = next((kind for kind in ("matrix product", "convolution") if kind in kinds), "fusion")
    return sum(_flops(one, shapes) for one in inside), kind


# --- Bytes ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Traffic:
    read: int  # bytes
    written: int  # bytes
    made: tuple[Shape, ...]


def _operand_shapes(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> list[Shape]:
    return [shape for name in one.operands for shape in shapes[name]]


def _plain_traffic(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> _Traffic:
    """Of a kernel that is one instruction."""
    operands = _operand_shapes(one, shapes)
    read = sum(shape.nbytes for shape in operands)
    if one.operation == "copy-start":  # its result names the source again
        return _Traffic(read, read, tuple(operands))
    if one.operation in SLICES:
        return _Traffic(one.result.nbytes, one.result.nbytes, one.results)
    if one.operation == "dynamic-update-slice":
        return _Traffic(operands[1].nbytes, operands[1].nbytes, ())
    if one.operation.endswith("-start"):  # some results name the operands again
        written = sum(shape.nbytes for shape in one.results[-len(operands) :])
        return _Traffic(read, written, one.results[-len(operands) :])
    results = one.results
    if one.operation == "custom-call" and len(results) > 1 and results[-1].dtype in ("s8", "u8"):
        results = results[:-1]  # the last one is the library's workspace
    return _Traffic(read, sum(shape.nbytes for shape in results), results)


def _traffic(inside: Computation) -> _Traffic:
    """Of a fusion: of each parameter what its users need, of the results what is not there already."""
    lines = {one.name: one for one in inside}
    root = next(one for one in inside if one.is_root)
    outputs = [lines[name] for name in root.operands] if root.operation == "tuple" else [root]
    updates = {one.name: update for one in outputs if (update := _update_in_place(one, lines))}
    in_place = {update.name for update in updates.values()}
    made = [shape for one in outputs if one.name not in updates for shape in one.results]
    written = sum(shape.nbytes for shape in made)
    written += sum(lines[update.operands[1]].result.nbytes for update in updates.values())

    needed: collections.Counter[str] = collections.Counter()
    for one in outputs:
        needed[one.name] += one.result.size
    read = 0
    for one in reversed(inside):
        values = min(needed[one.name], one.result.size) if one.results else 0
        if one.operation == "parameter":
            read += values * one.result.value_bytes
        elif values and not (one is root and one.operation == "tuple"):
            for place, name in enumerate(one.operands):
                needed[name] += _needed(one, place, lines[name].result, values, one.name in in_place)
    return _Traffic(read, written, tuple(made))


def _update_in_place(output: Instruction, lines: dict[str, Instruction]) -> Instruction | None:
    """The update of a slice of a parameter by which a fusion gives its result, if there is one."""
    while output.operation == "bitcast":
        output = lines[output.operands[0]]
    if output.operation != "dynamic-update-slice":
        return None
    target = lines[output.operands[0]]
    while target.operation == "bitcast":
        target = lines[target.operands[0]]
    return output if target.operation == "parameter" else None


def _needed(one: Instruction, place: int, operand: Shape, values: int, in_place: bool) -> int:
    """Values of an operand that `values` values of a result are made of."""
    if one.operation == "dynamic-update-slice" and place == 0:
        return 0 if in_place else values
    if one.operation in SLICES and place == 0:
        return min(values, operand.size)
    if one.operation in PROPORTIONAL:
        return math.ceil(operand.size * values / one.result.size)
    return min(values, operand.size)


# --- Matrix operations ---------------------------------------------------------------------------------------------


def _flops(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> int:
    """Of a matrix product or a convolution; 0 of anything else.

    Raises:
      ValueError: it is one of a form that is not known here.
    """
    kind = _kind(one)
    if kind not in ("matrix product", "convolution"):
        if kind.startswith(("__cudnn", "__cublas")):
            raise ValueError(f"{one.name}: a library call {kind}, whose operations are not known here.")
        return 0
    operands = [shapes[name][0] for name in one.operands]
    if kind == "matrix product":
        contracted = one.numbers("lhs_contracting_dim(?:s|ensions)")
        if contracted is None:
            raise ValueError(f"{one.name}: a matrix product that does not say which axes it sums over.")
        return 2 * one.result.size * math.prod(operands[0].dims[axis] for axis in contracted)
    return _convolution_flops(one, operands)


def _convolution_flops(one: Instruction, operands: list[Shape]) -> int:
    """Each value of the forward output is a sum over the kernel's inputs; its gradients take as many operations."""
    labels = re.search(r"\bdim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    if labels is None:
        raise ValueError(f"{one.name}: a convolution without dim_labels.")
    target = one.named("custom_call_target")
    place = CONVOLUTION_OUTPUT[target] if target else None
    output = one.result if place is None else operands[place]
    kernel = one.result if place == 1 else operands[1]
    if output.dims[labels[3].index("f")] != kernel.dims[labels[2].index("o")]:
        raise ValueError(f"{one.name}: a convolution whose kernel {kernel} does not give the channels of {output}.")
    return 2 * output.size * kernel.size // kernel.dims[labels[2].index("o")]
