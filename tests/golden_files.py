"""The golden subset in tests/golden: what is kept of the full golden files, and how their numbers come back.

Large inputs and initial weights are not stored. They were random numbers of a Mersenne Twister, scaled and rounded to
half precision, so the same formulas give them again; `drawn.json` holds one recipe for each of them, the few values
that round to the other side are stored, and a CRC-32 is compared. Large arrays without a recipe (states after training
steps, features of the first temporal blocks) are left out: tests compare what a file holds.

To make the subset from the full files: python tests/golden_files.py FOLDER_OF_THE_FULL_FILES
"""

import functools
import json
import pathlib
import re
import sys
import zlib
from typing import NamedTuple

import numpy as np

SUBSET = pathlib.Path(__file__).resolve().parent / "golden"
RECIPES = "drawn.json"
CHANGED = "changed/"  # of a drawn array: which elements are stored, under its name
STREAM = 3 * 2**20  # numbers of seed 0, from which all weights come
WEIGHTS = 0.05  # standard deviation of drawn weights of 2-D convolutions
WORTH_DRAWING = 3000  # elements; smaller arrays are stored

# What each file of the subset keeps, besides what is drawn: names, and the most elements that such an array may have.
ANY_SIZE = 10**9
FORWARD = (r"state/|after_train/|(out|pre_tanh|logits)_train|(out|logits)_eval", ANY_SIZE)
STEPS = (r"grad1|step1/", 2048)
AFTER_STEPS = (r"step3/", 8192)  # so many that the share within a tolerance stays as it is of all
KEPT = {
    "patch_bn.npz": [FORWARD],
    "unet_deconv_bn.npz": [FORWARD, (r"inter_train/", 4096)],
    "temp_deconv_bn.npz": [FORWARD, (r"inter_train/tmp_[56]", ANY_SIZE)],
    "train_step_temp.npz": [(r"y$|init/|f64/", ANY_SIZE), STEPS, AFTER_STEPS],
    "train_step_temp_logits.npz": [(r"f64/", ANY_SIZE), STEPS, AFTER_STEPS],
    "train_step_temp_unpack.npz": [(r"f64/", ANY_SIZE)],
    "metrics_reference.npz": [(r"", ANY_SIZE)],
}


class Recipe(NamedTuple):
    """How a random array is drawn.

    Attributes:
      seeds: of the Mersenne Twister; several for parts along the first axis.
      offset: numbers of its stream that come before.
      kind: `normal` or `uniform` (symmetric about zero).
      scale: standard deviation, or largest magnitude.
      shape: of the array.
      crc: CRC-32 of the float32 array.
    """

    seeds: tuple[int, ...]
    offset: int
    kind: str
    scale: float
    shape: tuple[int, ...]
    crc: int


@functools.lru_cache(maxsize=4)
def stream(seed: int, count: int) -> np.ndarray:
    """The first numbers in [0, 1) of a Mersenne Twister, 24 bits each."""
    words = np.random.RandomState(seed).randint(0, 2**32, count, dtype=np.uint32)
    return (words & np.uint32(2**24 - 1)) / 2**24


def drawn(recipe: Recipe) -> np.ndarray:
    """The array of a recipe, rounded to half precision, as float32."""
    parts = [_values(recipe, seed) for seed in recipe.seeds]
    return np.concatenate(parts).reshape(recipe.shape).astype(np.float16).astype(np.float32)


def _values(recipe: Recipe, seed: int) -> np.ndarray:
    """Random numbers of one seed, flat."""
    size = int(np.prod(recipe.shape)) // len(recipe.seeds)
    uniform = stream(seed, STREAM if seed == 0 else size)[recipe.offset : recipe.offset + size]
    if recipe.kind == "uniform":
        return recipe.scale * (2 * uniform - 1)
    radii, angles = np.moveaxis(uniform.reshape(-1, 2, 8), 1, 0)  # Box and Muller: eight radii, eight angles
    radii, angles = np.sqrt(-2 * np.log(1 - radii)), 2 * np.pi * angles
    return recipe.scale * np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).ravel()


def expand(folder: pathlib.Path) -> None:
    """Writes files with the names of the full ones, holding the same numbers, into a folder.

    Raises:
      ValueError: an array that is drawn is another one than it was.
    """
    recipes = json.loads((SUBSET / RECIPES).read_text())
    for path in sorted(SUBSET.glob("*.npz")):
        stored, arrays = np.load(path), {}
        for name in (name for name in stored.files if not name.startswith(CHANGED)):
            arrays[name] = stored[name]
            if fields := recipes.get(path.name, {}).get(name):
                arrays[name] = drawn(Recipe(**fields))
                arrays[name].ravel()[stored[CHANGED + name]] = stored[name]
                if zlib.crc32(arrays[name].tobytes()) != fields["crc"]:
                    raise ValueError(f"{path.name}: {name} is not drawn as it was; take the full golden files.")
        np.savez(folder / path.name, **arrays)
    for path in SUBSET.glob("metrics*.json"):
        (folder / path.name).write_bytes(path.read_bytes())


def is_subset(folder: pathlib.Path) -> bool:
    """Whether golden files are those of the subset: it holds no checkpoint files."""
    return not any(folder.glob("*.pth"))


# --- How the subset was made ---------------------------------------------------------------------------------------


def find_recipe(name: str, array: np.ndarray) -> Recipe | None:
    """Where in the streams an array stands; None if nowhere, or too small to be worth it."""
    if array.dtype != np.float32 or array.size < WORTH_DRAWING or array.size % 16:
        return None
    crc = zlib.crc32(array.tobytes())
    if name == "x":
        parts = len(array) if array.ndim == 5 else 1  # of a training file: a batch for each step
        candidates = (Recipe(tuple(range(s, s + parts)), 0, "normal", 1.0, array.shape, crc) for s in range(1, 200))
    else:
        numbers = _numbers(array.shape)
        candidates = (
            Recipe((0,), int(offset), kind, scale, array.shape, crc)
            for kind, scale, stream_values in numbers
            for offset in np.flatnonzero(np.abs(stream_values - array.ravel()[0]) < 3e-3 * scale)
        )
    return next((recipe for recipe in candidates if _agrees(recipe, array)), None)


def _numbers(shape: tuple[int, ...]) -> list[tuple[str, float, np.ndarray]]:
    """Kinds of weights, their scale, and the first value of an array that began at each offset of seed 0."""
    uniform = stream(0, STREAM)
    normal = np.sqrt(-2 * np.log(1 - uniform[:-8])) * np.cos(2 * np.pi * uniform[8:])
    bound = float(1 / np.sqrt(np.prod(shape[1:])))  # one over the root of the kernel's size times its second axis
    return [("normal", WEIGHTS, WEIGHTS * normal), ("uniform", bound, bound * (2 * uniform - 1))]


def _agrees(recipe: Recipe, array: np.ndarray) -> bool:
    """Whether a recipe gives the first values of an array, up to rounding, and then nearly all of them."""
    if recipe.seeds == (0,) and recipe.offset + array.size > STREAM:
        return False
    first = drawn(recipe._replace(seeds=recipe.seeds[:1], shape=(16,)))
    close = np.allclose(first, array.ravel()[:16], rtol=2e-3, atol=1e-4 * recipe.scale)
    return close and bool((drawn(recipe) != array).mean() < 0.01)


def make(full: pathlib.Path) -> None:
    """Writes the subset, from the folder of the full files."""
    recipes = {}
    for file, kept in KEPT.items():
        archive, arrays, recipes[file] = np.load(full / file), {}, {}
        for name in archive.files:
            array = archive[name]
            if recipe := find_recipe(name, array):
                different = np.flatnonzero((drawn(recipe) != array).ravel())
                arrays[name], arrays[CHANGED + name] = array.ravel()[different], different.astype(np.uint32)
                recipes[file][name] = recipe._asdict()
            elif any(re.match(names, name) and array.size <= most for names, most in kept):
                arrays[name] = array
        np.savez_compressed(SUBSET / file, **arrays)
        print(file, len(arrays), "arrays,", len(recipes[file]), "drawn,", (SUBSET / file).stat().st_size, "bytes")
    (SUBSET / RECIPES).write_text(json.dumps(recipes, indent=1) + "\n")
    (SUBSET / "metrics_reference.json").write_bytes((full / "metrics_reference.json").read_bytes())


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
