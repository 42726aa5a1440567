"""One exam -> maps from extremely randomised trees on each voxel's curve and those around it.

After McKinley et al. 2018 (Front Neurol 9:717, doi 10.3389/fneur.2018.00717): regressors that see a voxel's 5 x 5 patch
of the series, fitted to maps of a few thousand voxels; forests had the lowest error there, and patches did better than
single voxels and larger patches.

What differs from their work:
- Of the patch the trees see mean and standard deviation in each frame, not every curve: 3 x frames features instead of
  25 x. On a small phantom cohort (14 training exams of 64 x 64 x 4, 5,000 voxels) all curves made the error of Tmax 2 %
  lower, that of CBF 9 % higher, and the fit three times as long.
- Extremely randomised trees (Geurts et al. 2006, Mach Learn 63:3-42) instead of a random forest: in less time their
  error was lower there on all five maps (Tmax 0.333 against 0.342 s, CBF 4.77 against 4.81 mL/100 g/min). That of
  gradient boosting was higher on CBF, Tmax and TTP, and lower on CBV and MTT.
- Series and maps are scaled, clipped, and on the network grid, as our networks get them: the same input, the same
  exams. Theirs are raw series and the maps of a commercial program.

The trees are fitted in the process that uses them; nothing of them is stored.
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import pathlib
import time
from typing import Any

import numpy as np
from einops import rearrange
from numpy.lib.stride_tricks import sliding_window_view

from dscgan_jax import provenance
from dscgan_jax.data import batches, preparation
from dscgan_jax.data.batch import FIELDS
from dscgan_jax.data.derivatives import ExamMaps, ScaledMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.grid import nearest_on_network
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.models.padding import AIR

SOURCE = "trees"  # as in the records
PATCH = 5  # network pixels; McKinley: better than 1, and than more
# McKinley: beyond 5,000 voxels little is gained. Four times as many lower the error of all maps but Tmax by 2 to 5 % on
# the small phantom cohort, for a minute more on one core.
VOXELS = 20_000
TREES = 100
SHARE_TRIED = 1 / 3  # of the features at each split, as is usual for regression (Breiman 2001)
LEAST_IN_LEAF = 3  # voxels; with 1 the error was no lower, and the fit took 40 % longer


@dataclasses.dataclass(frozen=True)
class VoxelSample:
    """Voxels to fit to.

    Attributes:
      features: (voxel, feature) float32, from `features_of`.
      maps: (voxel, target) float32, scaled; NaN where the exam has no such map.
      subjects: (voxel,) names.
    """

    features: np.ndarray
    maps: np.ndarray
    subjects: np.ndarray


class TreesSource:
    """The maps of trees, written into a folder as they are made (`MapSource`).

    Attributes:
      offers: `trees`, with the targets.
      findings: by subject, of the exam and its preparation.
    """

    def __init__(
        self,
        sample: VoxelSample,
        scaling: Scaling,
        settings: preparation.PreparationSettings,
        folder: pathlib.Path,
        *,
        seed: int = 0,
        jobs: int = 1,
    ):
        """Fits one forest for each target.

        Args:
          sample: from `sample_of`.
          scaling: of the sample: series to input, output to maps.
          settings: how exams come onto the network grid.
          folder: receives `trees/<subject>_<map>.nii.gz`.
          seed: of the trees; the same seed gives the same maps.
          jobs: threads; they change nothing but the time.

        Raises:
          InputError: scikit-learn is not installed.
        """
        check_installed()
        from sklearn.ensemble import ExtraTreesRegressor

        self._scaling, self._settings, self._folder, self._jobs = scaling, settings, folder, jobs
        self._n_voxels, self._seed = len(sample.features), seed
        self.offers = {SOURCE: tuple(name for name in MAP_NAMES if name in scaling.targets)}
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self._forests: list[Any] = []
        for target in sample.maps.T:
            known = np.isfinite(target)
            forest = ExtraTreesRegressor(
                TREES, max_features=SHARE_TRIED, min_samples_leaf=LEAST_IN_LEAF, random_state=seed, n_jobs=jobs
            )
            forest.fit(sample.features[known], target[known])
            # Threads would add the trees up in an order of their own, and round otherwise each time.
            self._forests.append(forest.set_params(n_jobs=1))

    def maps_of(self, exam: Exam) -> dict[str, ExamMaps]:
        """Predicts each voxel of the brain, and writes; the maps are 0 outside the brain that is found in the series.

        Raises:
          InputError: as `preparation.prepare`, or the input is delta_r2star and the exam has no echo time.
        """
        if self._scaling.signal == "delta_r2star" and not np.isfinite(exam.echo_seconds):
            raise InputError(
                f"{exam.subject}: the trees work on delta_r2star and need the echo time; give --te= in seconds, or "
                "EchoTime in the sidecar."
            )
        begun = time.perf_counter()
        prepared = preparation.prepare(exam, self._settings, look_for_motion=False)
        found = Findings()
        if prepared.brain is None:  # the trees were fitted to voxels of the brain alone
            of_series = exam.mask_source == "threshold"
            inside = preparation.brain_of(exam, found, mask_is_of_series=of_series)
            prepared = dataclasses.replace(prepared, brain=inside)
        scaled = self._scaled(prepared)
        volumes = prepared.restored(np.asarray(self._scaling.physical_maps(scaled.values)), scaled.targets)
        self.findings[exam.subject] = by_severity((*prepared.findings, *found.listed()))
        maps = ExamMaps(
            subject=exam.subject,
            volumes=volumes,
            units={name: MAPS[name].unit for name in volumes},
            stored=exam.stored,
            how="predicted by extremely randomised trees",
            findings=self.findings[exam.subject],
            provenance=self._provenance(exam),
            mask=prepared.brain,
            scaled=scaled,
            seconds=time.perf_counter() - begun,
        )
        maps.save(self._folder / SOURCE)
        return {SOURCE: maps}

    def _scaled(self, prepared: preparation.PreparedExam) -> ScaledMaps:
        """On the network grid; outside the brain as maps are that a network learns from."""
        series = np.asarray(self._scaling.scaled_series(prepared.inputs(np.arange(len(prepared.dsc)))))
        values = np.array(self._scaling.scaled_maps(np.zeros_like(prepared.maps)))  # (slice, row, col, target)
        assert prepared.brain is not None
        brain = nearest_on_network(prepared.brain, prepared.grid)

        def predict(index: int) -> None:
            rows, cols = np.nonzero(brain[index])
            if len(rows):
                features = features_of(series[index], rows, cols)
                values[index, rows, cols] = np.stack([forest.predict(features) for forest in self._forests], axis=-1)

        with concurrent.futures.ThreadPoolExecutor(self._jobs) as threads:
            list(threads.map(predict, range(len(values))))
        return ScaledMaps(values, self._scaling.targets)

    def _provenance(self, exam: Exam) -> dict[str, Any]:
        """Model with its numbers, what was assumed of the exam, versions."""
        return {
            "Model": {
                "name": SOURCE,
                "trees": TREES,
                "voxels": self._n_voxels,
                "patch": PATCH,
                "seed": self._seed,
                "signal": self._scaling.signal,
            },
            "Exam": {"FrameSeconds": exam.frame_seconds},
            "Software": {**provenance.software_versions(), "scikit-learn": importlib.metadata.version("scikit-learn")},
        }


def check_installed() -> None:
    """Refuses to begin without scikit-learn.

    Raises:
      InputError: says what to install.
    """
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the trees need scikit-learn, which is not installed; pip install 'dscgan_jax[study]'."
        ) from error


def sample_of(
    builder: Any, scaling: Scaling, *, voxels: int = VOXELS, seed: int = 0, read_threads: int = 4
) -> VoxelSample:
    """Voxels of the brains of the training split, drawn evenly within each subject and as many of each.

    Args:
      builder: the prepared data set; its training split alone is opened.
      scaling: of series and maps.
      voxels: of all subjects together; each has at least one, and gives no more than it has.
      seed: of the draw.
      read_threads: threads that read from disk.

    Raises:
      InputError: the training split is empty or damaged, or there are fewer voxels than a leaf holds.
    """
    slices = dataclasses.replace(batches.training_slices(builder), fields=(*FIELDS, "subject"))
    n_subjects = list(builder.info.metadata["splits"].values()).count("train")
    share, random = max(1, voxels // n_subjects), np.random.default_rng(seed)
    kept: dict[str, tuple[np.ndarray, ...]] = {}
    for example in batches.in_order(slices, read_threads, progress=True):
        subject = str(example["subject"])
        drawn = _drawn(example, scaling, share, random)
        if subject in kept:
            drawn = tuple(np.concatenate(both) for both in zip(kept[subject], drawn, strict=True))
        # Each voxel has a number by lot; the lowest numbers of a subject are an even draw from all its slices.
        lowest = np.argsort(drawn[0])[:share]
        kept[subject] = tuple(values[lowest] for values in drawn)
    _, features, maps = (np.concatenate(parts) for parts in zip(*kept.values(), strict=True))
    if len(features) < LEAST_IN_LEAF:
        raise InputError(f"the trees have {len(features)} training voxels; expected thousands. Give more exams.")
    subjects = np.repeat(list(kept), [len(values[0]) for values in kept.values()])
    return VoxelSample(features, maps, subjects)


def _drawn(
    example: batches.Example, scaling: Scaling, most: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a slice: lots (voxel,), features and scaled maps of the brain's voxels with the lowest lots."""
    batch = batches.stacked([example])
    rows, cols = np.nonzero(example["mask"])
    lots = random.random(len(rows))
    chosen = np.argsort(lots)[:most]
    rows, cols = rows[chosen], cols[chosen]
    features = features_of(np.asarray(scaling.scaled_series(batch))[0], rows, cols)
    maps = np.array(scaling.scaled_maps(example["maps"][rows, cols]))
    maps[:, ~example["has_map"][[MAP_NAMES.index(name) for name in scaling.targets]]] = np.nan
    return lots[chosen], features, maps


def features_of(series: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """What the trees see of some voxels of a slice.

    Args:
      series: (time, row, col), scaled.
      rows: (voxel,) of the voxels.
      cols: likewise.

    Returns:
      (voxel, 3 x time) float32: the voxel's curve, then mean and standard deviation over its patch in each frame.
      Beyond the slice there is air, as around the slices of a network.
    """
    rim = PATCH // 2
    padded = np.pad(series, ((0, 0), (rim, rim), (rim, rim)), constant_values=AIR)
    patches = sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))[:, rows, cols]  # (time, voxel, 5, 5)
    parts = np.stack([series[:, rows, cols], patches.mean(axis=(2, 3)), patches.std(axis=(2, 3))])
    return rearrange(parts, "part time voxel -> voxel (part time)").astype(np.float32)
