"""What every datamodule is: a source, a split, and the batches they give."""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adlightning.core.contracts import EvalBatch, InputSpec, TrainBatch
from adlightning.core.metrics import ScoredSamples
from adlightning.core.pixel_metrics import PixelMetrics
from adlightning.data.augmentation import Augmentation
from adlightning.data.composition import Split
from adlightning.data.encoding import complete, fit_columns
from adlightning.data.loading import (
    AsItIs,
    IndexBatches,
    Order,
    PairedBatches,
    TensorLoader,
    lazy_loader,
    resident_columns,
)
from adlightning.data.scales import offsets_of, require_differences
from adlightning.data.sources.base import Part, Samples, Source
from adlightning.data.synthetic import SyntheticAnomalies
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL, UNLABELLED

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule


class AnomalyDataModule(pl.LightningDataModule, ABC):
    """What every datamodule shares: loading, batches, ranks. Subclasses say who is normal, labelled and held out.

    Args:
        batch_size: training samples a step, on each rank; normals and as many unlabelled ones for methods that contrast
            the two.
        eval_batch_size: samples a step in validation and test; scores do not depend on it.
        drop_last: leave out an epoch's last batch when it is not full, as the released codes do.
        validation_fraction: share of the training normals held out, in [0, 1); sets the threshold, never the weights.
        seed: seed of the split and of the order of batches; null takes `seed_everything`.
        num_workers: processes that decode images which do not fit in memory.
        device_budget_mb: data up to this many MiB are kept on the training device.
        train_transforms: modules that change training batches of raw input on the device, in this order, each sample
            by its own draw: of `torchvision.transforms.v2`, `kornia.augmentation`, or one's own (docs/augmentation.md).
            Scores and whatever is fitted to the data never see them. null for none.
        synthetic_anomalies: makes known anomalies of a share of each training batch of images, after the transforms:
            `CutPaste`, `Confetti`, or one's own (docs/synthetic_anomalies.md). Nothing that is held out, tested or
            fitted to sees any. null for none.

    Raises:
        ValueError: an argument outside its range, before any data are read.
    """

    def __init__(
        self,
        batch_size: int = 200,
        eval_batch_size: int = 1000,
        drop_last: bool = True,
        validation_fraction: float = 0.05,
        seed: int | None = None,
        num_workers: int = 2,
        device_budget_mb: int = 8192,
        train_transforms: list[nn.Module] | None = None,
        synthetic_anomalies: SyntheticAnomalies | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie in [0, 1), got {validation_fraction}")
        for name, value in (("num_workers", num_workers), ("device_budget_mb", device_budget_mb)):
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if not isinstance(synthetic_anomalies, SyntheticAnomalies | None):
            raise ValueError(
                f"synthetic_anomalies must be CutPaste(...), Confetti(...) or one's own, got {synthetic_anomalies!r}"
            )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.drop_last = drop_last
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.device_budget_mb = device_budget_mb
        self.train_transforms = train_transforms
        self.synthetic_anomalies = synthetic_anomalies
        self._augmentation = Augmentation(train_transforms) if train_transforms else None
        self._ready = False
        self._columns: TrainBatch | None = None

    protocol: str = "clean"
    """What a result row has to say of the split: `clean`, `inductive`, or how test data reached training."""

    validates_on_tested_kinds: bool = False
    """Whether validation holds anomalies of a kind that is tested: what is chosen by them is chosen by an oracle."""

    def with_seed(self, seed: int) -> Self:
        """A copy that splits and orders by this seed, where it has none of its own; the source is shared."""
        other = copy.copy(self)
        other.seed = self.seed if self.seed is not None else seed
        other.trainer = None
        other._ready, other._columns = False, None
        return other

    # ---- what a subclass says -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def data_source(self) -> Source:
        """Where the samples come from."""

    @abstractmethod
    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """Training part, test part (may be the same), who is who in them, and the data in words."""

    def sample_spec(self) -> InputSpec:
        """Kind and shape of a sample: as the source has them."""
        return self.data_source.input_spec()

    # ---- Lightning's hooks ----------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Download what is missing, when asked to; on one process."""
        self.data_source.prepare()

    def setup(self, stage: str) -> None:
        """Load and split, once."""
        if not self._ready:
            self.train_samples, self.test_samples, self.split, description = self.make_split()
            self.input_spec: InputSpec = replace(self.sample_spec(), description=description)
            if len(self.split.train) < 2:
                raise ValueError(f"training needs at least 2 samples, the data leave {len(self.split.train)}")
            self._fit_columns()
            self._find_offsets()
            self._ready = True
        if stage == "fit":
            rows, _ = self.training_rows()
            complete_samples = complete(self.train_samples, self.input_spec.columns)
            require_differences(complete_samples, rows, self._fitted_rows, self.split, self.input_spec)
            for change in (self._augmentation, self.synthetic_anomalies):
                if change is not None:
                    few = _rows_of(self.train_samples, rows[:2]).to(self._raw_dtype())
                    change.require_fits(few, self.input_spec)
        if stage in ("test", "predict") and not self.test_names:
            raise ValueError(f"there is nothing to test: {self.input_spec.description} has no test part")
        if stage == "validate" and not self.has_validation:
            raise ValueError("there is nothing to validate: validation_fraction is 0, nothing is held out")

    @property
    def _fitted_rows(self) -> NDArray[np.int64]:
        """What a preprocessing is fitted to."""
        rows: NDArray[np.int64] = self.split.train[self.split.known != KNOWN_ANOMALY]
        return rows

    def _fit_columns(self) -> None:
        """Say in the input what fills missing values, and which categories the training rows have."""
        parts = [self.train_samples, self.test_samples]
        self.input_spec, parts = fit_columns(self.input_spec, parts, self._fitted_rows)
        self.train_samples, self.test_samples = parts

    def _find_offsets(self) -> None:
        """Say in the input what float32 cannot hold."""
        x = complete(self.train_samples, self.input_spec.columns).x
        if self.input_spec.kind != "image" and isinstance(x, Tensor) and x.dtype == torch.float64:
            self.input_spec = replace(self.input_spec, offsets=offsets_of(x[self._fitted_rows]))

    def train_dataloader(self) -> TensorLoader[TrainBatch] | DataLoader[TrainBatch]:
        """Shuffled training batches."""
        return self._train_loader(shuffle=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change what a training step gets; nothing else gets a :class:`TrainBatch` from a trainer."""
        if not isinstance(batch, TrainBatch):
            return batch
        if self._augmentation is not None:
            batch = batch._replace(x=self._augmentation(batch.x))
        return batch if self.synthetic_anomalies is None else self.synthetic_anomalies(batch)

    def val_dataloader(self) -> list[TensorLoader[EvalBatch] | DataLoader[EvalBatch]]:
        """Held-out samples of the training part; empty when nothing is held out."""
        if not self.has_validation:
            return []
        return [self._eval_loader(self.train_samples, self.split.validation, self.split.validation_labels)]

    def test_dataloader(self) -> list[TensorLoader[EvalBatch] | DataLoader[EvalBatch]]:
        """One loader for all test sets: a sample that is in several of them is scored once."""
        if not self.test_names:
            return []
        return [self._eval_loader(self.test_samples, self.split.test, self.split.test_labels)]

    def predict_dataloader(self) -> list[AsItIs[EvalBatch]]:
        """The test sets."""
        return [AsItIs(loader) for loader in self.test_dataloader()]

    # ---- for detectors and reports --------------------------------------------------------------------------------

    @property
    def has_validation(self) -> bool:
        """Whether samples are held out of training."""
        return len(self.split.validation) > 0

    @property
    def test_sets(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the test part by the test set's name; `split.test` holds them all."""
        return {"test": self.split.test} if len(self.split.test) else {}

    @property
    def test_names(self) -> list[str]:
        """Names of the test sets."""
        return list(self.test_sets)

    def fitting_batches(self, device: torch.device) -> Iterator[TrainBatch]:
        """One pass over the whole training set, in order, on every rank alike."""
        return iter(self._train_loader(shuffle=False, device=device))

    def preprocessing_batches(self, device: torch.device) -> Iterator[Tensor]:
        """One pass over the raw samples that a preprocessing is fitted to: training samples but known anomalies."""
        for batch in self.fitting_batches(device):
            yield batch.x.to(device)[batch.known.to(device) != KNOWN_ANOMALY]

    def held_out_batches(self, device: torch.device) -> Iterator[EvalBatch]:
        """One pass over all held-out samples, in order, on every rank alike."""
        split = self.split
        order = IndexBatches(len(split.validation), self.eval_batch_size)
        return iter(self._eval_loader(self.train_samples, split.validation, split.validation_labels, order, device))

    def held_out_unlabelled(self, device: torch.device) -> Iterator[TrainBatch]:
        """One pass over held-out unlabelled samples, in order, on every rank alike; none where there are none."""
        rows = torch.from_numpy(self.split.held_out_unlabelled)
        known = torch.full_like(rows, UNLABELLED)
        for part in rows.split(self.eval_batch_size) if len(rows) else ():
            x = _rows_of(self.train_samples, part.numpy()).to(device, self._raw_dtype())
            yield TrainBatch(x, known[: len(part)].to(device), part.to(device))

    def oracle_batches(self, device: torch.device) -> Iterator[EvalBatch]:
        """One pass over all TEST sets, with labels, on every rank alike: only for what reports `selection: oracle`."""
        if not self.test_names:
            raise ValueError(f"selection: oracle chooses on test data, and {self.input_spec.description} has none")
        split = self.split
        order = IndexBatches(len(split.test), self.eval_batch_size)
        return iter(self._eval_loader(self.test_samples, split.test, split.test_labels, order, device))

    @property
    def tests_on_training_part(self) -> bool:
        """Whether the test set was held out of the part that is trained on, so that the split must be the same."""
        return self.test_samples is self.train_samples

    def split_fingerprint(self) -> str:
        """A digest of who trains, what is known of them, and who is held out."""
        split, digest = self.split, hashlib.sha256(str(len(self.train_samples.y)).encode())
        parts = (split.train, split.known, split.validation)
        for part in (*parts, *([split.held_out_unlabelled] if len(split.held_out_unlabelled) else [])):
            digest.update(part.astype("<i8").tobytes() + b"|")
        return digest.hexdigest()

    def sample_names(self, test_name: str) -> Sequence[str]:
        """Names of all samples of a test set's part; a score's `index` points into it."""
        return self.test_samples.names

    def sample_columns(self, test_name: str) -> Mapping[str, Sequence[str]]:
        """What a score table has beside the names of a test set's part, by the column's name; a score's `index` points
        into each."""
        return {}

    def as_reported(self, scored: ScoredSamples, part: Part) -> ScoredSamples:
        """Scores of the samples of a part as scores of what is reported: the samples themselves."""
        return scored

    def held_out_index(self) -> NDArray[np.int64]:
        """The `index` of what is reported and held out of training."""
        return self.split.validation

    def range_metrics(self, scored: ScoredSamples) -> dict[str, Any]:
        """What else there is to say of reported scores of a test set; nothing where samples have no order."""
        return {}

    def locate(self, detector: ScoredModule, scored: ScoredSamples) -> PixelMetrics | None:
        """How well a detector's maps of a test set show where images are anomalous; None where nobody knows where."""
        return None

    def test_images(self, test_name: str, index: NDArray[np.int64]) -> Tensor | None:
        """Raw images of a test set by `index`; None for tables and series."""
        return _rows_of(self.test_samples, index) if self.input_spec.kind == "image" else None

    def train_images(self, index: NDArray[np.int64]) -> Tensor:
        """Raw samples of the training part by `index`, held-out ones among them."""
        return _rows_of(self.train_samples, index)

    def counts(self) -> dict[str, int]:
        """Sizes of the parts, for reports."""
        _, known = self.training_rows()
        labels = self.split.test_labels
        return {
            "train": len(known),
            "train_known_anomalies": int((known == KNOWN_ANOMALY).sum()),
            "train_known_normals": int((known == KNOWN_NORMAL).sum()),
            "validation": len(self.split.validation),
            "test": len(labels),
            "test_anomalies": int((labels == 1).sum()),
        }

    def training_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the training part and what is known of them; unsupervised detectors get no known anomalies."""
        rows, known = self.split.train, self.split.known
        if self._detector_says("uses_known_anomalies", True):
            return rows, known
        return rows[known != KNOWN_ANOMALY], known[known != KNOWN_ANOMALY]

    # ---- batches --------------------------------------------------------------------------------------------------

    def effective_seed(self) -> int:
        """The seed of split and order: `seed`, else what `seed_everything` set, else 0."""
        return self.seed if self.seed is not None else int(os.environ.get("PL_GLOBAL_SEED", "0"))

    def _detector_says(self, attribute: str, default: Any) -> Any:
        """What the running trainer's detector asks of its batches."""
        return getattr(getattr(self.trainer, "lightning_module", None), attribute, default)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _raw_dtype(self) -> torch.dtype:
        """What the running trainer's detector takes, which may have been trained on other data."""
        spec: InputSpec = self._detector_says("input_spec", None) or self.input_spec
        dtype: torch.dtype = getattr(torch, spec.dtype)
        return dtype

    def _ranks(self) -> dict[str, Any]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _train_loader(
        self, shuffle: bool, device: torch.device | None = None
    ) -> TensorLoader[TrainBatch] | DataLoader[TrainBatch]:
        rows, known = (torch.from_numpy(column) for column in self.training_rows())
        order = self._shuffled(known) if shuffle else IndexBatches(len(rows), self.eval_batch_size)
        device = device or self._device()
        x = self.train_samples.x
        if not isinstance(x, Tensor):
            return lazy_loader(x, rows, known, order, TrainBatch, device, self.num_workers)
        if self._columns is None or len(self._columns.index) != len(rows):
            self._columns = resident_columns(
                x, rows, known, TrainBatch, device, self.device_budget_mb, self._raw_dtype()
            )
        return TensorLoader(self._columns, order, device)

    def _shuffled(self, known: Tensor) -> Order:
        """The order of training: of both streams side by side for a detector that contrasts them."""
        options: dict[str, Any] = {"drop_last": self.drop_last, "seed": self.effective_seed(), **self._ranks()}
        options["renewed"] = not getattr(self.trainer, "overfit_batches", 0)  # which asks for the same few batches
        if self._detector_says("needs_unlabelled", False):
            normal, unlabelled = ((known == kind).nonzero().flatten() for kind in (KNOWN_NORMAL, UNLABELLED))
            return PairedBatches(normal, unlabelled, self.batch_size, **options)
        passes = self._detector_says("passes_per_epoch", 1)
        return IndexBatches(len(known), self.batch_size, shuffle=True, passes=passes, **options)

    def _eval_loader(
        self,
        samples: Samples,
        index: NDArray[np.int64],
        labels: NDArray[np.int64],
        order: IndexBatches | None = None,
        device: torch.device | None = None,
    ) -> TensorLoader[EvalBatch] | DataLoader[EvalBatch]:
        order = order or IndexBatches(len(index), self.eval_batch_size, **self._ranks())
        rows, y, device = torch.from_numpy(index), torch.from_numpy(labels), device or self._device()
        if not isinstance(samples.x, Tensor):
            return lazy_loader(samples.x, rows, y, order, EvalBatch, device, self.num_workers)
        budget, dtype = self.device_budget_mb, self._raw_dtype()
        columns = resident_columns(samples.x, rows, y, EvalBatch, device, budget, dtype)
        return TensorLoader(columns, order, device)


def _rows_of(samples: Samples, index: NDArray[np.int64]) -> Tensor:
    x = samples.x
    return x[torch.from_numpy(index)] if isinstance(x, Tensor) else torch.stack([x[int(i)] for i in index])
