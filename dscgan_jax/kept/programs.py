"""Programs that one start traced and the next ones need not: `jit` is JAX's, and keeps what it traced (`store`).

To trace a function and to lower it to StableHLO is Python: about 0.1 s for each of several programs, at every start.
What was lowered is kept as `jax.export` serialises it, and compiled as ever: with JAX's cache, loaded. Where nothing
can be kept, where a device is chosen, where JAX is asked to look for NaN or not to compile, and within another function
that is traced, it is JAX's own `jit`.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax import export
from jax.core import Tracer

from dscgan_jax.kept import store

KIND = "function"  # of what is kept

Tuple = TypeVar("Tuple", bound=type)


def jit(function: Callable[..., Any] | None = None, *, static_argnames: Sequence[str] = ()) -> Any:
    """A function as a program, as `jax.jit` makes it; what was traced for arguments like these is kept.

    Args:
      function: of arrays and trees of arrays; it gives such, or `named_tuple`s.
      static_argnames: arguments that are numbers, or tuples of them, and not traced.
    """
    if function is None:
        return functools.partial(jit, static_argnames=static_argnames)
    return functools.wraps(function)(Kept(function, static_argnames))


def named_tuple(which: Tuple) -> Tuple:
    """A NamedTuple that kept programs may give."""
    with contextlib.suppress(ValueError):  # its module is imported a second time, as by a notebook's autoreload
        export.register_namedtuple_serialization(which, serialized_name=f"{which.__module__}.{which.__name__}")
    return which


def depends_on() -> dict[str, Any]:
    """What else a traced program depends on: the device, and how JAX computes."""
    return {"device": [jax.default_backend(), jax.devices()[0].device_kind], "numbers": list(_numbers())}


def can_be_kept() -> bool:
    """Whether programs are for the device that JAX takes by itself, as usual: what is kept is of that one.

    Where JAX is asked to look for NaN, it must run a function again without a program; and it may be asked for none.
    """
    config: Any = jax.config
    special = config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs
    return config.jax_default_device is None and not special


def deserialized(content: bytes) -> Callable[..., Any] | None:
    """The program; None where another version's serialiser made it, say."""
    with contextlib.suppress(Exception):
        return export.deserialize(bytearray(content)).call
    return None


def _numbers() -> tuple[str, bool]:
    config = jax.config
    return str(config.jax_default_matmul_precision), bool(config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]


class _Shape(NamedTuple):
    """Of an array that is an argument."""

    shape: tuple[int, ...]
    dtype: str


class Kept:
    """A function and its programs, one for each kind of arguments."""

    def __init__(self, function: Callable[..., Any], static_argnames: Sequence[str]):
        self.function, self.static = function, tuple(static_argnames)
        self.jitted = jax.jit(function, static_argnames=static_argnames)
        self._signature = inspect.signature(function)
        self._programs: dict[Hashable, Callable[..., Any] | None] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        static = {name: bound.arguments.pop(name) for name in self.static}
        leaves, structure = jax.tree.flatten(dict(bound.arguments))
        shapes = [_shape_of(leaf) for leaf in leaves]
        if None in shapes or not can_be_kept():
            return self.jitted(*args, **kwargs)
        key = (tuple(static.items()), structure, tuple(shapes), _numbers())
        if (program := self._program(key, static)) is None:
            return self.jitted(*args, **kwargs)
        return program(*leaves)

    def _program(self, key: Any, static: dict[str, Any]) -> Callable[..., Any] | None:
        """The compiled program, from leaves; None where nothing can be kept. One thread makes it, others wait."""
        if key in self._programs:
            return self._programs[key]
        with self._one_at_a_time:
            if key not in self._programs:
                self._programs[key] = self._made(static, *key[1:3])
            return self._programs[key]

    def _made(self, static: dict[str, Any], structure: Any, shapes: Sequence[_Shape]) -> Callable[..., Any] | None:
        if store.folder() is None:
            return None
        like = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        made_of = {
            "function": f"{self.function.__module__}.{self.function.__qualname__}",
            "static": repr(static),
            "arguments": [str(structure), *map(repr, shapes)],
            **depends_on(),
        }
        content = store.read(KIND, made_of)
        program = None if content is None else deserialized(content)
        if program is None:

            def of_leaves(*leaves: Any) -> Any:
                return self.function(**jax.tree.unflatten(structure, leaves), **static)

            try:
                exported = export.export(jax.jit(of_leaves))(*like)
                store.write(KIND, made_of, bytes(exported.serialize()))
            except (ValueError, NotImplementedError):  # it holds what other versions of XLA might not know
                return None
            program = exported.call
        return jax.jit(_named(program, self.function.__name__)).lower(*like).compile()


def _named(program: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The program under the name by which JAX tells what it compiles."""

    def call(*leaves: Any) -> Any:
        return program(*leaves)

    call.__name__ = call.__qualname__ = name
    return call


def _shape_of(leaf: Any) -> _Shape | None:
    """Of an array on JAX's own device; None of what is traced, weakly typed, elsewhere, or no array."""
    if isinstance(leaf, Tracer):
        return None
    if isinstance(leaf, jax.Array):
        if leaf.weak_type or leaf.devices() != {jax.devices()[0]}:
            return None
        return _Shape(leaf.shape, str(leaf.dtype))
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        return None
    return _Shape(leaf.shape, str(jax.dtypes.canonicalize_dtype(leaf.dtype)))
