"""--mode=train: the whole path, from exams to a page."""

import contextlib
import pathlib
import time

import jax
import ml_collections

from dscgan_jax import provenance, settings
from dscgan_jax.app import evaluate, usual
from dscgan_jax.app.prepare import prepare
from dscgan_jax.data import batches
from dscgan_jax.maps import MAPS
from dscgan_jax.methods.conventional import check_baselines
from dscgan_jax.training import distributed, fine_tuning, loop, sharding
from dscgan_jax.training.workdir import check_workdir, only_run

LONG_RUN_HOURS = 1.0


def run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | str, wait_seconds: float = distributed.WAIT_SECONDS
) -> None:
    """Prepares, trains and evaluates. Several processes train together; the lead prepares before and scores after."""
    workdir = pathlib.Path(workdir)
    settings.check(config)
    check_baselines(config)
    check_workdir(workdir, config)  # another config is refused before anything long starts
    if not (workdir / "checkpoints").is_dir():
        fine_tuning.beginning(config)  # likewise a network that does not fit
    mesh = sharding.data_mesh()
    batches.check_batch_size(config.train.batch_size, mesh.size, config.train.accumulate, settings.exam_slices(config))
    distributed.check_devices_reduce(mesh, wait_seconds)
    same = f"{settings.to_json(config)} {workdir.absolute()} {provenance.software_versions()}"
    distributed.check_same_everywhere(same)
    with distributed.silent_unless_lead(), contextlib.ExitStack() as held:
        distributed.lead_first("workdir", lambda: held.enter_context(only_run(workdir)))
        _run(config, workdir)


def _run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    begun = time.perf_counter()
    if distributed.is_lead() and not config.data.root:
        slices = config.data.slices or config.phantom.slices or 26
        hint_at_demo(config, round(config.data.split_fractions[0] * config.phantom.subjects * slices))
    builder, data = distributed.lead_first("prepare", lambda: prepare(config))
    n_slices = builder.info.splits["train"].num_examples
    if distributed.is_lead() and config.data.root:
        hint_at_demo(config, n_slices)
    print(
        f"training: {' '.join(MAPS[name].title for name in config.target)} with the {config.model.generator} "
        f"generator, {settings.total_steps(config, n_slices)} steps of {config.train.batch_size} slices on "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}{of_processes()}{scaled_rates(config.train)}"
    )
    loop.train(config, workdir, builder, data, tell=print)
    if not distributed.is_lead():
        return
    usual.measure(config, workdir)
    if data.counts["n_test"]:
        evaluate.of_run(config, workdir, "test", "best")
    else:
        print(f"no subject is in the test split, so nothing was scored. checkpoints: {workdir / 'checkpoints'}")
    print(f"total: {(time.perf_counter() - begun) / 60:.1f} min")


def of_processes() -> str:
    """How many processes train together, where there is more than one."""
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def scaled_rates(train_config: ml_collections.ConfigDict) -> str:
    """The learning rates that are used, where they are not those of the config."""
    factor = settings.learning_rate_factor(train_config)
    if factor == 1:
        return ""
    rates = [factor * rate for rate in (train_config.learning_rate, train_config.discriminator_learning_rate)]
    return (
        f", learning rates {rates[0]:.3g} and {rates[1]:.3g} ({train_config.learning_rate_scaling} from batches of "
        f"{train_config.learning_rate_batch})"
    )


def hint_at_demo(config: ml_collections.ConfigDict, n_slices: int) -> None:
    """On a CPU, prints roughly how long a long run takes, and goes on."""
    if jax.default_backend() == "cpu" and (hours := loop.rough_hours(config, n_slices)) > LONG_RUN_HOURS:
        print(
            f"training will take roughly {hours:,.0f} hours on this CPU; use a GPU, or the variant :demo "
            "(--config=configs/temp_tmax.py:demo) on a machine like this one. Continuing.",
            flush=True,
        )
