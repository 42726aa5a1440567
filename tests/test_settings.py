"""A config is checked once, before anything long starts."""

import collections
import pathlib

import config_reads
import pytest
from command_line import parsed

from dscgan_jax import main, settings
from dscgan_jax.app import options
from dscgan_jax.configs import (
    ablations,
    chronic,
    comparators,
    default,
    physics,
    recommended_temp,
    temp_all,
    temp_tmax,
    volume,
)
from dscgan_jax.data import layouts
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.models import networks
from dscgan_jax.perfusion import conventional, motion
from dscgan_jax.phantom import cohort, presets

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "dscgan_jax"
# The method stands in the settings of deconvolution, and config.evaluate.baselines in its place.
FILLED_IN = {options.TRAIN: {"conventional.method"}}
FOLDER = PACKAGE.parent / "configs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py") if "def get_config(" in path.read_text(encoding="utf-8"))
OF_SIZE = (None, "demo", "published")
OF_MAP = (None, *MAP_NAMES, "all")
VARIANTS = {
    "physics": (None, *physics.VARIANTS),
    "comparators": (None, *comparators.VARIANTS),
    "volume": (None, *volume.VARIANTS),
    "ablations": tuple(ablations.CHANGES),
}


def variants_of(name):
    """All that a shipped config may be called with."""
    return VARIANTS.get(name, OF_MAP if "recommended" in name else OF_SIZE)


def config_of(name, variant=None):
    module = __import__(f"dscgan_jax.configs.{name}", fromlist=["get_config"])
    return module.get_config(variant)


ARTERIAL = {"model.arterial_input": True}
CROPPED = {"train.augment": True, "data.time_mode": "seconds"}
LOOKING = {"model.generator": "light", "model.looks": 2}


@pytest.mark.parametrize("variant", [None, "demo", "published"])
def test_every_variant_is_accepted(variant):
    settings.check(temp_tmax.get_config(variant))
    settings.check(temp_all.get_config(variant))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_accepted_and_its_networks_exist_in_all_variants(name):
    shapes = {}
    for variant in variants_of(name):
        config = config_of(name, variant)
        settings.check(config)
        model, frames, n_maps = config.model, config.data.frames, len(config.target)
        key = (str(model), frames, n_maps)
        if key not in shapes:
            shapes[key] = networks.parameter_count(networks.abstract_generator(model, frames, n_maps)[1])
        assert shapes[key] > 0
    with pytest.raises(ValueError, match=r"known are|one of the variants"):
        config_of(name, "nonsense")


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.rpartition("_")[2] in MAP_NAMES])
def test_a_config_predicts_the_map_that_it_is_named_after(name):
    config, generator = config_of(name), {"temp": "temporal", "pix2pix": "unet"}
    assert config.target == (name.rpartition("_")[2],)
    assert config.model.generator == generator[name.removeprefix("finetune_").partition("_")[0]]


def counts(config):
    split_of = cohort.split_subjects(config.phantom.subjects, config.data.split_fractions, config.phantom.seed)
    return tuple(collections.Counter(split_of.values())[split] for split in layouts.SPLITS)


def test_the_cohorts_have_the_papers_numbers_of_patients():
    assert counts(config_of("temp_tmax")) == (142, 20, 41)
    for name in (name for name in CONFIGS if name.startswith("finetune_")):
        for variant in variants_of(name):
            assert counts(config_of(name, variant)) == (50, 8, 12)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("finetune_")])
def test_fine_tuning_is_its_acute_model_going_on_with_chronic_exams(name):
    acute_name = name.removeprefix("finetune_")
    for variant in variants_of(name):
        acute, tuned = config_of(acute_name, variant), config_of(name, variant)
        before, after = (dict(leaves(config)) for config in (acute, tuned))
        changed = {field for field, value in after.items() if before[field] != value}
        assert changed <= {
            "phantom.preset",
            "phantom.subjects",
            "data.split_fractions",
            "train.epochs",
            "train.steps",
            "train.start_from",
            "train.start_ranges",
            "train.start_discriminator",
        }
        with parsed(f"--config=configs/{acute_name}.py" + (f":{variant}" if variant else "")):
            assert tuned.train.start_from == str(main.default_workdir())
        assert tuned.phantom.preset == "chronic" and tuned.train.epochs == chronic.EPOCHS == 50
        assert (tuned.train.start_ranges == "own") == (tuned.data.signal == "raw")
        assert tuned.train.steps == acute.train.steps // 3
    assert config_of("finetune_temp_tmax", "demo").train.steps == 266


@pytest.mark.parametrize("name", ablations.CHANGES)
def test_an_ablation_changes_what_it_says_and_nothing_else(name):
    change = ablations.CHANGES[name]
    assert change.why and change.why != name
    before, after = (
        dict(leaves(config)) for config in (recommended_temp.get_config("tmax"), config_of("ablations", name))
    )
    assert {field: value for field, value in after.items() if before[field] != value} == change.fields


def test_the_recommended_settings_are_the_demos_at_the_papers_size_without_a_discriminator():
    paper, demo, recommended = (
        dict(leaves(config))
        for config in (temp_tmax.get_config(), temp_tmax.get_config("demo"), recommended_temp.get_config("tmax"))
    )
    changed = {field for field, value in recommended.items() if paper[field] != value}
    assert len(changed) == 11 and recommended["loss.objective"] == "l1"
    assert all(recommended[field] == demo[field] for field in changed - {"loss.objective"})
    assert config_of("recommended_pix2pix", "all").target == MAP_NAMES


def test_the_default_is_the_papers_setting():
    config = default.get_config()
    assert (config.data.size, config.data.slices, config.data.frames) == (128, 21, 80)
    assert (config.train.batch_size, config.train.epochs, config.train.learning_rate) == (4, 100, 1e-4)
    assert (config.train.beta1, config.train.beta2, config.loss.l1_weight) == (0.5, 0.999, 1.0)
    assert (config.model.width, config.model.depth) == (128, 6)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("target", ("tmx",), "unknown maps"),
        ("target", (), "at least one map"),
        ("target", ("tmax", "tmax"), "twice"),
        ("data.frames", 50, "64 to 127"),
        ("data.on_device", "yes", "auto, always, never"),
        ("data.signal", "log", "raw, relative, delta_r2star"),
        ("data.split_fractions", (0.5, 0.5, 0.5), "adding up to 1"),
        ("train.batch_size", 0, "at least 1"),
        ("train.learning_rate", 0.0, "above 0"),
        ("train.beta1", 1.0, "[0, 1)"),
        ("model.norm", "layer", "batch, instance"),
        ("model.generator", "vnet", "temporal, unet"),
        ("model.upsample", "bicubic", "transposed, resize"),
        ("model.init", "he", "pix2pix, published"),
        ("model.discriminator", "pixel", "patch, whole"),
        ("model.width", 0, "at least 1"),
        ("train.decay", "linear", "constant, cosine"),
        ("train.learning_rate_scaling", "log", "none, linear, sqrt"),
        ("train.learning_rate_batch", 0, "at least 1"),
        ("data.lead_seconds", 5.0, "time_mode=seconds"),
        ("train.start_ranges", "donor", "start_from, own"),
        ("train.start_ranges", "own", "needs a network to begin with"),
        ("train.start_discriminator", True, "needs a run to begin with"),
        ("train.batch_size", 10**9, "lower it"),
    ],
)
def test_nonsense_is_refused_by_field(field, value, words):
    config = default.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError) as error:
        settings.check(config)
    assert f"config.{field}" in str(error.value)
    assert words in str(error.value)


def test_ttp_is_learned_with_a_lead_too():
    config = temp_tmax.get_config("demo")
    config.target = ("ttp",)
    settings.check(config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"phantom.size": 16}, "at least 32, or 0"),
        ({"model.generator": "light", "model.width": 30}, "multiple of 4"),
        ({"model.generator": "unet", "model.looks": 2}, "looks is 2, which is for the light generator"),
        ({"model.generator": "unet", "model.peak_time": True}, "peak_time is True, which is for the light generator"),
        ({"train.augment_more": True}, "augment_more is True, which needs config.train.augment"),
        ({"train.clip_norm": -1.0}, "clip_norm"),
        (ARTERIAL, "for the light generator with looks"),
        ({**ARTERIAL, "model.generator": "light"}, "config.model.looks above 0"),
        ({**ARTERIAL, **LOOKING, "data.outside_brain": "keep"}, "config.data.outside_brain to zero"),
        ({**ARTERIAL, **LOOKING, "data.size": 24}, r"set config.data.size \(24\) to 32 or more"),
        ({**ARTERIAL, **LOOKING, **CROPPED, "train.crop": 16}, r"set config.train.crop \(16\) to 32 or more"),
        ({"model.generator": "stunet"}, "needs at least 128 frames: lower that depth"),
        ({"loss.map_weights": (1.0,)}, "which is for config.loss.objective=l1"),
        ({"loss.objective": "l1", "loss.map_weights": (1.0, 2.0)}, "a number of at least 0 for each of tmax"),
        ({"train.augment": True}, "set config.data.time_mode to seconds"),
        ({"train.crop": 64}, "needs config.train.augment"),
        (
            {"train.start_from": "x", "train.start_discriminator": True, "loss.objective": "l1"},
            "l1, which has no discriminator",
        ),
        ({"train.augment": True, "data.time_mode": "seconds", "train.crop": 256}, "config.data.size"),
    ],
)
def test_what_makes_no_training_slice_is_refused(fields, words):
    config = default.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(InputError, match=words):
        settings.check(config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model.unet_dims": 3}, "give the slices that its kernels see"),
        ({"model.unet_dims": 4}, "one of 2, 3"),
        ({"model.neighbours": 1}, r"batch_size \(4\) must be a multiple of config.data.slices \(21\)"),
        ({"model.neighbours": 1, "data.slices": 0}, "set config.data.slices above 0"),
        (
            {"model.neighbours": 1, "train.batch_size": 21, "train.accumulate": 3},
            r"times config.train.accumulate \(3\)",
        ),
        ({"model.neighbours": 1, "model.generator": "light"}, "for the generators temporal and unet"),
        ({"model.neighbours": 1, "train.batch_size": 21, "phantom.drawn_beside": 9}, "set drawn_beside to 0"),
    ],
)
def test_a_network_that_sees_neighbours_takes_whole_exams(fields, words):
    config = default.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(InputError, match=words):
        settings.check(config)


@pytest.mark.parametrize("variant", volume.VARIANTS)
def test_networks_that_see_neighbours_have_configs_that_also_fit_small_exams(variant):
    config = volume.get_config(variant)
    settings.check(config)
    assert settings.exam_slices(config) == 21 == config.train.batch_size
    small = {"data.size": 64, "phantom.size": 64, "phantom.slices": 8, "data.slices": 8, "train.batch_size": 8}
    config.update_from_flattened_dict({**small, "model.width": 8, "model.depth": 4, "model.discriminator_width": 16})
    settings.check(config)


def test_the_shipped_networks_config_is_in_order_in_all_its_variants():
    for variant in (None, *physics.VARIANTS):
        settings.check(physics.get_config(variant))
    with pytest.raises(ValueError, match="unknown variant"):
        physics.get_config("tpu")


@pytest.mark.parametrize("variant", [None, *comparators.VARIANTS])
def test_a_comparators_config_is_in_order(variant):
    settings.check(comparators.get_config(variant))
    with pytest.raises(ValueError, match="unknown variant"):
        comparators.get_config("svm")


def test_the_plain_unet_takes_any_number_of_frames():
    config = default.get_config()
    config.model.generator = "unet"
    config.data.frames = 40
    settings.check(config)


def test_steps_are_the_epochs_rounded_up_unless_given():
    config = default.get_config()
    config.train.epochs = 2.5
    assert settings.total_steps(config, n_slices=10) == 7  # 25 slices in batches of 4
    config.train.steps = 3
    assert settings.total_steps(config, n_slices=10) == 3


def test_learning_rates_follow_the_batch_as_configured():
    config = default.get_config()
    config.train.batch_size = 36
    factors = {}
    for config.train.learning_rate_scaling in ("none", "linear", "sqrt"):
        factors[config.train.learning_rate_scaling] = settings.learning_rate_factor(config.train)
    assert factors == {"none": 1.0, "linear": 9.0, "sqrt": 3.0}  # the rates are meant for batches of 4


def test_a_config_survives_json():
    config = temp_tmax.get_config("demo")
    restored = settings.from_json(settings.to_json(config), default.get_config())
    assert restored.to_dict() == config.to_dict()


def test_a_run_resumes_with_more_epochs_but_not_with_another_width(tmp_path):
    stored = settings.to_json(default.get_config())
    longer = default.get_config()
    longer.train.epochs = 200.0
    longer.data.cache_dir = "elsewhere"
    settings.check_same_run(stored, longer, tmp_path)
    wider = default.get_config()
    wider.model.width = 64
    with pytest.raises(InputError, match=r"config\.model\.width=128, this one has 64"):
        settings.check_same_run(stored, wider, tmp_path)


def test_a_run_that_began_before_a_field_existed_resumes_with_its_default(tmp_path):
    stored = settings.to_json(default.get_config())
    del stored["data"]["motion"], stored["conventional"]
    settings.check_same_run(stored, default.get_config(), tmp_path)
    rigid = default.get_config()
    rigid.data.motion = "rigid"
    with pytest.raises(InputError, match=r"config\.data\.motion='none', this one has 'rigid'"):
        settings.check_same_run(stored, rigid, tmp_path)


def test_other_conventional_maps_beside_the_network_are_the_same_run(tmp_path):
    other = default.get_config()
    other.conventional.method, other.evaluate.baselines = "osvd", ()
    settings.check_same_run(settings.to_json(default.get_config()), other, tmp_path)


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """What each mode reads: {one of `options.READERS`: fields}.

    Each section of the config has a field `nobody` more.
    """
    with pytest.MonkeyPatch.context() as patched:
        return config_reads.of_every_mode(tmp_path_factory.mktemp("reads"), patched)


def leaves(config, path=""):
    for name, value in config.items():
        yield from leaves(value, f"{path}{name}.") if hasattr(value, "items") else [(path + name, value)]


def leaf_names(config):
    return [name for name, _ in leaves(config)]


@pytest.mark.slow
def test_every_config_field_is_read_by_a_mode(reads):
    unread = set(leaf_names(default.get_config())) - set().union(*reads.values())
    assert not unread, f"config fields that nobody reads: {sorted(unread)}"


@pytest.mark.slow
def test_a_field_that_nobody_reads_would_be_found(reads):
    sections = ["", *(f"{name}." for name, value in default.get_config().items() if hasattr(value, "items"))]
    planted = {f"{section}{config_reads.NOBODY}" for section in sections}
    assert len(planted) == 8
    assert not planted & set().union(*reads.values())


@pytest.mark.slow
@pytest.mark.parametrize("reader", [reader for reader in options.READERS if reader != options.BENCHMARK])
def test_the_modes_read_what_options_says(reads, reader):
    """A field that the table gives to a mode is read by it.

    What it reads of the command line's config stands in the table.
    """
    fields = set(leaf_names(default.get_config()))
    said = {field for field in fields if reader in options.readers_of(field)}
    assert said - reads[reader] == set()
    if reader not in options._OF_A_RUN:  # those read the stored config too
        assert (reads[reader] & fields) - said == FILLED_IN.get(reader, set())


def test_every_resumable_field_exists():
    for path in settings.RESUMABLE_FIELDS:
        settings._field(default.get_config(), path)


def test_a_stored_config_with_former_names_and_values_opens_and_resumes(tmp_path):
    config = temp_tmax.get_config("demo")
    config.evaluate.norm_at_test, config.conventional.truncation_threshold = "running", 0.3
    stored = settings.to_json(config)
    data, conventional = stored["data"], stored["conventional"]
    data["transients"] = data.pop("non_steady_state")
    conventional["cut"] = conventional.pop("truncation_threshold")
    conventional["oscillation"] = conventional.pop("oscillation_index")
    assert settings.from_json(stored, default.get_config()).to_dict() == config.to_dict()
    settings.check_same_run(stored, config, tmp_path)
    stored["evaluate"]["norm_at_test"] = "batch"
    assert settings.from_json(stored, default.get_config()).evaluate.norm_at_test == "per_slice"


def test_a_stored_field_that_nobody_knows_is_named():
    stored = settings.to_json(default.get_config())
    stored["model"]["heads"] = 8
    with pytest.raises(InputError, match=r"config\.model\.heads, which this version does not know"):
        settings.from_json(stored, default.get_config())


def test_former_names_and_values_on_the_command_line_are_refused_with_the_new_ones():
    config = default.get_config()
    config.evaluate.norm_at_test = "batch"
    with pytest.raises(InputError, match="now called per_slice"):
        settings.check_fields(config, ("evaluate.norm_at_test",))
    settings.check_former_names(["conventional.method", "data.non_steady_state"])
    for former, now in settings.FORMER_FIELDS.items():
        with pytest.raises(InputError, match=f"config.{former} is now called config.{now}"):
            settings.check_former_names([former])
        settings._field(config, now)


def test_choices_of_the_config_are_those_of_the_rooms_that_take_them():
    of_rooms = {
        "conventional.method": conventional.METHODS,
        "conventional.tmax_offset": conventional.TMAX_OFFSETS,
        "conventional.motion": motion.CORRECTIONS,
        "data.motion": motion.CORRECTIONS,
        "data.layout": layouts.LAYOUTS,
        "phantom.preset": presets.PRESETS,
    }
    for field, choices in of_rooms.items():
        assert set(settings.CHOICES[field]) == set(choices), field
