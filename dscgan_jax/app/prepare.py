"""--mode=prepare: exams onto the network grid, as a data set that is kept."""

from typing import Any

import ml_collections

from dscgan_jax import settings
from dscgan_jax.app import options, places
from dscgan_jax.app.output import print_folder_findings
from dscgan_jax.data import dataset, layouts, shards
from dscgan_jax.data.record import DataRecord
from dscgan_jax.evaluation import records
from dscgan_jax.findings import Finding


def run(config: ml_collections.ConfigDict) -> None:
    """Prepares the data set of a config."""
    prepare(config)


def prepare(
    config: ml_collections.ConfigDict, for_training: bool = True, beam: shards.BeamRun | None = None
) -> tuple[Any, DataRecord]:
    """The prepared data set and what a checkpoint keeps of it.

    `for_training=False` asks for no training subject and no target: exams that are only scored need neither.
    `beam` prepares them on the workers of Apache Beam.
    """
    settings.check(config)
    places.cache_dir(config)  # is known, or nothing begins
    source = config.data.root or records.PHANTOM
    config = places.with_root(config)
    print(f"exams: {config.data.root}")
    builder = dataset.prepared(config, for_training=for_training, beam=beam)
    metadata = builder.info.metadata
    data = DataRecord.of(metadata, source, places.series_bytes(places.find_subjects(config)))
    in_splits = ", ".join(
        f"{data.counts[f'n_{split}']} {split} subjects, {builder.info.splits[split].num_examples} slices"
        for split in layouts.SPLITS
    )
    print(f"prepared: {builder.data_dir} ({in_splits})")
    for row in metadata["excluded"]:
        print(f"  left out: {row['subject']}: {row['reason']}")
    findings = {subject: [Finding.from_json(one) for one in found] for subject, found in metadata["findings"].items()}
    print_folder_findings(findings, options.PREPARE)
    return builder, data
