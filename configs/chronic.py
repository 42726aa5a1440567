"""What the configs finetune_*.py share: the paper's chronic cohort, and how its models go on from the acute ones."""

import ml_collections

EPOCHS = 50.0  # section 2.4: "further trained for 50 epochs"
TRAINING, VALIDATION, TEST = 50, 8, 12  # patients, section 2.1


def fine_tune(config: ml_collections.ConfigDict, name: str, variant: str | None) -> None:
    """Makes the config of an acute model that of its fine-tuning.

    Args:
      config: of the acute model.
      name: of its file, `temp_tmax`.
      variant: of it, such as `demo`.

    The network begins with the best step of `runs/<name>[-<variant>]`, where that config's run is by default; for
    another place give --config.train.start_from. Steps, learning rates and Adam's moments begin anew; the paper does
    not say whether its moments did, and the released code restores them.
    """
    config.phantom.preset = "chronic"
    config.phantom.subjects = subjects = TRAINING + VALIDATION + TEST
    config.data.split_fractions = (TRAINING / subjects, VALIDATION / subjects, TEST / subjects)
    config.train.epochs = EPOCHS
    config.train.steps //= 3  # where a variant counts in steps; 0 stays 0
    config.train.start_from = f"runs/{name}" + (f"-{variant}" if variant else "")
    config.train.start_discriminator = config.loss.objective != "l1"  # where there is one, as the released code does
    # Raw signal has the units of its scanner, which the acute exams' ranges do not fit; the released code takes the
    # ranges of the exams that it trains on. S/S0 means the same everywhere, and the numbers go on meaning it.
    config.train.start_ranges = "own" if config.data.signal == "raw" else "start_from"
