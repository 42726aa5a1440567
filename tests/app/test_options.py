"""What a user gives and nobody reads is an error that names who reads it."""

import pathlib
import re

import pytest
from command_line import read

from dscgan_jax import main
from dscgan_jax.app import command, options
from dscgan_jax.configs import default
from dscgan_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = "--config=configs/temp_tmax.py:demo"


def fields_of(config, path=""):
    for name in config:
        if hasattr(config[name], "items"):
            yield from fields_of(config[name], f"{path}{name}.")
        else:
            yield path + name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # flags
        (
            ["--mode=phantom", "--output=x", "--aif=auto"],
            "--aif is given, which --mode=phantom does not read; leave it out (--aif is read by --mode=deconvolve).",
        ),
        (["--mode=phantom", "--output=x", "--tr=2"], "--tr is given"),
        (["--mode=benchmark", "--te=0.03"], "--te is given"),
        (["--mode=train", "--input=x"], "is read by --mode=predict, --mode=deconvolve)"),
        (["--mode=train", "--subjects=9"], "give --config.phantom.subjects="),
        (["--mode=train", "--method=csvd"], "give --config.evaluate.baselines="),
        (["--mode=train", "--motion=rigid"], "give --config.data.motion="),
        (["--mode=train", "--leakage=bsw"], "give --config.conventional.leakage="),
        (["--mode=predict", "--leakage=bsw"], "is read by --mode=deconvolve)"),
        (["--mode=prepare", "--workdir=x"], "--workdir is given"),
        (["--mode=prepare", "--config.data.root=x", "--output=y"], "--output is given"),
        (["--mode=evaluate", "--mask=x"], "is read by --mode=deconvolve --input, --mode=predict --input)"),
        (["--mode=evaluate", "--model=x"], "is read by --mode=predict, --mode=export --format=stablehlo)"),
        (["--mode=export", "--model=x"], "--model is given, which --mode=export does not read"),
        (["--mode=export", "--norm=running"], "--norm is given, which --mode=export does not read"),
        (["--mode=predict", "--format=stablehlo"], "is read by --mode=export)"),
        (
            ["--mode=export", "--format=stablehlo", "--config.model.width=4"],
            "--mode=export --format=stablehlo does not read: the run's own is used",
        ),
        (["--mode=export", "--input=x"], "is read by --mode=predict, --mode=deconvolve)"),
        (["--mode=export", "--config.model.width=4"], "the run's own is used"),
        (["--mode=predict", "--split=test"], "is read by --mode=evaluate)"),
        (["--mode=predict", "--maps=x"], "is read by --mode=evaluate --maps, --mode=evaluate --maps --workdir)"),
        (
            ["--mode=deconvolve", "--config.data.root=x", "--output=y", "--mask=z"],
            "--mask is given, which --mode=deconvolve --config.data.root does not read; give <subject>_mask.nii.gz "
            "beside each series",
        ),
        (["--mode=predict", f"--input={ROOT}", "--output=y", "--mask=z"], "give <subject>_mask.nii.gz beside each"),
        (
            ["--mode=deconvolve", "--input=x", "--output=y", "--workers=2"],
            "--workers is given, which --mode=deconvolve --input does not read; leave it out (--workers is read by "
            "--mode=check, --mode=deconvolve --config.data.root, --mode=predict --config.data.root).",
        ),
        (
            ["--mode=predict", f"--input={ROOT}", "--output=y", "--config.data.root=x"],
            "--input and --config.data.root say the same",
        ),
        (["--mode=predict", "--input=x", "--output=y", "--config.data.root=z"], "--config.data.root is given"),
        (["--mode=deconvolve", "--input=x", "--output=y", "--step=3"], "--step is given"),
        (
            ["--mode=evaluate", "--maps=x", "--config.data.root=y", "--step=latest"],
            "is read by --mode=evaluate, --mode=predict, --mode=export)",
        ),
        (["--mode=evaluate", "--aif=files"], "give --config.conventional.aif="),
        (["--mode=phantom", "--output=x", "--accept=frame_order"], "--accept is given"),
        (
            ["--mode=prepare", "--processes=2", "--process=0"],
            "--mode=prepare runs in one process; leave out --processes, --process.",
        ),
        (["--mode=predict", "--wait_seconds=3"], "is read by --mode=train)"),
        (["--mode=train", "--repeats=3"], "is read by --mode=benchmark)"),
        # fields
        (["--mode=phantom", "--output=x", "--config.phantom.preset=chronic"], "give --preset="),
        (["--mode=phantom", "--output=x", "--config.seed=3"], "give --seed="),
        (
            ["--mode=predict", "--config.data.size=64"],
            "does not read: the run's own is used; leave it out (--config.data.size is "
            "read by --mode=train, --mode=prepare, --mode=evaluate --maps, "
            "--mode=benchmark).",
        ),
        (["--mode=predict", "--config.conventional.motion=rigid"], "give --motion="),
        (["--mode=evaluate", "--config.train.batch_size=2"], "the run's own is used"),
        (["--mode=evaluate", "--config.evaluate.norm_at_test=running"], "the run's own is used"),
        (["--mode=evaluate", "--config.conventional.method=osvd"], "give --config.evaluate.baselines="),
        (
            ["--mode=evaluate", "--maps=x", "--config.data.root=y", "--config.evaluate.baselines=('csvd',)"],
            "evaluate.baselines",
        ),
        (
            ["--mode=prepare", "--config.model.width=3"],
            "--config.model.width is given, which --mode=prepare does not read",
        ),
        (["--mode=prepare", "--config.train={'steps': 3}"], "--config.train.steps is given"),
        (["--mode=check", "--config.data.root=x", "--config.target=('cbf',)"], "--config.target is given"),
        (["--mode=deconvolve", "--input=x", "--output=y", "--config.data.motion=rigid"], "give --motion="),
        (["--mode=deconvolve", "--input=x", "--output=y", "--config.evaluate.baselines=('osvd',)"], "give --method="),
        (
            ["--mode=deconvolve", "--input=x", "--output=y", "--config.data.layout=bids"],
            "--config.data.layout is given",
        ),
        (["--mode=benchmark", "--config.train.epochs=3"], "--config.train.epochs is given"),
        (["--noconfig.model.bias_before_norm", "--mode=prepare"], "--config.model.bias_before_norm is given"),
        # combinations
        (["--config.data.frame_seconds=2.0"], "config.data.time_mode is stretch"),
        (["--config.data.lead_seconds=9.0"], "config.data.time_mode is stretch"),
        (["--config.data.layout=isles2017"], "no config.data.root is given"),
        (["--mode=evaluate", "--config.data.layout=bids"], "no config.data.root is given"),
        (["--config.data.root=x", "--config.phantom.subjects=9"], "the exams come from config.data.root"),
        (["--config.data.on_device=always", "--config.data.memory_mib=9"], "config.data.on_device is always"),
        (["--config=configs/pix2pix_tmax.py", "--config.model.unet_width=4"], "config.model.generator is unet"),
        (["--config=configs/comparators.py:patch", "--config.model.depth=3"], "which has no levels"),
        (["--config=configs/comparators.py:stunet", "--config.model.norm=batch"], "which have no norms"),
        (["--config=configs/comparators.py:stunet", "--noconfig.model.bias_before_norm"], "which have no norms"),
        (["--config=configs/comparators.py:voxel", "--config.model.upsample=resize"], "which have one way"),
        (["--config=configs/comparators.py:voxel", "--config.evaluate.norm_at_test=running"], "has no batch norm"),
        (
            ["--config.model.discriminator=whole", "--config.model.discriminator_layers=3"],
            "config.model.discriminator is whole",
        ),
        (["--config.model.norm=instance", "--config.evaluate.norm_at_test=running"], "config.model.norm is instance"),
        (["--config.train.learning_rate_batch=8"], "config.train.learning_rate_scaling is none"),
        (["--config.train.epochs=3", "--config.train.steps=9"], "--config.train.steps=0"),
        ([DEMO, "--config.train.epochs=3"], "--config.train.steps=0"),
        (["--config.evaluate.baselines=('csvd',)", "--config.conventional.oscillation_index=0.1"], "set it to osvd"),
        (["--config.evaluate.baselines=()", "--config.conventional.aif=files"], "config.evaluate.baselines is empty"),
        (
            ["--mode=deconvolve", "--input=x", "--output=y", "--config.conventional.truncation_threshold=0.2"],
            "--config.conventional.truncation_threshold is given, which nothing reads: config.conventional.method is "
            "parametric; set it to csvd or ssvd",
        ),
        (
            ["--mode=deconvolve", "--input=x", "--output=y", "--method=osvd", "--config.conventional.dispersion=False"],
            "parametric",
        ),
        # the same twice
        (
            ["--config.data.root=x", "--tr=2", "--config.data.tr_seconds=1.5"],
            "--tr and --config.data.tr_seconds say the same",
        ),
        (
            ["--mode=deconvolve", "--input=x", "--output=y", "--motion=none", "--config.conventional.motion=rigid"],
            "say the same",
        ),
        (["--mode=predict", "--motion=none", "--config.data.motion=rigid"], "say the same"),
        # values
        (
            ["--mode=predict", "--accept=nonsense"],
            "--accept=nonsense: expected names of findings that can reject an exam: frame_length",
        ),
        (["--mode=predict", "--workdir=~nosuchuser/run"], "--workdir=~nosuchuser/run: the home folder is not known"),
        (
            ["--config.data.root=~nosuchuser/exams"],
            "--config.data.root=~nosuchuser/exams: the home folder is not known",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_nobody_reads_is_one_line(arguments, words):
    with pytest.raises(InputError) as error:
        read(*arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config.data.time_mode=seconds", "--config.data.frame_seconds=2.0", "--config.data.lead_seconds=9.0"],
        [DEMO, "--config.data.time_mode=stretch", "--config.data.lead_seconds=0"],
        [DEMO, "--config.train.steps=0", "--config.train.epochs=3"],
        ["--config.data.root=x", "--config.data.layout=isles2017", "--tr=1.5", "--accept=frame_order"],
        ["--config.train.learning_rate_scaling=sqrt", "--config.train.learning_rate_batch=8"],
        [
            "--mode=predict",
            "--input=x",
            "--output=y",
            "--motion=rigid",
            "--config.evaluate.norm_at_test=running",
            "--config.data.cache_dir=z",
            "--te=0.03",
            "--step=latest",
        ],
        [
            "--mode=evaluate",
            "--workdir=x",
            "--split=train",
            "--config.data.root=y",
            "--config.data.layout=bids",
            "--tr=2",
            "--config.evaluate.baselines=('csvd',)",
            "--config.conventional.aif=files",
            "--config.conventional.truncation_threshold=0.2",
        ],
        [
            "--mode=evaluate",
            "--maps=x",
            "--config.data.root=y",
            "--config.data.size=64",
            "--config.data.signal=relative",
        ],
        [
            "--mode=deconvolve",
            "--input=x",
            "--output=y",
            "--method=csvd",
            "--config.conventional.truncation_threshold=0.2",
            "--mask=z",
            "--motion=none",
        ],
        ["--mode=predict", "--input=x", "--output=y", "--model=physics", "--mask=z"],
        ["--mode=export", "--workdir=x", "--output=y.safetensors", "--step=latest"],
        ["--mode=export", "--workdir=x", "--output=y.safetensors", "--format=safetensors"],
        ["--mode=export", "--model=x", "--output=y.stablehlo", "--format=stablehlo", "--norm=running"],
        ["--mode=deconvolve", "--config.data.root=x", "--output=y", "--aif=files", "--accept=frame_order"],
        ["--mode=deconvolve", f"--input={ROOT}", "--output=y", "--workers=3", "--config.data.layout=isles2017"],
        ["--mode=predict", f"--input={ROOT}", "--output=y", "--workers=1", "--tr=2", "--norm=running"],
        ["--mode=predict", "--config.data.root=x", "--output=y", "--config.data.layout=isles2017", "--model=physics"],
        ["--mode=phantom", "--output=x", "--seed=3", "--config.data.split_fractions=(0.5,0.25,0.25)"],
    ],
    ids=" ".join,
)
def test_what_somebody_reads_passes(arguments):
    read(*arguments)


def test_fields_that_a_config_file_writes_are_no_overrides():
    given, config = read(
        "--mode=phantom", DEMO, "--output=x"
    )  # the demo says something of phantom, data, model, loss, train
    assert given.fields == frozenset() and config.train.steps == 800


def test_maps_with_a_run_take_everything_from_the_run(tmp_path):
    arguments = [
        "--mode=evaluate",
        "--maps=x",
        "--config.data.root=y",
        f"--workdir={tmp_path}",
        "--config.data.size=64",
    ]
    assert read(*arguments)[0].reader == options.MAPS  # only a place for the records
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="evaluate --maps --workdir does not read: the run's own is used"):
        read(*arguments)


def test_a_folder_as_input_is_the_folder_of_exams(tmp_path):
    for mode, reader in (("deconvolve", options.FOLDER), ("predict", options.PREDICT_FOLDER)):
        given, config = read(f"--mode={mode}", f"--input={tmp_path}", "--output=y")
        assert given.reader == reader and config.data.root == str(tmp_path)


def test_flags_go_into_the_fields_that_they_stand_for():
    given, config = read(
        "--mode=deconvolve",
        "--input=x",
        "--output=y",
        "--tr=2",
        "--te=0.03",
        "--accept=frame_order,truncated",
        "--method=osvd",
        "--scale=none",
        "--motion=rigid",
    )
    assert (config.data.tr_seconds, config.data.te_seconds, config.data.accept) == (
        2.0,
        0.03,
        ("frame_order", "truncated"),
    )
    assert (config.conventional.method, config.conventional.scale, config.conventional.motion) == (
        "osvd",
        "none",
        "rigid",
    )
    assert config.data.motion == "none"
    assert given.all_fields == {
        "data.tr_seconds",
        "data.te_seconds",
        "data.accept",
        "conventional.method",
        "conventional.scale",
        "conventional.motion",
    }
    given, config = read("--mode=predict", "--motion=rigid")
    assert config.data.motion == "rigid" and given.all_fields == {"data.motion"}


def test_names_to_accept_may_stand_in_the_config_with_commas():
    assert read("--config.data.accept=frame_order, truncated")[1].data.accept == ("frame_order", "truncated")
    assert read("--config.data.accept=('frame_order','truncated')")[1].data.accept == ("frame_order", "truncated")
    assert read()[1].data.accept == ()


def test_every_flag_and_every_field_has_its_readers():
    defined = {flag.name for flag in main.flags.FLAGS.flags_by_module_dict()[main.__name__]}
    assert {name for name in defined if not name.startswith("config.")} == options.FLAGS.keys()
    for readers in (*options.FLAGS.values(), *options.FIELDS.values()):
        assert set(readers) <= set(options.READERS)
    fields = set(fields_of(default.get_config()))
    assert {field for field in options.FIELDS if not field.endswith(".")} <= fields
    assert all(options.readers_of(field) for field in fields)


def help_of(*arguments):
    known = {name: main.flags.FLAGS[name] for name in options.FLAGS}
    return command.help_of(["dscgan-jax", *arguments], known)


def test_help_lists_every_mode_and_flag_and_who_reads_it():
    text = " ".join(help_of("--help").split())
    assert all(command.usage(mode) in text and meaning in text for mode, meaning in command.MODES.items())
    assert all(f"--{name}" in text for name in options.FLAGS)
    assert "[deconvolve] Arterial input function" in text and "[evaluate, predict, export] Checkpoint" in text
    assert help_of("--mode=predict") is None


@pytest.mark.parametrize("arguments", [("predict", "--help"), ("--help", "--mode=predict")])
def test_help_of_a_mode_lists_its_flags_alone(arguments):
    text = help_of(*arguments)
    assert text.startswith("dscgan-jax predict EXAM.nii.gz MAPS/: maps, by a network, of a 4-D file")
    listed = {line.split("=")[0].strip().removeprefix("--") for line in text.splitlines() if line.startswith("  --")}
    ways = {options.PREDICT, options.PREDICT_FOLDER}
    assert listed == {name for name, readers in options.FLAGS.items() if ways & set(readers)} - {"mode"}


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["predict", "exam.nii.gz", "maps/"], ["--mode=predict", "--input=exam.nii.gz", "--output=maps/"]),
        (["predict", "--workdir", "run", "a.nii"], ["--mode=predict", "--input=a.nii", "--workdir", "run"]),
        (["deconvolve", "FOLDER", "new/"], ["--mode=deconvolve", "--input=FOLDER", "--output=new/"]),
        (["predict", "FOLDER", "new/"], ["--mode=predict", "--input=FOLDER", "--output=new/"]),
        (["export", "runs/a", "a.safetensors"], ["--mode=export", "--workdir=runs/a", "--output=a.safetensors"]),
        (["check", "exams"], ["--mode=check", "--config.data.root=exams"]),
        (["evaluate", "runs/a", "--debug"], ["--mode=evaluate", "--workdir=runs/a", "--debug"]),
        (["benchmark"], ["--mode=benchmark"]),
        (["--mode=train"], ["--mode=train"]),
    ],
)
def test_words_after_a_mode_are_its_flags(tmp_path, words, flags):
    place = lambda text: text.replace("FOLDER", str(tmp_path))  # noqa: E731
    translated = command.with_flags_for_words(["dscgan-jax", *map(place, words)], main._takes_value)
    assert translated == ["dscgan-jax", *map(place, flags)]


@pytest.mark.parametrize("place", [["prepare", "exams"], ["--mode=prepare", "--config.data.root=exams"]])
def test_the_config_file_may_come_after_what_overrides_it(place):
    _, config = read(*place, "--config=configs/temp_cbf.py", "--config.seed=3")
    assert config.data.root.endswith("/exams") and config.target == ("cbf",) and config.seed == 3


def test_a_config_that_is_not_there_is_not_replaced_by_the_shipped_one_of_its_name(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        command.resolve_config(f"--config={tmp_path / 'temp_tmax.py'}")
    assert command.resolve_config("--config=temp_tmax.py:demo").endswith("temp_tmax.py:demo")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exam.nii.gz"], "the first word is one of train, prepare"),
        (["predict", "a", "b", "c"], "unexpected argument 'c'; expected dscgan-jax predict EXAM.nii.gz MAPS/"),
        (["predict", "a", "--input=b"], "--input and a word without -- say the same"),
        (["predict", "--mode=train"], "--mode and a word without -- say the same"),
        (["check", "a", "--config.data.root=b"], "--config.data.root and a word without -- say the same"),
    ],
)
def test_words_that_make_no_command_are_refused(words, message):
    with pytest.raises(InputError, match=re.escape(message)):
        command.with_flags_for_words(["dscgan-jax", *words], main._takes_value)
