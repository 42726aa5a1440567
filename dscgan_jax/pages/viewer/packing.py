"""Arrays small enough to lie in a page: quantised, compressed, as text. `viewer.js` unpacks them.

Volumes are put in the order in which a page shows them, (slice, row, col) in radiological order: row 0 anterior, the
patient's right on the left.
"""

import base64
import dataclasses
import zlib

import numpy as np

from dscgan_jax.threads import in_threads

CODES = 65534  # of a map: 1 to 65535 are values, 0 is none
LEVELS = 47  # of a curve, between the lowest and the highest value of its voxel; more would keep its noise
GREYS = 63  # of the film; noise of more levels than the eye sees would not compress
MOST_CURVE_VALUES = 8_000_000  # more are means over neighbours: a page of 25 slices of 128 x 128 voxels has 7 million
MOST_FILM_VALUES = 8_000_000
COMPRESSION = 4  # zlib's, which looks for runs alone: noise repeats nothing else, and looking takes five times as long


@dataclasses.dataclass(frozen=True)
class Packed:
    """Arrays of a page.

    Attributes:
      dtypes: {name: NumPy's name of the type}.
      texts: {name: values, in C order and little-endian, deflated, in base64}.
    """

    dtypes: dict[str, str]
    texts: dict[str, str]

    @classmethod
    def of(cls, **arrays: np.ndarray) -> "Packed":
        """Packs them."""
        return cls(
            {name: array.dtype.name for name, array in arrays.items()},
            dict(zip(arrays, in_threads(_text, arrays.values()), strict=True)),
        )


def _text(array: np.ndarray) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    deflate = zlib.compressobj(COMPRESSION, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return base64.b64encode(deflate.compress(little.tobytes()) + deflate.flush()).decode("ascii")


def as_shown(volume: np.ndarray) -> np.ndarray:
    """(x, y, z, ...) on RAS axes -> (slice, row, col, ...) as pages show it."""
    return np.moveaxis(volume[::-1, ::-1], (2, 1, 0), (0, 1, 2))


def shown_to_ras(shape: tuple[int, int, int]) -> np.ndarray:
    """(4, 4) from (col, row, slice) as shown to voxel indices on RAS axes.

    Args:
      shape: (x, y, z).
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = shape[0] - 1, shape[1] - 1
    return flip


def map_codes(volume: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A map as whole numbers, which are 0 outside; a step is the 65534th part of its range.

    Args:
      volume: of any shape.
      inside: bool, likewise.

    Returns:
      uint16 codes, and the values of the codes 1 and 65535.
    """
    values = volume[inside]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if not high > low:
        high = low + 1.0
    codes = np.zeros(volume.shape, np.uint16)
    codes[inside] = 1 + np.rint((values.astype(np.float64) - low) * (CODES / (high - low))).astype(np.uint16)
    return codes, low, high


@dataclasses.dataclass(frozen=True)
class CurveCodes:
    """Curves of the tissue as whole numbers.

    Attributes:
      block: edge, in voxels, of the squares over whose tissue each curve is a mean; 1: each voxel has its own.
      low, high: (square,) float32, what 0 and `LEVELS` stand for.
      measured, fitted: (time, square) uint8; squares in the order in which the page shows them. The fit, which is
        smooth, is kept as what it adds to the frame before (modulo 256).
    """

    block: int
    low: np.ndarray
    high: np.ndarray
    measured: np.ndarray
    fitted: np.ndarray | None


def curve_codes(tissue: np.ndarray, measured: np.ndarray, fitted: np.ndarray | None) -> CurveCodes:
    """Curves, of single voxels where a page has room for them, else means over squares of a slice.

    Args:
      tissue: (x, y, z) bool, RAS.
      measured: (voxel, time), in the order of `tissue`.
      fitted: likewise; None: there are none.
    """
    block = 1
    squares = _squares(tissue, block)
    while (squares.max(initial=-1) + 1) * measured.shape[1] > MOST_CURVE_VALUES:
        block += 1
        squares = _squares(tissue, block)
    means = [None if curves is None else _means(curves, squares) for curves in (measured, fitted)]
    known = [curves for curves in means if curves is not None]
    low = np.min([curves.min(axis=1) for curves in known], axis=0)
    high = np.max([curves.max(axis=1) for curves in known], axis=0)
    step = np.maximum(high - low, 1e-12) / LEVELS
    codes = [
        None if curves is None else np.rint((curves - low[:, None]) / step[:, None]).astype(np.uint8).T
        for curves in means
    ]
    assert codes[0] is not None
    fit = None if codes[1] is None else _added(codes[1])
    return CurveCodes(block, low.astype(np.float32), (low + LEVELS * step).astype(np.float32), codes[0], fit)


def _squares(tissue: np.ndarray, block: int) -> np.ndarray:
    """(voxel,) number of the square in which each voxel lies, counted as a page shows them."""
    x, y, z = np.nonzero(tissue)
    column, row = tissue.shape[0] - 1 - x, tissue.shape[1] - 1 - y
    wide, high = -(-tissue.shape[0] // block), -(-tissue.shape[1] // block)
    return np.unique((z * high + row // block) * wide + column // block, return_inverse=True)[1]


def _means(curves: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """(square, time) mean of the curves in each square."""
    order = np.argsort(squares, kind="stable")
    counts = np.bincount(squares)
    if len(counts) == len(curves):
        return curves[order]
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.add.reduceat(curves[order], begins, axis=0) / counts[:, None]


def film_codes(series: np.ndarray, white: float) -> np.ndarray:
    """The series as a film, (time, slice, row, col) uint8, binned within slices where it is large.

    Values go up to `GREYS`; what is kept is what each frame adds to the one before, modulo 256.

    Args:
      series: (x, y, z, time), RAS.
      white: the signal that is shown as white.
    """
    block = 1
    while series.size / block**2 > MOST_FILM_VALUES and block < min(series.shape[:2]):
        block += 1
    scale = GREYS / white
    frames = []
    for frame in np.moveaxis(series, 3, 0):  # one at a time: a series need not be in memory twice
        shown = _binned(as_shown(frame), block)
        frames.append(np.minimum(np.rint(shown * scale), GREYS).astype(np.uint8))
    return _added(np.stack(frames))


def _added(frames: np.ndarray) -> np.ndarray:
    """(time, ...) uint8: what each frame adds to the one before."""
    return np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1]))


def _binned(shown: np.ndarray, block: int) -> np.ndarray:
    """(slice, row, col) means over squares; what is left at the edges belongs to smaller ones."""
    if block == 1:
        return shown
    for axis in (1, 2):
        rows = [shown[:, step::block] if axis == 1 else shown[:, :, step::block] for step in range(block)]
        total = np.zeros_like(rows[1], order="C")
        for row in rows[1:]:
            total[:, : row.shape[1], : row.shape[2]] += row  # of the last square there may be less
        rest, total = total, np.array(rows[0], order="C")
        total[:, : rest.shape[1], : rest.shape[2]] += rest
        counts = np.diff([*range(0, shown.shape[axis], block), shown.shape[axis]])
        shown = total / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    return shown
