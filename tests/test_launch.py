"""Launch scripts print exactly what they would run."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def dry_run(script, *arguments):
    done = subprocess.run([sys.executable, str(ROOT / "launch" / script), "--dry_run", *arguments], check=True,
                          capture_output=True, text=True, env={"PATH": "/usr/bin", "XLA_FLAGS": ""})
    return done.stdout.replace(sys.executable, "python")


def test_local_launch_prints_environment_and_command():
    printed = dry_run("local.py", "--workdir=runs/a b", "--gpus=0,2", "--deterministic", "--",
                      "--config.train.batch_size=16")
    assert printed == (
        "JAX_PLATFORMS=cuda \\\n"
        "  XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 \\\n"
        "  XLA_FLAGS='--xla_gpu_enable_latency_hiding_scheduler=true --xla_gpu_deterministic_ops=true' \\\n"
        "  CUDA_VISIBLE_DEVICES=0,2 \\\n"
        "  python -m dscgan_jax.main --config=configs/temp_tmax.py '--workdir=runs/a b' --config.train.batch_size=16\n")
