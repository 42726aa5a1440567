"""A PyTorch twin of the published networks and of their training step, to compare speeds with. Needs the extra `bench`.

    python benchmarks/torch_twin.py --size=64 --frames=80 --width=16 --batch=4     # seconds of a step and of inference
    python benchmarks/torch_twin.py --check=../shared/golden                       # does it compute what was published?

Written from a description of the published code, with its state-dict names. The step comes in two forms that compute
the same numbers:

- `published`: float32, as released. The fake is not detached when the discriminator learns, so its loss is propagated
  back through the whole generator too, and that gradient is thrown away.
- `tuned`: what PyTorch can do. Detached, the discriminator frozen while the generator learns, fused Adam; memory layout
  and, where allowed, `torch.compile` as they are fastest here (each is tried); on a GPU also bf16 autocast.

Inference likewise: eval mode, `torch.inference_mode`, norms folded into the convolutions, layout and compilation tried.

Driven by benchmarks/versus_torch.py with --serve: one request per line on standard input, one answer per line.
"""

import copy
import dataclasses
import functools
import json
import pathlib
import platform
import statistics
import sys
import time

import numpy as np
import torch
from absl import app, flags
from torch import nn
from torch.nn import functional

_SIZE = flags.DEFINE_integer("size", 64, "Rows and columns.")
_FRAMES = flags.DEFINE_integer("frames", 80, "Frames, 64 to 127.")
_WIDTH = flags.DEFINE_integer("width", 16, "Width of the temporal stack.")
_DISCRIMINATOR_WIDTH = flags.DEFINE_integer("discriminator_width", 64, "Width of the discriminator.")
_DEPTH = flags.DEFINE_integer("depth", 6, "Levels of the U-Net, at least 5.")
_MAPS = flags.DEFINE_integer("maps", 1, "Output maps.")
_BATCH = flags.DEFINE_integer("batch", 4, "Slices of a step.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed repeats of each form, after one that is not timed.")
_THREADS = flags.DEFINE_integer("threads", 0, "CPU threads; 0 = PyTorch's own choice.")
_COMPILE = flags.DEFINE_bool("compile", True, "Whether the tuned forms may try torch.compile.")
_CHECK = flags.DEFINE_string("check", "", "Folder of golden files to reproduce, instead of timing.")
_SERVE = flags.DEFINE_bool("serve", False, "Answer requests on standard input, instead of timing.")

FORMS = ("published", "tuned")
UNET_WIDTH = 16  # of the U-Net behind the temporal stack, whatever that one's width


# --- The published networks ----------------------------------------------------------------------------------------


class Level(nn.Module):
    """One level of the U-Net with all deeper ones inside.

    Every level but the outermost joins its input to its result.
    """

    def __init__(self, n_in: int, channels: list[int], n_out: int, outermost: bool = False):
        super().__init__()
        here, innermost = channels[0], len(channels) == 1
        down = nn.Conv2d(n_in, here, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(here if innermost else 2 * here, n_out, 4, 2, 1, bias=outermost)
        deeper = [] if innermost else [Level(here, channels[1:], here)]
        if outermost:
            layers = [down, *deeper, nn.ReLU(True), up, nn.Tanh()]
        elif innermost:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, nn.BatchNorm2d(n_out)]
        else:
            layers = [
                nn.LeakyReLU(0.2, True),
                down,
                nn.BatchNorm2d(here),
                *deeper,
                nn.ReLU(True),
                up,
                nn.BatchNorm2d(n_out),
            ]
        self.outermost = outermost
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    """(slice, channel, row, col) -> maps in (-1, 1)."""

    def __init__(self, n_in: int, n_out: int, width: int, depth: int):
        super().__init__()
        channels = [width * min(2**level, 8) for level in range(max(depth, 5))]
        self.model = Level(n_in, channels, n_out, outermost=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class TemporalGenerator(nn.Module):
    """(slice, time, row, col) -> (slice, map, row, col) in (-1, 1)."""

    def __init__(self, width: int, n_out: int = 1, depth: int = 6):
        super().__init__()
        channels = [1, *(width * factor for factor in (1, 2, 4, 8, 8, 8))]
        for index in range(1, 7):
            self.add_module(
                f"tmp_{index}",
                nn.Sequential(
                    nn.Conv3d(channels[index - 1], channels[index], (4, 1, 1), (2, 1, 1), (1, 0, 0)),
                    nn.BatchNorm3d(channels[index]),
                    nn.LeakyReLU(0.2, True),
                ),
            )
        self.unet_model = UNet(channels[-1], n_out, UNET_WIDTH, depth)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        x = series.unsqueeze(1)
        for index in range(1, 7):
            x = getattr(self, f"tmp_{index}")(x)
        return self.unet_model(x.squeeze(2))


class PatchDiscriminator(nn.Module):
    """Series and maps, concatenated on channels -> one score per patch (with `sigmoid`: in (0, 1), as published)."""

    def __init__(self, n_in: int, width: int, layers: int = 2, sigmoid: bool = True):
        super().__init__()
        parts = [nn.Conv2d(n_in, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        channels = width
        for layer in range(1, layers + 1):
            wider = width * min(2**layer, 8)
            parts += [
                nn.Conv2d(channels, wider, 4, 2 if layer < layers else 1, 1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2, True),
            ]
            channels = wider
        parts.append(nn.Conv2d(channels, 1, 4, 1, 1))
        self.model = nn.Sequential(*parts, *([nn.Sigmoid()] if sigmoid else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


# --- One training step ---------------------------------------------------------------------------------------------


def score_loss(scores: torch.Tensor, label: float) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


@dataclasses.dataclass(frozen=True)
class Variant:
    """How PyTorch is to run a form: `layout` contiguous or channels_last, compiled or not, bf16 autocast or not."""

    layout: str = "contiguous"
    compiled: bool = False
    bf16: bool = False

    def __str__(self) -> str:
        return ", ".join([self.layout, *["compiled"] * self.compiled, "bf16 autocast" if self.bf16 else "float32"])

    def place(self, network: nn.Module) -> nn.Module:
        """A network in this layout; 3-D convolutions have a layout of their own."""
        if self.layout == "channels_last":
            for part in network.modules():
                if isinstance(part, nn.Conv3d):
                    part.to(memory_format=torch.channels_last_3d)
                elif isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
                    part.to(memory_format=torch.channels_last)
        return network

    def arrange(self, images: torch.Tensor) -> torch.Tensor:
        """(slice, channel, row, col) in this layout."""
        return images.contiguous(memory_format=torch.channels_last) if self.layout == "channels_last" else images

    def runner(self, network: nn.Module):
        return torch.compile(network) if self.compiled else network

    def autocast(self, device: torch.device):
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)


class Trainer:
    """Both networks, both optimisers and the step in one form."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        form: str,
        variant: Variant = Variant(),
        l1_weight: float = 1.0,
    ):
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
        self.form, self.variant, self.l1_weight = form, variant, l1_weight
        self.generator, self.discriminator = variant.place(generator), variant.place(discriminator)
        self._generate, self._discriminate = variant.runner(self.generator), variant.runner(self.discriminator)
        adam = {"lr": 1e-4, "betas": (0.5, 0.999), "eps": 1e-8, "fused": form == "tuned"}
        self.opt_g = torch.optim.Adam(self.generator.parameters(), **adam)
        self.opt_d = torch.optim.Adam(self.discriminator.parameters(), **adam)

    def step(self, series: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """One update of both networks.

        Series (slice, time, row, col), target (slice, map, row, col), scaled -> losses.
        """
        torch.backends.cudnn.benchmark = self.form == "tuned"
        return self._published(series, target) if self.form == "published" else self._tuned(series, target)

    def _score(self, series: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        return self._discriminate(self.variant.arrange(torch.cat([series, maps], 1)))

    def _published(self, series, target):
        fake = self._generate(series)
        if torch.isnan(fake).any():
            raise FloatingPointError("the generator's output is not finite")
        score_real, score_fake = self._score(series, target), self._score(series, fake)
        bce_real, bce_fake = score_loss(score_real, 1.0), score_loss(score_fake, 0.0)
        self.opt_d.zero_grad()
        (0.5 * bce_real).backward(retain_graph=True)
        (0.5 * bce_fake).backward(retain_graph=True)  # through the generator as well
        self.opt_d.step()

        score_after = self._score(series, fake)
        adversarial, l1 = score_loss(score_after, 1.0), functional.l1_loss(fake, target)
        loss_g = self.l1_weight * l1 + adversarial
        self.opt_g.zero_grad()
        loss_g.backward()  # into the discriminator as well
        self.opt_g.step()
        return {"bce_real": bce_real, "bce_gen": bce_fake, "adv_loss": adversarial, "l1_loss": l1, "loss_g": loss_g}

    def _tuned(self, series, target):
        with self.variant.autocast(series.device):
            fake = self._generate(series)
            constant = fake.detach()
            bce_real, bce_fake = (
                score_loss(self._score(series, target), 1.0),
                score_loss(self._score(series, constant), 0.0),
            )
            loss_d = 0.5 * bce_real + 0.5 * bce_fake
        self.opt_d.zero_grad(set_to_none=True)
        loss_d.backward()
        self.opt_d.step()

        self.discriminator.requires_grad_(False)
        with self.variant.autocast(series.device):
            adversarial, l1 = score_loss(self._score(series, fake), 1.0), functional.l1_loss(fake, target)
            loss_g = self.l1_weight * l1 + adversarial
        self.opt_g.zero_grad(set_to_none=True)
        loss_g.backward()
        self.opt_g.step()
        self.discriminator.requires_grad_(True)
        return {"bce_real": bce_real, "bce_gen": bce_fake, "adv_loss": adversarial, "l1_loss": l1, "loss_g": loss_g}


# --- Inference -----------------------------------------------------------------------------------------------------


def folded(generator: nn.Module) -> nn.Module:
    """A copy in eval mode with each batch norm folded into the convolution before it."""
    network = copy.deepcopy(generator).eval()
    for part in network.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for i, (layer, norm) in enumerate(zip(list(part)[:-1], list(part)[1:])):
            if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
                transposed = isinstance(layer, nn.ConvTranspose2d)
                part[i] = nn.utils.fusion.fuse_conv_bn_eval(layer, norm, transpose=transposed)
                part[i + 1] = nn.Identity()
    return network


class Inference:
    """(slice, time, row, col), scaled -> maps.

    Statistics are `running` (eval mode, folded) or `per_slice` (one slice at a time).
    """

    def __init__(self, generator: nn.Module, norm: str = "running", variant: Variant = Variant()):
        self.norm, self.variant = norm, variant
        network = folded(generator) if norm == "running" else copy.deepcopy(generator).train()
        self._network = variant.runner(variant.place(network))

    def __call__(self, series: torch.Tensor) -> torch.Tensor:
        torch.backends.cudnn.benchmark = True
        with torch.inference_mode(), self.variant.autocast(series.device):
            if self.norm == "running":
                return self._network(series)
            return torch.cat([self._network(one) for one in series.split(1)])


# --- Does it compute what was published? ---------------------------------------------------------------------------


def part_of(golden: dict[str, np.ndarray], prefix: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state dict under a prefix; counters stay integers."""
    state = {}
    for name, value in golden.items():
        if name.startswith(prefix):
            tensor = torch.as_tensor(value)
            state[name.removeprefix(prefix)] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return state


def largest_difference(ours: torch.Tensor | float, published: np.ndarray) -> float:
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    if ours.shape != published.shape:
        raise ValueError(f"shape {ours.shape}, published {published.shape}")
    return float(np.max(np.abs(ours - published)))


def check(folder: pathlib.Path) -> list[tuple[str, float, float]]:
    """Rows (what, largest difference to the published numbers, allowed); float64, and float32 where it says so."""
    networks = {
        "temp_deconv_bn": lambda: TemporalGenerator(4),
        "unet_deconv_bn": lambda: UNet(80, 1, 4, 6),
        "patch_bn": lambda: PatchDiscriminator(81, 4),
    }
    rows = []
    for name, build in networks.items():
        golden = dict(np.load(folder / f"{name}.npz"))
        for dtype, suffix, allowed in ((torch.float64, "_f64", 1e-10), (torch.float32, "", 5e-5)):
            for mode in ("train", "eval"):
                network = build().to(dtype)
                network.load_state_dict(part_of(golden, "state/", dtype), strict=True)
                network.train(mode == "train")
                out = network(torch.as_tensor(golden["x"], dtype=dtype))
                rows.append(
                    (f"{name}, {mode}, {dtype}", largest_difference(out, golden[f"out_{mode}{suffix}"]), allowed)
                )
                if mode == "train" and dtype == torch.float64:
                    after = network.state_dict()
                    worst = max(
                        largest_difference(after[key.removeprefix("after_train/")].double(), value.astype(float))
                        for key, value in golden.items()
                        if key.startswith("after_train/")
                    )
                    rows.append((f"{name}, statistics afterwards", worst, 1e-5))
                if mode == "eval" and name == "temp_deconv_bn":
                    for layout in ("contiguous", "channels_last"):
                        out = Inference(network, variant=Variant(layout))(torch.as_tensor(golden["x"], dtype=dtype))
                        rows.append(
                            (
                                f"{name}, folded, {layout}, {dtype}",
                                largest_difference(out, golden[f"out_eval{suffix}"]),
                                allowed,
                            )
                        )
    for name, sigmoid in (("train_step_temp", True), ("train_step_temp_logits", False)):
        common, golden = dict(np.load(folder / "train_step_temp.npz")), dict(np.load(folder / f"{name}.npz"))
        for form, layout in (("published", "contiguous"), ("tuned", "contiguous"), ("tuned", "channels_last")):
            rows += check_steps(name, common, golden, form, layout, sigmoid)
    return rows


def check_steps(
    name: str, common: dict[str, np.ndarray], golden: dict[str, np.ndarray], form: str, layout: str, sigmoid: bool
) -> list[tuple[str, float, float]]:
    """Three training steps in float64: losses, fakes, and all weights afterwards."""
    generator, discriminator = TemporalGenerator(4).double(), PatchDiscriminator(81, 4, sigmoid=sigmoid).double()
    generator.load_state_dict(part_of(common, "init/g/", torch.float64), strict=True)
    discriminator.load_state_dict(part_of(common, "init/d/", torch.float64), strict=True)
    trainer = Trainer(generator, discriminator, form, Variant(layout))
    losses = []
    for series, target in zip(common["x"], common["y"], strict=True):
        losses.append(trainer.step(torch.as_tensor(series).double(), torch.as_tensor(target).double()))
    rows = []
    what = f"{name}, {form}, {layout}"
    worst = max(
        largest_difference(torch.stack([step[loss] for step in losses]), golden[f"f64/{loss}"]) for loss in losses[0]
    )
    rows.append((f"{what}: losses of three steps", worst, 1e-9))
    for letter, network in (("g", generator), ("d", discriminator)):
        after = network.state_dict()
        # The true gradient of a bias in front of a norm is zero: what Adam makes of its rounding is anybody's guess.
        worst = max(
            largest_difference(after[key].double(), golden[f"step3/{letter}/{key}"].astype(float))
            for key in after
            if not (key.startswith("tmp_") and (key.endswith(".0.bias") or key.endswith(".running_mean")))
        )
        rows.append((f"{what}: weights of {letter.upper()} afterwards", worst, 1e-6))
    return rows


# --- Timing --------------------------------------------------------------------------------------------------------


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(work, repeats: int, device: torch.device) -> list[float]:
    """Seconds of each repeat, the device waited for."""
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        begin = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of a comparison."""

    size: int
    frames: int
    width: int
    discriminator_width: int
    depth: int
    maps: int
    batch: int


class Twin:
    """Everything that is timed, built on first use; the tuned forms try their variants and keep the fastest."""

    def __init__(self, setting: Setting, device: torch.device, may_compile: bool):
        self.setting, self.device, self._may_compile = setting, device, may_compile
        self.chosen: dict[str, str] = {}  # what was kept
        self.tried: dict[str, dict[str, float | str]] = {}  # seconds of each variant, or why it failed
        draw = torch.Generator().manual_seed(0)
        shape = (setting.size, setting.size)
        self.series = (2 * torch.rand((setting.batch, setting.frames, *shape), generator=draw) - 1).to(device)
        self.target = (1.8 * torch.rand((setting.batch, setting.maps, *shape), generator=draw) - 0.9).to(device)
        torch.manual_seed(0)
        self.generator = TemporalGenerator(setting.width, setting.maps, setting.depth).to(device)

    def variants(self) -> list[Variant]:
        bf16 = [True] if self.device.type == "cuda" else [False]
        compiled = [False, True] if self._may_compile else [False]
        return [Variant(layout, c, b) for b in bf16 for c in compiled for layout in ("contiguous", "channels_last")]

    def fastest(self, name: str, make):
        """The quickest of `make(variant)()` over all variants, timed in turn.

        One that does not run is recorded and left out.
        """
        self.tried[name], works = {}, {}
        for variant in self.variants():
            try:
                work = make(variant)
                timed(work, 2, self.device)
                works[variant] = work
            except Exception as error:  # a compiler that is absent, or memory that is full: any kind of error
                self.tried[name][str(variant)] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
        if not works:
            raise RuntimeError(f"no variant of {name} runs: {self.tried[name]}")
        seconds = {variant: [] for variant in works}
        for _ in range(3):
            for variant, work in works.items():
                seconds[variant] += timed(work, 1, self.device)
        self.tried[name] |= {str(variant): min(times) for variant, times in seconds.items()}
        best = min(works, key=lambda variant: min(seconds[variant]))
        self.chosen[name] = str(best)
        return works[best]

    def trainer(self, form: str, variant: Variant) -> Trainer:
        setting = self.setting
        discriminator = PatchDiscriminator(setting.frames + setting.maps, setting.discriminator_width).to(self.device)
        return Trainer(copy.deepcopy(self.generator), discriminator, form, variant)

    @functools.cached_property
    def step_published(self):
        trainer = self.trainer("published", Variant())
        self.chosen["step_published"] = str(trainer.variant)
        return lambda: trainer.step(self.series, self.target)

    @functools.cached_property
    def step_tuned(self):
        def make(variant):
            trainer = self.trainer("tuned", variant)
            series, target = variant.arrange(self.series), variant.arrange(self.target)
            return lambda: trainer.step(series, target)

        return self.fastest("step_tuned", make)

    def _inference(self, name: str, norm: str):
        def make(variant):
            network, series = Inference(self.generator, norm, variant), variant.arrange(self.series)
            return lambda: network(series)

        return self.fastest(name, make)

    @functools.cached_property
    def inference_running(self):
        return self._inference("inference_running", "running")

    @functools.cached_property
    def inference_per_slice(self):
        return self._inference("inference_per_slice", "per_slice")

    @functools.cached_property
    def matmul_float32(self):
        return self._matmul(torch.float32)

    @functools.cached_property
    def matmul_bfloat16(self):
        return self._matmul(torch.bfloat16)

    def _matmul(self, dtype: torch.dtype):
        n, calls = (8192, 10) if self.device.type == "cuda" else (2048, 1)
        torch.backends.cuda.matmul.allow_tf32 = True  # the networks hold no such product: only their convolutions count
        left, right = (torch.randn((n, n), device=self.device).to(dtype) for _ in range(2))
        self.matmul_flops = calls * 2 * n**3
        return lambda: [left @ right for _ in range(calls)]

    def hardware(self) -> dict[str, object]:
        device = (
            torch.cuda.get_device_name() if self.device.type == "cuda" else platform.processor() or platform.machine()
        )
        return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


WORKS = (
    "step_published",
    "step_tuned",
    "inference_running",
    "inference_per_slice",
    "matmul_float32",
    "matmul_bfloat16",
)


def serve(twin: Twin) -> None:
    """Answers requests, one per line.

    They are {"do": "time", "what": ..., "repeats": n}, {"do": "about"} and {"do": "save", "path": ...}. "save" writes
    the generator's state dict, a series and its maps in float32, so that the other side can compute the same.
    """
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = respond(twin, request)
        except Exception as error:  # the other side decides what to do without this number
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), flush=True)


def respond(twin: Twin, request: dict) -> dict:
    if request["do"] == "about":
        return {**twin.hardware(), "chosen": twin.chosen, "tried": twin.tried}
    if request["do"] == "save":
        network = copy.deepcopy(twin.generator).train()
        for part in network.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
                part.momentum = None  # running statistics as the plain mean: one pass fills them
        with torch.no_grad():
            network(twin.series)
        arrays = {f"state/{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            maps = Inference(network)(twin.series)
        np.savez(request["path"], series=twin.series.cpu().numpy(), running=maps.cpu().numpy(), **arrays)
        return {"saved": request["path"]}
    work = getattr(twin, request["what"])
    answer = {"seconds": timed(work, request["repeats"], twin.device)}
    return {**answer, "flops": twin.matmul_flops} if request["what"].startswith("matmul") else answer


def main(_) -> None:
    if _THREADS.value:
        torch.set_num_threads(_THREADS.value)
    if _CHECK.value:
        rows = check(pathlib.Path(_CHECK.value))
        for what, difference, allowed in rows:
            print(f"{'same ' if difference <= allowed else 'OTHER'}  {difference:.1e} (allowed {allowed:.0e})  {what}")
        sys.exit(0 if all(difference <= allowed for _, difference, allowed in rows) else 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(
        _SIZE.value, _FRAMES.value, _WIDTH.value, _DISCRIMINATOR_WIDTH.value, _DEPTH.value, _MAPS.value, _BATCH.value
    )
    twin = Twin(setting, device, _COMPILE.value)
    if _SERVE.value:
        serve(twin)
        return
    print(f"{twin.hardware()['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}, {setting}")
    for what in WORKS[:4]:
        work = getattr(twin, what)
        timed(work, 1, device)
        seconds = timed(work, _REPEATS.value, device)
        print(
            f"{what:<18} {statistics.median(seconds):8.4f} s, median of {len(seconds)}  ({twin.chosen[what]})",
            flush=True,
        )
        for variant, result in twin.tried.get(what, {}).items():
            print(f"    tried {variant}: {result if isinstance(result, str) else f'{result:.4f} s'}")


if __name__ == "__main__":
    app.run(main)
