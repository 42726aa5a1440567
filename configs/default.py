"""Every field of a run, with its unit and its reason. Other configs say only what differs.

Override any of them on the command line: --config.train.batch_size=8. A misspelt field is refused.
Values are those of the paper (Kossen et al. 2023) unless a comment says otherwise.
"""

import ml_collections

from dscgan_jax.maps import MAP_NAMES

VARIANTS = ("paper", "demo", "published")


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    """The paper's setting, or a variant of it: `demo` (minutes on two CPU cores) or `published` (the released code)."""
    variant = variant or "paper"
    if variant not in VARIANTS:
        raise ValueError(f"--config=...:{variant}: unknown variant; known are {', '.join(VARIANTS)} (none = paper).")
    config = ml_collections.ConfigDict()
    config.seed = 0  # initial weights, shuffling, the random split
    config.target = ("tmax",)  # maps that one network predicts, of cbf, cbv, mtt, tmax, ttp

    config.data = data = ml_collections.ConfigDict()
    data.root = ""  # folder of exams; empty: phantom exams are simulated into cache_dir
    data.layout = "bids"  # how that folder is laid out: bids, isles2017, isles2018 or isles2024 (CT)
    data.cache_dir = "~/.cache/dscgan_jax"  # phantom exams, prepared data and compiled programs; runs share it
    # mr (DSC: signal falls) or ct (series in HU that rise: no echo time; the ISLES layouts of CT need no word)
    data.modality = "mr"
    data.tr_seconds = 0.0  # repetition time; overrides the files; 0 = from the files; also --tr
    data.te_seconds = 0.0  # echo time, likewise; also --te
    data.accept = ()  # findings that would reject an exam and are accepted, by name; also --accept
    data.split_fractions = (0.70, 0.10, 0.20)  # train, validation, test, by subject (paper: 142, 20, 41 of 203)
    data.size = 128  # rows and columns of the network grid, over the square field of view
    data.slices = 21  # slices of the network grid; 0 = those of the exam
    data.frames = 80  # frames of the network input; the temporal stack takes 64 to 127
    data.time_mode = "stretch"  # stretch: any series becomes `frames` frames (paper); seconds: data.frame_seconds each
    data.frame_seconds = 1.5  # frame length in time_mode=seconds; longer series are cut, shorter ones repeat the end
    # In time_mode=seconds: the first frame is so long before the bolus arrives, whenever the scan was started; 0 = at
    # the first acquired frame. (Within a network TTP counts from its own first frame.)
    data.lead_seconds = 0.0
    data.motion = "none"  # rigid: series are realigned first; for predict also --motion
    # What a network sees around the brain (found in the series itself): zero = nothing, so that air, noise, scalp or a
    # skull that somebody stripped cannot change its maps; keep = everything (published).
    data.outside_brain = "zero"
    data.non_steady_state = "keep"  # frames before steady state: keep (paper), or hold = the first steady one instead
    data.signal = "raw"  # network input: raw signal (paper), relative S/S0, or delta_r2star in 1/s
    data.ranges = "percentile"  # [-1, 1] is the 0.1-99.9 percentile of training brains, clipped; published: min, max
    # The training slices, as int16: auto = on the device if that is no CPU and has room; always; never.
    data.on_device = "auto"
    # Training slices that are not on the device are kept in memory up to this size; 0 = always read from disk.
    data.memory_mib = 4096
    data.read_threads = 4  # threads that read from disk, each holding one batch

    config.phantom = phantom = ml_collections.ConfigDict()
    # acute (stroke) or chronic (steno-occlusive), after the paper's two cohorts; tumour: gliomas that leak; varied: as
    # different as the world's, each exam with a protocol of its own; difficult: acute, and nobody can process them.
    phantom.preset = "acute"
    phantom.subjects = 203  # simulated where data.root is empty, split by data.split_fractions
    phantom.size = 128  # rows and columns; 0 = the preset's own number
    phantom.slices = 0  # 0 = the preset's own number
    phantom.seed = 0  # of the exams that are simulated
    # So many more exams of the same preset are drawn while a run trains and take the place of the training split, from
    # which the ranges come all the same; 0 = that split is trained on. They have at most data.size rows and columns,
    # and drawn_slices of each are kept.
    phantom.drawn_beside = 0
    phantom.drawn_slices = 10  # of each of them that are kept, drawn among its own

    config.model = model = ml_collections.ConfigDict()
    # temporal (temp-pix2pix), unet (pix2pix: frames as channels), or light (small matrices on each pixel's frames and a
    # U-Net of full resolution without norms, for a CPU); comparators after other papers, without norms: voxel (each
    # curve alone), patch (5 x 5 curves), stunet (a U-Net in space and time)
    model.generator = "temporal"
    model.width = 128  # channels after the first layer of the temporal stack, or of the other generators
    model.unet_width = 16  # width of the U-Net behind the temporal stack (16 in the published code)
    model.depth = 6  # down- and up-sampling levels of the U-Net; none in voxel and patch
    # Slices on each side that the U-Net's first convolution sees beside each one (2.5-D). Above 0, batches hold whole
    # exams, data.slices of each in order: train.batch_size is a multiple of data.slices.
    model.neighbours = 0
    # 3: all convolutions of the U-Net see them: kernels are 2 neighbours + 1 slices deep, no pooling there.
    model.unet_dims = 2
    model.looks = 0  # of the light generator: how often it weighs a slice's pixels to see what they have in common
    # Whether a light generator with looks is shown the exam's AIF (found in the series) and its brain's mean curve, in
    # the corners of each slice; otherwise a network sees a slice and nothing else of the exam.
    model.arterial_input = False
    # Whether a light generator is told when each pixel's signal, smoothed over three frames, is lowest, and how low.
    model.peak_time = False
    model.norm = "batch"  # batch or instance
    model.upsample = "transposed"  # transposed convolution, or resize = nearest neighbour and a 3x3 convolution
    model.bias_before_norm = False  # the published code has such biases; their true gradient is zero
    # pix2pix: N(0, 0.02), norm scales N(1, 0.02); temporal kernels keep the variance of their input, and the maps begin
    # with as much say in the discriminator as all frames. published: the released code's scheme.
    model.init = "pix2pix"
    model.discriminator = "patch"  # patch (PatchGAN) or whole (the released code's alternative, 113-128 pixels)
    model.discriminator_width = 64  # channels after its first layer
    model.discriminator_layers = 2  # 2: receptive field 34 pixels, 3: 70 pixels
    # bfloat16 (GPU, TPU): layers compute in it; parameters, statistics and losses stay float32.
    model.compute = "float32"
    model.lean = False  # True: the temporal stack trains with less memory and more time (values are computed again)

    config.loss = loss = ml_collections.ConfigDict()
    # logits: one sigmoid (paper); published: two sigmoids, as in the released code; l1: no discriminator, L1 alone
    loss.objective = "logits"
    loss.outside_weight = 1.0  # of a pixel outside the brain's mask, for the objective l1
    loss.l1_weight = 1.0  # lambda
    loss.map_weights = ()  # how much each target counts, for the objective l1; () = all alike, each over its range

    config.train = train = ml_collections.ConfigDict()
    train.batch_size = 4  # slices, over all devices
    # A file of weights, a run, or physics, whose numbers the generator begins with; empty = as drawn. Steps and the
    # optimisers' states begin anew, and so does the discriminator, unless it is wanted too.
    train.start_from = ""
    # Ranges of series and maps: start_from = those of that network; own = those of this run's exams. The
    # numbers are taken over as they are, mean something else in other ranges, and learn the new scale.
    train.start_ranges = "start_from"
    train.start_discriminator = False  # True: the discriminator begins with that of start_from, which is a run then
    train.augment = False  # mirrored, noisier, earlier, later, shorter: changes that leave the physics true
    # Augmentation also makes other exams of each: the head turned and scaled, more or less agent, a slower injection,
    # everything faster or slower, truth with it.
    train.augment_more = False
    train.crop = 0  # rows and columns around the brain that an augmented slice keeps; 0 = all
    train.accumulate = 1  # parts that a batch is taken in, to save memory; batch norms see one part at a time
    train.epochs = 100.0  # may be fractional; steps = ceil(epochs * slices / batch_size)
    train.steps = 0  # a fixed number of steps instead; 0 = from epochs
    train.learning_rate = 1e-4  # of the generator
    train.discriminator_learning_rate = 1e-4  # of the discriminator
    # Both rates times batch_size / learning_rate_batch (linear), or the root of that (sqrt, for Adam); none = as they
    # are.
    train.learning_rate_scaling = "none"
    train.learning_rate_batch = 4  # slices; the batch that the rates are meant for
    train.decay = "constant"  # of both learning rates: constant (paper) or cosine to zero over the run
    train.beta1 = 0.5  # Adam
    train.beta2 = 0.999  # Adam
    train.clip_norm = 0.0  # a longer gradient of a network's parameters is shortened to this norm; 0 = none is
    train.log_every_steps = 50  # one row of metrics.jsonl
    train.checkpoint_every_epochs = 1.0  # validation and checkpoint
    train.sample_every_epochs = 5.0  # a panel of pictures
    train.keep_checkpoints = 2  # the latest ones; the best on validation is kept besides

    config.evaluate = evaluate = ml_collections.ConfigDict()
    # Batch norm in validation and predict: per_slice = statistics of each slice (published), running = those gathered
    # in training. `evaluate` scores both; `predict` takes the run's, unless it is given on its command line.
    evaluate.norm_at_test = "per_slice"
    # Conventional methods beside the network in its tables: parametric, osvd, csvd, ssvd; () = none.
    evaluate.baselines = ("parametric", "osvd", "csvd")

    config.conventional = conventional = ml_collections.ConfigDict()  # of --mode=deconvolve and of the baselines
    conventional.method = "parametric"  # parametric, osvd, csvd, or ssvd (for teaching); also --method
    conventional.aif = "auto"  # AIF: auto, or files = each exam's own aif.tsv; also --aif, which takes a file too
    # CBF and CBV: none, reference_wm (healthy white matter at 22 mL/100 g/min) or a factor; also --scale.
    conventional.scale = "reference_wm"
    # rigid: frames in which the head moved are realigned first (still ones stay bit for bit); none: not.
    conventional.motion = "rigid"
    conventional.tmax_offset = "none"  # healthy: Tmax shifted so that healthy tissue has 2 s; for the SVD methods
    # Contrast agent that leaks from a tumour's vessels: bsw or bidirectional take it out; also --leakage.
    conventional.leakage = "none"
    # csvd, ssvd: singular values below this share of the largest are left out; 0 = 0.1 and 0.2.
    conventional.truncation_threshold = 0.0
    conventional.oscillation_index = 0.035  # osvd: largest oscillation index
    # parametric: FWHM of the neighbourhood that shares arterial delay and dispersion; 0 = none.
    conventional.neighbourhood_mm = 5.0
    # parametric: shape of the gamma-distributed transit times, 1 = exponential residue; 0 = what suits the exam best.
    conventional.transit_shape = 0.0
    conventional.dispersion = True  # parametric: whether dispersion is fitted

    if variant == "demo":
        demo(config)
    elif variant == "published":
        published(config)
    return config


def demo(config: ml_collections.ConfigDict) -> None:
    """Minutes on two CPU cores: small exams, a narrow network, settings that learn quickly instead of the paper's."""
    config.phantom.subjects = 60
    config.phantom.size = 64
    config.phantom.slices = 8
    config.data.size = 64
    config.data.slices = 0
    real_time(config)
    quick_learning(config)
    config.conventional.aif = "files"  # such coarse voxels hold no whole artery to find
    config.model.width = 8
    config.model.depth = 4  # 64 pixels halved four times: the bottleneck is 4 x 4
    config.model.discriminator_width = 16
    config.train.batch_size = 2  # more, smaller steps; and closer to the single slices of batch norm at test
    config.train.steps = 800
    config.train.log_every_steps = 20
    config.train.checkpoint_every_epochs = 1.0
    config.train.sample_every_epochs = 1.0


def real_time(config: ml_collections.ConfigDict) -> None:
    """Input in real seconds from the bolus on, over the signal before it: of the demo and the recommended configs."""
    config.data.frames = 64
    config.data.time_mode = "seconds"  # Tmax in seconds then means the same on every exam
    config.data.frame_seconds = 1.25  # 64 frames cover 80 s
    config.data.lead_seconds = 12.0  # few exams teach it little about boluses that come early or late
    config.data.non_steady_state = "hold"
    config.data.signal = "relative"  # scanner units differ between exams, S/S0 does not


def quick_learning(config: ml_collections.ConfigDict) -> None:
    """What learns in fewer steps than the paper's settings."""
    config.loss.l1_weight = 10.0
    config.train.learning_rate = 1e-3
    config.train.discriminator_learning_rate = 2e-4
    config.train.decay = "cosine"


def recommended_for(variant: str | None) -> ml_collections.ConfigDict:
    """The recommended settings at the paper's size, for the map that the variant names, or all (none = tmax)."""
    variant = variant or "tmax"
    if variant not in (*MAP_NAMES, "all"):
        raise ValueError(
            f"--config=...:{variant}: unknown variant; known are {', '.join(MAP_NAMES)}, all (none = tmax)."
        )
    config = get_config()
    config.target = MAP_NAMES if variant == "all" else (variant,)
    real_time(config)
    quick_learning(config)
    # The adversarial term gained nothing, whatever its weight: errors of Tmax of 0.31 to 0.34 s against 0.31 s, and
    # longer steps (docs/study_ablations.md).
    config.loss.objective = "l1"
    return config


def published(config: ml_collections.ConfigDict) -> None:
    """The released code with its quirks.

    Two sigmoids, biases before norms, initialisation, ranges, and the air that it sees.
    """
    config.loss.objective = "published"
    config.model.bias_before_norm = True
    config.model.init = "published"
    config.data.ranges = "published"
    config.data.outside_brain = "keep"
