"""Where arrays live: the batch is split over the mesh axis `data`, everything else is on every device.

Under `jit` XLA then computes each mean over the global batch (losses and batch norms alike), so the number of devices
changes the speed and nothing else.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis, `data`, over `devices` (default: all, of every process)."""
    devices = jax.devices() if devices is None else devices
    # Auto: XLA propagates shardings. The default of jax.make_mesh would make them part of every type.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device, whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis (slices) over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_batch(batch: Tree, mesh: Mesh) -> Tree:
    """This process's share of a batch, any tree of arrays -> the global batch on the devices."""
    sharding = split_batch(mesh)
    return jax.tree.map(lambda values: jax.make_array_from_process_local_data(sharding, values), batch)


def own_rows(array: jax.Array) -> np.ndarray:
    """This process's rows of an array that is split over `data`, in the order in which `place_batch` took them."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def own_copy(tree: Tree) -> Tree:
    """Replicated arrays -> the same on one device of this process, for what a process does without the others."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def place_state(state: Tree, mesh: Mesh) -> Tree:
    """A tree of arrays -> the same on every device of the mesh."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(state)
