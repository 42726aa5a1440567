"""Where the processors' time of a training step and of inference goes on a CPU: shares by kind of work, a table.

python benchmarks/cpu_shares.py      # Linux with `perf`; two minutes; wants a machine without other work

Programs are compiled in this process, as in a first run. Loops that XLA compiles hold small matrix products, too: their
code has no names that would tell one from the other.
"""

import functools
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable

import jax

from dscgan_jax.configs import default
from dscgan_jax.speed import inputs
from dscgan_jax.training import inference, memory, sharding

SIZE, WIDTH, BATCH, TIMES = 64, 16, 4, 12
KINDS = {  # the first pattern that a symbol, or its library, matches
    "matrix products of libraries": r"ynn::dot|gebp|TensorContractionKernel",
    "packing of their operands": r"gemm_pack",
    "other operations of libraries": r"ynn::|libjax_common",
    "compiled loops": r"\[JIT\]",
    "allocation": r"malloc|free|memalign",
    "Linux": r"kernel",
}


def programs() -> dict[str, Callable[[], object]]:
    """What is looked at, each as a call that waits for its result."""
    config = default.get_config()
    config.train.batch_size, config.model.width, config.data.size = BATCH, WIDTH, SIZE
    networks, optimisers, state = inputs.untrained(config)
    mesh = sharding.data_mesh()
    batch = sharding.place_batch(inputs.synthetic_batch(config), mesh)
    state = sharding.place_state(state, mesh)
    step = inputs.training_step(config, networks, optimisers).lower(state, batch).compile()
    kept = [state]

    def train() -> None:
        kept[0], _ = step(kept[0], batch)
        jax.block_until_ready(kept[0])

    calls: dict[str, Callable[[], object]] = {"training step": train}
    for mode in ("per_slice", "running"):
        apply = functools.partial(
            inference.predict_step, networks=networks, scaling=inputs.scaling_of(config), mode=mode
        )
        jitted = jax.jit(apply, compiler_options=inference.compiler_options())
        compiled = jitted.lower(state.generator, batch).compile()
        calls[f"inference, {mode}"] = functools.partial(
            _waited, compiled, jax.tree.map(jax.numpy.copy, state.generator), batch
        )
    return calls


def _waited(program: Callable[..., jax.Array], *arguments: object) -> jax.Array:
    return jax.block_until_ready(program(*arguments))


def shares(call: Callable[[], object]) -> tuple[Counter[str], float]:
    """Per cent of the processors' time by kind, and the median of the seconds of a call."""
    call()
    with tempfile.NamedTemporaryFile(suffix=".perf") as record:
        watching = subprocess.Popen(
            ["perf", "record", "-F", "499", "-p", str(os.getpid()), "-o", record.name], stderr=subprocess.DEVNULL
        )
        time.sleep(1.0)
        seconds = []
        for _ in range(TIMES):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        watching.send_signal(signal.SIGINT)
        watching.wait()
        report = ["perf", "report", "-i", record.name, "--no-children", "-g", "none", "--sort", "dso,symbol"]
        lines = subprocess.run(report, capture_output=True, text=True, check=True).stdout.splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if line_of := re.match(r"\s*([\d.]+)%\s+(.*)", line):
            kind = next((name for name, pattern in KINDS.items() if re.search(pattern, line_of[2])), "other")
            found[kind] += float(line_of[1])
    return found, sorted(seconds)[TIMES // 2]


def main() -> None:
    memory.keep_freed_memory()  # as every run does
    memory.take_huge_pages()
    jax.config.update("jax_enable_compilation_cache", False)
    results = {name: shares(call) for name, call in programs().items()}
    print(f"| | {' | '.join(results)} |\n|---|{'---|' * len(results)}")
    for kind in (*KINDS, "other"):
        print(f"| {kind} | {' | '.join(f'{found[kind]:.0f} %' for found, _ in results.values())} |")
    print(f"| median | {' | '.join(f'{seconds:.2f} s' for _, seconds in results.values())} |")


if __name__ == "__main__":
    main()
