"""Launch scripts print exactly what they would run."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAPER = [f"{generator}_{name}" for generator in ("temp", "pix2pix") for name in ("cbf", "cbv", "mtt", "tmax", "ttp")]
SRUN = ["--cpus-per-task=8", "--kill-on-bad-exit=1", "python", "-m", "dscgan_jax.main"]


def launch(script, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch" / script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/nowhere", "XLA_FLAGS": ""},
    )


def dry_run(script, *arguments):
    done = launch(script, "--dry_run", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(sys.executable, "python")


def test_local_launch_prints_environment_and_command():
    printed = dry_run(
        "local.py", "--workdir=runs/a b", "--gpus=0,2", "--deterministic", "--", "--config.train.batch_size=16"
    )
    assert printed == (
        "JAX_PLATFORMS=cuda,cpu \\\n"
        "  XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 \\\n"
        "  XLA_FLAGS='--xla_gpu_enable_latency_hiding_scheduler=true --xla_gpu_deterministic_ops=true' \\\n"
        "  CUDA_VISIBLE_DEVICES=0,2 \\\n"
        "  python -m dscgan_jax.main --config=configs/temp_tmax.py '--workdir=runs/a b' --config.train.batch_size=16\n"
    )


def test_slurm_launch_of_two_nodes_prints_its_script():
    printed = dry_run(
        "slurm.py",
        "--config=configs/temp_all.py:published",
        "--workdir=runs/a b",
        "--nodes=2",
        "--gpus_per_node=4",
        "--cpus_per_gpu=6",
        "--mem=200G",
        "--time=02:30:00",
        "--partition=gpu",
        "--account=stroke",
        "--environment=module load cuda",
        "--environment=source venv/bin/activate",
        "--memory_fraction=0.8",
        "--",
        "--config.train.batch_size=32",
        "--config.train.learning_rate_scaling=sqrt",
    )
    assert printed == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=temp_all-published\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --gpus-per-node=4\n"
        "#SBATCH --cpus-per-task=24\n"
        "#SBATCH --mem=200G\n"
        "#SBATCH --time=02:30:00\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --account=stroke\n"
        "#SBATCH --output=slurm-%j.out\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --requeue\n"
        "set -e\n"
        "module load cuda\n"
        "source venv/bin/activate\n"
        "export JAX_PLATFORMS=cuda,cpu\n"
        "export XLA_PYTHON_CLIENT_MEM_FRACTION=0.8\n"
        "export XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true\n"
        "export JAX_LOCAL_DEVICE_IDS=0,1,2,3\n"
        'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 python -m dscgan_jax.main '
        "--config=configs/temp_all.py:published '--workdir=runs/a b' --distributed=auto --config.train.batch_size=32 "
        "--config.train.learning_rate_scaling=sqrt\n"
    )


def test_slurm_launch_of_the_papers_ten_models_prints_an_array_job():
    printed = dry_run("slurm.py", "--array=paper", "--", "--config.train.epochs=50")
    assert printed == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=dscgan_jax\n"
        "#SBATCH --nodes=1\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --gpus-per-node=1\n"
        "#SBATCH --cpus-per-task=8\n"
        "#SBATCH --mem=64G\n"
        "#SBATCH --time=24:00:00\n"
        "#SBATCH --array=0-9\n"
        "#SBATCH --output=slurm-%A_%a.out\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --requeue\n"
        "set -e\n"
        "export JAX_PLATFORMS=cuda,cpu\n"
        "export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9\n"
        "export XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true\n"
        f"configs=({' '.join(f'configs/{name}.py' for name in PAPER)})\n"
        f"names=({' '.join(PAPER)})\n"
        'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 python -m dscgan_jax.main '
        '"--config=${configs[$SLURM_ARRAY_TASK_ID]}" --workdir=runs/"${names[$SLURM_ARRAY_TASK_ID]}" '
        "--config.train.epochs=50\n"
    )


def array(arguments, task, tmp_path):
    """What bash, reading the script, gives to the task's srun."""
    (tmp_path / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", dry_run("slurm.py", *arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "8"},
    )
    return done.stdout.splitlines()


def test_the_last_task_of_the_array_runs_the_last_model(tmp_path):
    assert array(["--array=paper:demo", "--workdir=my runs"], 9, tmp_path) == [
        *SRUN,
        "--config=configs/pix2pix_ttp.py:demo",
        "--workdir=my runs/pix2pix_ttp-demo",
    ]


def test_an_array_of_fine_tuning_goes_on_from_the_runs_beside_its_own(tmp_path):
    assert array(["--array=finetune:demo"], 3, tmp_path) == [
        *SRUN,
        "--config=configs/finetune_temp_tmax.py:demo",
        "--workdir=runs/finetune_temp_tmax-demo",
    ]
    both = ["--array=recommended,finetune_recommended", "--workdir=my runs", "--", "--config.seed=1"]
    assert array(both, 0, tmp_path) == [
        *SRUN,
        "--config=configs/recommended_temp.py:cbf",
        "--workdir=my runs/recommended_temp-cbf",
        "--config.seed=1",
    ]
    assert array(both, 19, tmp_path) == [
        *SRUN,
        "--config=configs/finetune_recommended_pix2pix.py:ttp",
        "--workdir=my runs/finetune_recommended_pix2pix-ttp",
        "--config.train.start_from=my runs/recommended_pix2pix-ttp",
        "--config.seed=1",
    ]


def test_the_papers_ten_models_and_their_fine_tuning_are_shipped():
    shipped = {path.stem for path in (ROOT / "configs").glob("*_*.py")}
    assert shipped >= {*PAPER, *(f"finetune_{name}" for name in PAPER)}


def test_tpu_launch_prints_the_command_of_a_slice():
    printed = dry_run(
        "tpu.py",
        "--name=slice",
        "--zone=us-central2-b",
        "--project=stroke",
        "--workdir=/mnt/runs/a b",
        "--folder=code/dscgan_jax",
        "--environment=source venv/bin/activate",
        "--",
        "--config.train.batch_size=32",
    )
    assert printed == (
        "gcloud compute tpus tpu-vm ssh slice --worker=all --zone=us-central2-b --project=stroke "
        "'--command=cd code/dscgan_jax && source venv/bin/activate && JAX_PLATFORMS=tpu,cpu python3 -m dscgan_jax.main "
        "--config=configs/temp_tmax.py '\"'\"'--workdir=/mnt/runs/a b'\"'\"' --distributed=auto "
        "--config.train.batch_size=32'\n"
    )


def test_tpu_launch_prints_the_command_of_one_machine():
    assert dry_run("tpu.py", "--local", "--workdir=runs/x") == (
        "JAX_PLATFORMS=tpu,cpu \\\n  python -m dscgan_jax.main --config=configs/temp_tmax.py --workdir=runs/x\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slurm.py"], "there is no sbatch here"),
        (["slurm.py", "--array=paper", "--config=configs/temp_all.py"], "leave --config out"),
        (["slurm.py", "--array=paper,configs/temp_cbf.py"], "names temp_cbf twice"),
        (["slurm.py", "--array=recommended:demo"], "leave :demo out"),
        (["tpu.py", "--name=a", "--zone=b", "--workdir=/mnt/c"], "there is no gcloud here"),
        (["tpu.py", "--name=a", "--zone=b"], "needs --name, --zone and --workdir"),
        (["tpu.py"], "give either --local"),
    ],
)
def test_a_launch_that_cannot_be_says_so_in_one_line(arguments, words):
    done = launch(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode=train"], "--mode=train: a Beam job is one of deconvolve, predict, prepare."),
        (["--mode=predict", "--mask=x", "--input=."], "give <subject>_mask.nii.gz beside each series"),
        (["--mode=deconvolve", "--output=y"], "needs the folder of exams: give --input=FOLDER."),
        (["--mode=predict", "--input=.", "--output=y", "--workers=2"], "the runner decides how many workers there are"),
    ],
)
def test_a_beam_job_that_cannot_be_is_one_line(arguments, words):
    if arguments != ["--mode=train"]:
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed (the extra beam)")
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "beam.py"), *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
