"""What every detector is once it is trained: scores and verdicts of raw input, and the Trainer's test and predict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.above import from_above
from adlightning.core.attribution import Attributions, attribute
from adlightning.core.conformal import p_values
from adlightning.core.contracts import EvalBatch, InputSpec
from adlightning.core.faults import PartSize
from adlightning.core.image_maps import MapKind, heatmaps
from adlightning.core.maps import residual_map
from adlightning.core.metrics import NoRanking, ScoredSamples, ranking_metrics
from adlightning.core.pixel_metrics import PixelMetrics
from adlightning.core.raw_input import raw_batches
from adlightning.core.rules import Rule, checks_arguments
from adlightning.core.saving import add_description, naming_checkpoint, take_description
from adlightning.core.score_table import ScoreTable
from adlightning.core.scoring import (
    Turn,
    as_written,
    bounded,
    guard,
    require_scores,
    score_batches,
    scoring,
    without_p_values,
    without_scores,
    without_verdict,
)
from adlightning.core.thresholds import ThresholdRule
from adlightning.preprocessing import Preprocessing

if TYPE_CHECKING:
    import pandas as pd

    from adlightning.data.modules import AnomalyDataModule


class ScoredModule(pl.LightningModule, ABC):
    """A module with an anomaly score and a threshold, which gives both only once it is trained.

    Its checkpoint says, beside its weights and buffers, what it is and what it was trained on.
    """

    argument_rules: ClassVar[Mapping[str, Rule]] = {}
    """What the constructor's arguments must be, by name; a Literal needs no rule."""

    scoring_arguments: ClassVar[tuple[str, ...]] = ()
    """Names of the constructor's arguments that no training depends on: a trained detector may be given others, as it
    may be given another `threshold`."""

    sized_by_data: ClassVar[tuple[str, ...]] = ("held_out_scores",)
    """Buffers whose first dimension is as long as the training data made it; a checkpoint says how long."""

    score_needs: str | None = None
    """What a score needs beyond a forward pass, in words: it is then not exported. None for nothing."""

    arguments: dict[str, Any]
    """What the constructor was given, defaults included."""

    input_spec: InputSpec | None = None
    """The input that it was built for."""

    run_config: str | None = None
    """The run's configuration, as YAML."""

    training_record: dict[str, Any]
    """What is known of the training, plain values only."""

    preprocess: Preprocessing
    """What is done to raw input."""

    threshold_rule: ThresholdRule
    """What the threshold is fitted by."""

    threshold: Tensor
    """Scores above it are anomalies; NaN until training has ended."""

    held_out_scores: Tensor
    """Scores (n,) of held-out normal samples, sorted upwards, which p-values rank a score among; empty without any."""

    median_normal: Tensor
    """The median of the normal training samples, raw, value by value; NaN before training, and (0,) for images."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls)
        checks_arguments(cls)

    def __init__(self) -> None:
        super().__init__()
        self.training_record = {}
        self.turn = Turn()
        self.tables: dict[str, ScoreTable] = {}
        self.results: dict[str, ScoredSamples] = {}
        self.located: dict[str, PixelMetrics] = {}  # of test sets with masks, where it gives maps
        self.rescored: list[str] = []  # what its scores take otherwise than training did, in words
        self._part_size = PartSize("data.eval_batch_size")

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch's, which looks among weights, buffers and modules first, but for what Lightning notes.

        It notes the name of each hook that it calls, forty times a step.
        """
        if name == "_current_fx_name":
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def built_for(self) -> InputSpec:
        """The input that it was built for. Raises RuntimeError before :meth:`configure_for`."""
        if self.input_spec is None:
            raise RuntimeError(f"{type(self).__name__} was not built for any data yet")
        return self.input_spec

    @property
    def data(self) -> AnomalyDataModule:
        """The datamodule of the running trainer."""
        datamodule: AnomalyDataModule | None = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError("an AnomalyDetector is trained and tested with an AnomalyDataModule: pass datamodule=...")
        return datamodule

    @property
    def is_trial(self) -> bool:
        """Whether this is Lightning's `fast_dev_run`, which asks for a batch of everything and no more."""
        return bool(getattr(self.trainer, "fast_dev_run", False))

    @abstractmethod
    def configure_for(self, spec: InputSpec) -> None:
        """Build preprocessing and networks for this input; refuse an input other than the one already built for."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint a whole detector."""
        add_description(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class; build for the input that it was trained on."""
        with naming_checkpoint(self):
            take_description(self, checkpoint)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for as much as the training data left."""
        buffers = dict(self.named_buffers())
        for name in self.sized_by_data & buffers.keys():
            own, given = buffers[name], state_dict.get(f"{prefix}{name}")
            if given is not None and given.ndim == own.ndim and given.shape[1:] == own.shape[1:]:
                module, _, last = name.rpartition(".")
                setattr(self.get_submodule(module), last, own.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **given: Any) -> Self:  # type: ignore[override]
        """A whole detector of this class from its checkpoint alone, in eval mode, as `load_detector` gives it.

        Args:
            checkpoint_path: a `.ckpt` file, or a run folder.
            given: of Lightning's arguments `map_location`, the device; `weights_only` and `strict` are always True.

        Raises:
            ValueError: as `load_detector`, a checkpoint of another class, or another argument: all of a detector's
                arguments are in its checkpoint.
        """
        device = given.pop("map_location", None) or "cpu"
        always = {name: given.pop(name, None) for name in ("weights_only", "strict")}
        if given or False in always.values():
            names = ", ".join([*given, *(name for name, value in always.items() if value is False)])
            raise ValueError(f"load_from_checkpoint takes a path and map_location, got {names}: the file has the rest")
        detector = from_above("checkpoints.loading", "load_detector")(checkpoint_path, device)
        if not isinstance(detector, cls):
            raise ValueError(
                f"checkpoint_path: {checkpoint_path} is of a {type(detector).__name__}, not a {cls.__name__}"
            )
        return detector

    # ---- scores ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def anomaly_score(self, x: Tensor) -> Tensor:
        """Scores (B,) of raw input (B, ...), higher for more anomalous; the same for a sample in any batch.

        Within a trainer's training step it is what the method wrote, with gradients and in training mode. Called from
        anywhere else it runs in eval mode without gradients, on input that is checked as in :meth:`score`, and every
        mode is as before after it. A score that takes gradients itself does so within `torch.enable_grad()`.
        """

    def ready_to_score(self) -> bool:
        """False while scores mean nothing yet (a pre-training phase): validation then says and selects nothing."""
        return True

    def score(self, x: NDArray[Any] | Tensor | pd.DataFrame | str | Path, batch_size: int = 500) -> NDArray[np.float64]:
        """Scores (N,) of raw samples, higher for more anomalous, as the verb `score` gives them.

        In eval mode without gradients, on the detector's device; the detector and random states are as before after it.

        Args:
            x: images (N, C, H, W), (N, H, W, C) or (N, H, W), uint8 or floats in [0, 1]; features (N, D), series
                (N, T, D); a pandas frame of a table, whose columns are matched by name; or the path of a folder of
                images or .wav files, one of these, a table, an .npy or .npz. Of a detector trained on windows of a
                table, a frame or a table gives a score for each row; of one trained on tiles, images of any size that
                holds a tile give a score each, that of the highest tile.
            batch_size: samples at a time; scores do not depend on it.

        Raises:
            ValueError: input that does not fit what the detector was trained on or is not finite, or a detector that is
                not trained yet.
        """
        self.require_ready()
        whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number and at least 1, got {batch_size!r}")
        of_windows = self.built_for.windows is not None and not isinstance(x, (np.ndarray, Tensor))
        if of_windows or self.built_for.tiles is not None:
            reader = "series_samples" if of_windows else "tile_samples"
            samples = from_above("data.own_samples", reader)(x, self.built_for)
            scores: NDArray[np.float64] = samples.reported(
                score_batches(self, samples.batches(samples.spans(int(batch_size))))
            )
            return scores
        return score_batches(self, raw_batches(x, self.built_for, int(batch_size)))

    def predict(self, x: NDArray[Any] | Tensor | pd.DataFrame | str | Path, batch_size: int = 500) -> NDArray[np.bool_]:
        """Verdicts (N,) on raw samples: whether their scores are above the threshold. Arguments as of :meth:`score`.

        Raises:
            ValueError: as :meth:`score`, or a detector that scores otherwise than its threshold was fitted.
        """
        scores = self.score(x, batch_size)
        if reason := without_verdict(self):
            raise ValueError(f"{type(self).__name__} cannot give verdicts: {reason}")
        return scores > self.threshold_over(scores)

    def p_value(
        self, x: NDArray[Any] | Tensor | pd.DataFrame | str | Path, batch_size: int = 500
    ) -> NDArray[np.float64]:
        """Conformal p-values (N,) in (0, 1] of raw samples: how often a normal sample scores as high.

        `(1 + #{held-out normal scores >= score}) / (n + 1)`: of normal samples at most a share `a` has a p-value of `a`
        or less. Arguments as of :meth:`score`.

        Raises:
            ValueError: as :meth:`score`, or a detector without scores of held-out normal samples.
        """
        scores = self.score(x, batch_size)
        if reason := without_p_values(self):
            raise ValueError(f"{type(self).__name__} cannot give p-values: {reason}")
        return p_values(scores, self.held_out())

    def explain(self, x: NDArray[Any] | Tensor | pd.DataFrame | str | Path, batch_size: int = 100) -> Attributions:
        """What each value of raw samples adds to their scores, against the median of the normal training samples.

        Args:
            x: samples of a table or series, as of :meth:`score`.
            batch_size: samples at a time.

        Raises:
            ValueError: as :meth:`score`, a detector of images, or captum is missing.
        """
        self.require_ready()
        return attribute(self, raw_batches(x, self.built_for, batch_size))

    def anomaly_map(self, x: Tensor) -> Tensor:
        """Where raw images (B, C, H, W) are anomalous, (B, H, W) at their size, higher for more anomalous.

        By default, of a method with `reconstructions`, what they leave: squared, the mean over channels.

        Raises:
            ValueError: the method does not know where; :meth:`heatmaps` has maps of any.
        """
        if (rebuilt := getattr(self, "reconstructions", None)) is None:
            raise ValueError(
                f"{type(self).__name__} does not say where an image is anomalous: heatmaps() shows it by occlusion"
            )
        return residual_map(self.preprocess(x), rebuilt(x), self.preprocess, x)

    @property
    def gives_maps(self) -> bool:
        """Whether it has an :meth:`anomaly_map` for its input."""
        own = type(self).anomaly_map is not ScoredModule.anomaly_map or hasattr(self, "reconstructions")
        return own and (self.input_spec is None or self.input_spec.kind == "image")

    def heatmaps(
        self, x: NDArray[Any] | Tensor | str | Path, batch_size: int = 50, by: MapKind = "auto"
    ) -> NDArray[np.float32]:
        """Where raw images are anomalous, (N, H, W) at their size, in eval mode without gradients.

        Args:
            x: images, as of :meth:`score`.
            batch_size: images at a time.
            by: `method` for the method's own map; `occlusion` for what the score loses where the image is blurred,
                about 150 scores an image; `auto` for the first where there is one, which `gives_maps` says.

        Raises:
            ValueError: as :meth:`score`, a detector of something else, or a method that has no map of its own.
        """
        self.require_ready()
        return heatmaps(self, x, batch_size, by)

    def nearest_normal(self, x: Tensor) -> Tensor | None:
        """What the method knows as normal and nearest to raw images, (B, C, H, W) in the preprocessed range.

        By default its reconstructions; None where a method has nothing of the kind.
        """
        rebuilt = getattr(self, "reconstructions", None)
        return None if rebuilt is None else rebuilt(x)

    def held_out(self) -> NDArray[np.float64]:
        """Scores (n,) of held-out normal samples, sorted upwards, on the host."""
        values: NDArray[np.float64] = self.held_out_scores.double().cpu().numpy()
        return values

    def threshold_over(self, scores: NDArray[np.float64]) -> float:
        """The threshold for samples (N,) that are judged together; NaN before training has ended."""
        fitted = self.threshold.item()
        return fitted if math.isnan(fitted) else self.threshold_rule.over(scores, self.held_out(), fitted)

    def require_ready(self) -> None:
        """Raise ValueError unless training has ended: there are no scores before it."""
        if reason := without_scores(self):
            raise ValueError(f"{type(self).__name__} cannot score yet: {reason}")

    def scores_that_fit(self, x: Tensor) -> Tensor:
        """Scores (B,) of raw input (B, ...), float32, in smaller parts where memory is too small for all of it."""
        with scoring(self):
            scores = self._part_size.run(
                lambda n: torch.cat([require_scores(self, as_written(self)(part), part) for part in x.split(n)]),
                max(len(x), 1),
            )
            return bounded(scores.float(), self.preprocess.is_far(x))

    # ---- the Trainer's verbs --------------------------------------------------------------------------------------

    def _score_step(self, batch: EvalBatch, name: str) -> Tensor:
        scores = self.scores_that_fit(batch.x)
        self._table(name).update(scores, batch.label, batch.index)
        return scores

    def _table(self, name: str) -> ScoreTable:
        if name not in self.tables:  # making one takes a millisecond
            self.tables[name] = ScoreTable().to(self.device)
        return self.tables[name]

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self.tables = {}

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def on_validation_start(self) -> None:
        """Refuse the verb where there is nothing to say yet; within a fit, validation waits for it."""
        if self.trainer.state.fn == "validate" and not self.is_trial:
            self.require_ready()

    def on_test_start(self) -> None:
        """Refuse a detector that is not trained yet, but for a trial, which trains none."""
        if not self.is_trial:
            self.require_ready()

    on_predict_start = on_test_start

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Collect scores of test samples."""
        self._score_step(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Gather every rank's scores into `results`; ranking metrics are logged where both classes are present."""
        self._gather()
        if not self.is_trial:
            found = {name: self.data.locate(self, scored) for name, scored in self.results.items()}
            self.located = {name: metrics for name, metrics in found.items() if metrics is not None}
        for name, scored in self.results.items():
            prefix = "test" if len(self.data.test_names) == 1 else f"test/{name}"
            try:
                values = ranking_metrics(scored.scores, scored.labels)
            except NoRanking:
                continue  # the run's report says so
            values |= self.located[name].of() if name in self.located else {}
            self.log_dict({f"{prefix}/{k}": v for k, v in values.items()}, sync_dist=True)

    def predict_step(self, batch: EvalBatch, batch_idx: int) -> Tensor:
        """Scores (B,) of a batch."""
        return self._score_step(batch, "test")

    def on_predict_epoch_end(self) -> None:
        """Gather every rank's scores into `results`."""
        self._gather()

    def _gather(self) -> None:
        # a rank without a test sample takes part in gathering all the same
        scored = self._table("test").compute()
        self.results = {
            name: self.data.as_reported(scored.of(rows), "test") for name, rows in self.data.test_sets.items()
        }
        self.located = {}
