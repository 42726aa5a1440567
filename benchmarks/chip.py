"""What XLA has to know of an H100 to compile for one that is not there.

Figures of a chip decide tiles, launch sizes and what is fused; a program for them runs on that chip. `Chip` holds what
the compiler asks for, `target_config` writes it as XLA's text proto (`GpuTargetConfigProto`, openxla/xla,
`xla/stream_executor/device_description.proto`; examples of other chips: `target_config/specs` there).
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """A GPU as its vendor describes it.

    Attributes:
      name: as the driver calls it.
      capability: compute capability, (major, minor).
      multiprocessors: how many.
      lanes: float32 units of each of them.
      clock_ghz: the highest.
      memory_bytes, memory_bytes_per_second: of the device memory.
      l2_bytes: of the cache that all multiprocessors share.
      shared_bytes, shared_bytes_of_block: fast memory of a multiprocessor, and what one block of threads may ask for.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    clock_ghz: float
    memory_bytes: int
    memory_bytes_per_second: int
    l2_bytes: int
    shared_bytes: int
    shared_bytes_of_block: int


# Multiprocessors, lanes, cache: NVIDIA, H100 Tensor Core GPU Architecture (whitepaper, 2022), tables of the SXM5 form.
# Memory and its rate: NVIDIA, H100 data sheet, SXM: 80 GB, 3.35 TB/s. Clock: the highest that nvidia-smi lists.
# Shared memory: CUDA C++ Programming Guide, compute capability 9.0: 228 KiB, of which a block may have 227.
H100 = Chip(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    multiprocessors=132,
    lanes=128,
    clock_ghz=1.98,
    memory_bytes=80 * 2**30,
    memory_bytes_per_second=3_350_000_000_000,
    l2_bytes=50 * 2**20,
    shared_bytes=228 * 2**10,
    shared_bytes_of_block=227 * 2**10,
)

# The same for each compute capability from 7.0 on: CUDA C++ Programming Guide, technical specifications.
THREADS = {
    "threads_per_warp": 32,
    "threads_per_block_limit": 1024,
    "threads_per_core_limit": 2048,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
    "shared_memory_per_block": 48 * 2**10,  # without asking for more
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
}
# Oldest libraries that the program may meet: those of CUDA 13.
CUDA, CUDNN = (13, 0, 0), (9, 10, 0)


def target_config(chip: Chip) -> str:
    """The chip as XLA's text proto; what is not in it has no influence on the programs of this package."""
    sizes = {
        **THREADS,
        "core_count": chip.multiprocessors,
        "fpus_per_core": chip.lanes,
        "clock_rate_ghz": chip.clock_ghz,
        "device_memory_size": chip.memory_bytes,
        "memory_bandwidth": chip.memory_bytes_per_second,
        "l2_cache_size": chip.l2_bytes,
        "shared_memory_per_core": chip.shared_bytes,
        "shared_memory_per_block_optin": chip.shared_bytes_of_block,
    }
    cuda, cudnn = (".".join(map(str, version)) for version in (CUDA, CUDNN))
    major, minor = chip.capability
    lines = [
        "gpu_device_info {",
        *(f"  {name}: {value}" for name, value in sizes.items()),
        f"  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: ACCELERATED_FEATURES }}",
        *(f'  {name}: "{cuda}"' for name in ("driver_version", "runtime_version", "compile_time_toolkit_version")),
        f'  dnn_version: "{cudnn}"',
        "}",
        'platform_name: "CUDA"',
        "dnn_version_info {{ major: {} minor: {} patch: {} }}".format(*CUDNN),
        f'device_description_str: "{chip.name}"',
    ]
    return "\n".join(lines) + "\n"
