"""A kept program gives the bits of one that is traced, and a second start traces nothing of it."""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.kept import programs, store
from dscgan_jax.perfusion import deconvolution, dictionary, motion, parametric, registration

RANDOM = np.random.default_rng(0)
ARRAY = np.float32(RANDOM.normal(size=(4, 3)))
TRACED: list[str] = []


@programs.named_tuple
class Pair(NamedTuple):
    total: jax.Array
    power: jax.Array


def pair(a, b, *, power: int = 2):
    TRACED.append("pair")
    return Pair(a["x"] + b, a["x"] ** power)


def start(function=pair, **how):
    """What a process has that has just imported the function."""
    TRACED.clear()
    return programs.jit(function, **how)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """Where programs are kept, for the time of a test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    yield tmp_path / "compiled" / store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_a_second_start_traces_nothing_and_computes_the_same(folder):
    first = start(static_argnames=("power",))({"x": ARRAY}, jnp.asarray(ARRAY))
    assert TRACED == ["pair"] and len(files(folder)) == 1
    second = start(static_argnames=("power",))({"x": ARRAY}, ARRAY)
    assert not TRACED and isinstance(second, Pair)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(second.total, 2 * ARRAY)


@pytest.mark.parametrize("other", [np.zeros((2, 3), np.float32), np.zeros((4, 3), np.int32), jnp.zeros((4, 3), bool)])
def test_other_shapes_and_types_have_a_program_of_their_own(folder, other):
    function = start(static_argnames=("power",))
    function({"x": ARRAY}, ARRAY)
    found = function({"x": other}, other)
    assert len(TRACED) == 2 and len(files(folder)) == 2
    np.testing.assert_array_equal(found.total, np.asarray(other) + np.asarray(other))


def test_what_is_static_is_a_part_of_the_program(folder):
    function = start(static_argnames=("power",))
    for power in (2, 3, 2):
        found = function({"x": ARRAY}, b=ARRAY, power=power)
        np.testing.assert_allclose(found.power, ARRAY**power, rtol=1e-6)
    assert len(files(folder)) == 2


def test_a_damaged_program_is_made_again(folder):
    start(static_argnames=("power",))({"x": ARRAY}, ARRAY)
    [path] = files(folder)
    path.write_bytes(path.read_bytes()[:-9])
    np.testing.assert_array_equal(start(static_argnames=("power",))({"x": ARRAY}, ARRAY).total, 2 * ARRAY)
    assert TRACED == ["pair"]


def test_a_program_of_another_serialiser_is_made_again(monkeypatch):
    monkeypatch.setattr(store, "read", lambda *_: b"no program")
    np.testing.assert_array_equal(start(static_argnames=("power",))({"x": ARRAY}, ARRAY).total, 2 * ARRAY)


@pytest.mark.parametrize(
    "argument",
    [2.0, jnp.asarray(2.0), jax.device_put(np.float32(2), jax.devices()[-1])],
    ids=["Python's", "weakly typed", "on another device"],
)
def test_what_is_no_plain_array_of_this_device_is_left_to_jax(folder, argument):
    found = start(lambda a: a * jnp.ones((), jnp.bfloat16))(argument)
    strong = isinstance(argument, jax.Array) and not argument.weak_type
    assert float(found) == 2.0 and found.dtype == (jnp.float32 if strong else jnp.bfloat16)
    assert not files(folder)


def test_where_a_device_is_chosen_or_nothing_can_be_kept_it_is_jax_that_traces(folder):
    with jax.default_device(jax.devices()[-1]):
        found = start(static_argnames=("power",))({"x": ARRAY}, ARRAY).total
    assert found.devices() == {jax.devices()[-1]}
    jax.config.update("jax_compilation_cache_dir", None)
    np.testing.assert_array_equal(start(static_argnames=("power",))({"x": ARRAY}, ARRAY).total, found)
    assert not files(folder)


def test_within_a_traced_function_it_is_a_part_of_that(folder):
    function = start(lambda a: a**2)
    np.testing.assert_array_equal(jax.vmap(function)(ARRAY), ARRAY**2)
    np.testing.assert_allclose(jax.grad(lambda a: function(a).sum())(ARRAY), 2 * ARRAY)
    assert not files(folder)


def test_what_cannot_be_kept_is_computed_all_the_same(folder):
    function = start(lambda a: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(a.shape, a.dtype), a))
    for _ in range(2):
        np.testing.assert_allclose(function(ARRAY), np.sin(ARRAY))
    assert not files(folder)


# ------------------------------------------------------------------------------------- the programs of perfusion maps


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def curves(*shape: int) -> np.ndarray:
    return np.abs(numbers(*shape))


FRAMES, VOXELS = 20, deconvolution.BLOCK
TABLES = dictionary.blank(FRAMES, parametric.USUAL_FIT.delay_range, parametric.USUAL_FIT.dispersion)
TABLES = jax.device_put(TABLES._replace(curves=curves(*TABLES.curves.shape), times=curves(*TABLES.times.shape)))
MEAN, SPREAD = parametric._prior(parametric.USUAL_FIT)
DATA = numbers(VOXELS, TABLES.curves.shape[-1])
PLACES = np.broadcast_to(MEAN, (VOXELS, 3)) + np.float32(0.1)
FOUND = parametric.Maximum(*(curves(VOXELS, *shape) for shape in ((3,), (), (), (2,), (), (3, 3))))
POSE, POINTS = np.eye(4, dtype=np.float32), registration._PADDING
WHERE = np.float32(RANDOM.uniform(0, 3, (3, POINTS)))
PROGRAMS = {
    "registration._smaller": ((curves(1, 16, 16, 4),), {"factors": (2, 2, 1), "sigma": (1.0, 1.0, 0.0)}),
    "registration._register": (
        (
            curves(1, 16, 16, 4),
            POSE,
            WHERE,
            numbers(POINTS, 12),
            curves(POINTS),
            POSE,
            POSE[:3, :3],
        ),
        {"rounds": 2, "steps": 2},
    ),
    "motion._resample": ((curves(16, 16, 4), curves(16, 16, 4), POSE, POSE), {}),
    "deconvolution._peaks_of_product": (
        (curves(VOXELS, FRAMES),),
        {"inverse": numbers(FRAMES, FRAMES), "allowed": None},
    ),
    "deconvolution._calm_peaks": (
        (curves(VOXELS, FRAMES),),
        {
            "analysis": numbers(FRAMES, 6),
            "keep": np.float32(np.tri(6)),
            "synthesis": numbers(6, FRAMES),
            "fine": numbers(6, 2 * FRAMES),
            "largest_index": np.float32(0.1),
            "allowed": np.ones(2 * FRAMES, bool),
        },
    ),
    "parametric._projected": ((curves(VOXELS, FRAMES), curves(VOXELS), TABLES.basis), {}),
    "parametric._starts": ((DATA, TABLES, MEAN, SPREAD), {}),
    "parametric._refine": ((DATA, PLACES, PLACES, TABLES, SPREAD), {"steps": 2}),
    "parametric._better": ((FOUND, FOUND._replace(value=curves(VOXELS))), {}),
    "parametric._laplace": ((DATA, FOUND, SPREAD), {}),
}
ROOMS = {"registration": registration, "motion": motion, "deconvolution": deconvolution, "parametric": parametric}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_maps_compute_the_same_bits_kept_or_not(folder, monkeypatch, name):
    room, _, function = name.partition(".")
    made = getattr(ROOMS[room], function)
    values, named = PROGRAMS[name]
    static = made.static
    by_jax = made.jitted(*values, **named)
    programs.jit(made.function, static_argnames=static)(*values, **named)
    assert len(files(folder)) == 1
    second = programs.jit(made.function, static_argnames=static)
    monkeypatch.setattr(programs.export, "export", None)  # nothing is traced again
    found = second(*values, **named)
    assert jax.tree.structure(found) == jax.tree.structure(by_jax)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(by_jax), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("asked", [jax.disable_jit, lambda: jax.debug_nans(True)], ids=["no programs", "find NaN"])
def test_what_jax_is_asked_for_while_one_debugs_is_done(folder, asked):
    with asked():
        assert start(lambda x: np.float32(2) * x)(ARRAY).tobytes() == (2 * ARRAY).tobytes()
    assert not files(folder)
