"""AnomalyDetector, the one base class: a method writes `training_step` and `anomaly_score`, the rest is done for it."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from torch import Tensor
from torch.nn.parameter import is_lazy

from adlightning.core.attribution import median_normal
from adlightning.core.averaging import average_weights_alone
from adlightning.core.collapse import check_finite, check_loss, constant_scores, is_constant, likely_cause, why_constant
from adlightning.core.contracts import EvalBatch, InputSpec, TrainBatch
from adlightning.core.curves import StepCurves
from adlightning.core.devices import ask_at_little_cost
from adlightning.core.final_fit import ends_here, fit_now
from adlightning.core.lightning_features import require_supported
from adlightning.core.memory_format import lay_out_as_faster
from adlightning.core.metrics import NoRanking, ScoredSamples, ranking_metrics
from adlightning.core.optimization import go_on
from adlightning.core.parts import PreprocessingFactory, as_part
from adlightning.core.phases import (
    FirstPhase,
    epochs_before_objective,
    note_limit,
    require_training,
    require_weights_to_train,
)
from adlightning.core.prepared import name_of, prepared_for
from adlightning.core.saved_arguments import require_types_of_parts
from adlightning.core.scored import ScoredModule
from adlightning.core.scoring import score_batches
from adlightning.core.shared_epochs import keep, place_of, take_up
from adlightning.core.shelf import TAKEN
from adlightning.core.threshold_fit import fit_to, keep_held_out, require_enough_held_out, score_and_fit
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.core.watchers import let_plateaus_wait, watch_the_objective
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, KNOWN_NORMAL, UNLABELLED
from adlightning.preprocessing import Preprocessing


class AnomalyDetector(ScoredModule):
    """A trainable anomaly score with its preprocessing and threshold; one checkpoint holds all of it.

    A method writes `training_step` and `anomaly_score`, and builds its networks in :meth:`build`, once the size of the
    data is known. `training_step` returns the loss, or a mapping with `loss` and whatever else of the step is worth a
    curve. A method that overrides one of the hooks here calls its `super()`.

    Args:
        preprocessing: what is done to raw input: a class of `adlightning.preprocessing`, or one's own, made for the
            shape of a raw sample. None takes [0, 1] for images and standardised features for tables and series. It is
            fitted on training data without their known anomalies.
        threshold: what the threshold is fitted by: `NormalQuantile`, `FalsePositiveRate`, `FalseDiscoveryRate`,
            `Contamination`, `FixedThreshold`, or one's own.

    Raises:
        ValueError: an argument outside its range.
    """

    uses_known_anomalies: ClassVar[bool] = True
    """False for unsupervised methods: known anomalies are then left out of training."""

    needs_known_anomalies: ClassVar[bool] = False
    """True for methods without an objective where no anomaly is known: a fit is then refused."""

    needs_unlabelled: ClassVar[bool] = False
    """True for methods that contrast known normals with unlabelled samples: an epoch is one pass over the normals, each
    batch has as many unlabelled samples as a full one has normals, and a fit without both kinds is refused."""

    differentiated_twice: tuple[str, ...] = ()
    """Names of networks whose gradients training differentiates again: they are not compiled."""

    own_averages: str | None = None
    """Which argument makes a method score by averages of its weights: callbacks that average are then refused."""

    first_phase_argument: ClassVar[str | None] = None
    """Which argument says the epochs of a first phase, whose weights are not scored (`pretraining.epochs`); or None."""

    shared_module: ClassVar[str] = ""
    """The module that holds all weights and buffers which the first epochs move, where cells of a grid share them."""

    shared_arguments: ClassVar[tuple[str, ...]] = ()
    """All arguments that the first epochs depend on, where cells of a grid share them; none where they do not."""

    shared_optimizers: ClassVar[bool] = False
    """Whether what moves the weights in the shared epochs moves them after these too."""

    fits_at_end: ClassVar[bool] = False
    """True for a score that needs a fit to the training data after the last step (:meth:`fit_on_training_data`)."""

    scores_left_out: ClassVar[bool] = False
    """True where a training sample is scored, for the threshold, by a fit without it."""

    passes_per_epoch: ClassVar[int] = 1
    """How often an epoch takes each training sample: more than once where a sample has several views."""

    held_out_metrics: ClassVar[Mapping[str, Literal["min", "max"]]] = {}
    """Validation metrics of its own, which need no label, and which end of each is better: `{"val/divergence": "min"}`.
    `--monitor` may select by them."""

    selection: str = "none"
    """`oracle` for a detector whose hyper-parameters were chosen on test data, as a paper did: reports say so."""

    def __init__(
        self,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__()
        self.preprocessing = None if preprocessing is None else as_part("preprocessing", preprocessing, Preprocessing)
        self.threshold_rule = threshold
        self.threshold_samples: ScoredSamples | None = None  # of the training part: what a threshold was fitted to
        self._threshold_step = -1
        self._fit_seed = 0
        self._epochs_kept_at: Path | None = None
        self.curves = StepCurves()
        self._step = 0
        self._loss_sum: Tensor | float = 0.0
        self._loss_count = 0
        self.logged_epoch = -1
        """The last epoch of a fit whose loss was logged."""
        self.register_buffer("threshold", torch.tensor(math.nan))
        self.register_buffer("held_out_scores", torch.empty(0))

    # ---- what a method writes, beside `training_step` and `anomaly_score` -----------------------------------------

    @abstractmethod
    def build(self, shape: tuple[int, ...]) -> None:
        """Make the networks for preprocessed samples of this shape. Called once, before training or loading."""

    def first_phase(self) -> FirstPhase | None:
        """The phase before the one whose weights are scored, where there is one."""
        name = self.first_phase_argument
        return None if name is None else FirstPhase(name, attrgetter(name)(self))

    def shared_epochs(self) -> int:
        """How many epochs cells of a grid that begin alike share, once the trainer is there: those of a first phase."""
        return epochs_before_objective(self)

    def first_scored(self) -> int:
        """The first epoch whose scores mean something, which is when validation begins to log.

        Where a score needs a fit at the end it is the last one, or the first where nobody knows which is the last.
        """
        before = epochs_before_objective(self)
        return max(before, (self.trainer.max_epochs or 0) - 1) if self.fits_at_end else before

    def fit_on_training_data(self) -> None:
        """With `fits_at_end`: fit to the training samples (:meth:`training_data`), in eval mode, without gradients.

        The fit comes after the last step and before the last validation, threshold and checkpoint, which hold it. Where
        training ends earlier than was planned, it comes then. Every rank fits alike, on all training samples.
        """

    def forget_fit(self) -> None:
        """With `fits_at_end`: forget the fit to earlier weights, since an epoch begins that moves them."""

    def fit_to_weights(self) -> None:
        """Averages took the weights' place: fit what a score has of the weights and no other hook fits to them."""

    def in_last_epoch(self) -> bool:
        """Whether no epoch follows the current one."""
        return self.trainer.should_stop or self.current_epoch + 1 == self.trainer.max_epochs

    def remarks(self) -> list[str]:
        """What a reader of results has to know of how this detector was trained."""
        return [TAKEN] if self.training_record.get("epochs_taken") else []

    def trains_by_gradient(self) -> bool:
        """Whether weights are trained, so that a learning rate can be to blame."""
        return True

    def collapse_floor(self) -> float:
        """Score spread (largest minus smallest) at or below which the detector counts as collapsed."""
        return 0.0

    def lacks_for_metrics(self) -> str | None:
        """What its `held_out_metrics` lack in the data of the running trainer, in words; None for nothing."""
        return None

    def measure_held_out(self, scored: ScoredSamples) -> Mapping[str, float]:
        """Its `held_out_metrics`, on every rank alike; fewer where the data lack something.

        Args:
            scored: the held-out samples of the validation, with their scores.
        """
        return {}

    # ---- construction ---------------------------------------------------------------------------------------------

    def configure_for(self, spec: InputSpec) -> None:
        """Build preprocessing and networks for this input; refuse an input other than the one already built for."""
        if self.input_spec is not None:
            if refusal := self.input_spec.refusal(spec):
                raise ValueError(refusal)
            return
        if getattr(self, "reduction", None) is not None and spec.kind != "image":
            raise ValueError(f"reduction must be null but for images, of which there are maps; the data are {spec}")
        self.input_spec = spec
        self.preprocess = prepared_for(spec, self.preprocessing)
        no_median = torch.full(spec.shape if spec.kind != "image" else (0,), math.nan)
        self.register_buffer("median_normal", no_median.double() if spec.offsets else no_median)
        self.build(self.preprocess.output_shape())
        if lazy := [name for name, weight in self.named_parameters() if is_lazy(weight)]:
            raise ValueError(
                f"build of {type(self).__name__} must make weights of sizes that it knows from the shape of a sample, "
                f"got lazy ones: {', '.join(lazy)}"
            )
        lay_out_as_faster(self)

    def configure_model(self) -> None:
        """Lightning's hook: sizes come from the data."""
        self.configure_for(self.data.input_spec)

    def configure_callbacks(self) -> list[Callback]:
        """No callbacks of its own: Lightning's hook before anything else of a fit, so that refusals come first."""
        if self.trainer.state.fn == "fit":
            require_types_of_parts(type(self), self.arguments)
            require_supported(self)
            average_weights_alone(self)
            ask_at_little_cost()
        return []

    def setup(self, stage: str) -> None:
        """Refuse a fit that could not come to a detector, and data without the kinds of samples that it needs."""
        if stage == "fit":
            self._require_kinds()
            require_enough_held_out(self)
            require_training(self)
            watch_the_objective(self)

    def _require_kinds(self) -> None:
        if not (self.needs_known_anomalies or self.needs_unlabelled):
            return
        _, known = self.data.training_rows()
        made = self.data.synthetic_anomalies is not None
        if self.needs_known_anomalies and not (made or (known == KNOWN_ANOMALY).any()):
            raise ValueError(
                f"{type(self).__name__} needs known anomalies to train on, got none among {len(known)} training "
                "samples: set data.labelled_anomaly_ratio (and the labelled classes), give labels, or set "
                "data.synthetic_anomalies"
            )
        n_normal, n_unlabelled = (int((known == kind).sum()) for kind in (KNOWN_NORMAL, UNLABELLED))
        if self.needs_unlabelled and not (n_normal and n_unlabelled):
            raise ValueError(
                f"{type(self).__name__} needs known normals and unlabelled samples to train on, got {n_normal} and "
                f"{n_unlabelled}: use InductiveOneVsAll, TransductiveOneVsAll and the like, or give samples of both"
            )

    # ---- training -----------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Let schedules that watch held-out samples wait for scores that mean something; note a limit of batches."""
        let_plateaus_wait(self)
        note_limit(self)

    def on_train_epoch_start(self) -> None:
        """Draw anew in each epoch and on each rank: a fit that goes on then draws what an undisturbed one does."""
        self.seed_epoch(self.trainer.global_rank)
        if self.fits_at_end:
            self.forget_fit()

    def on_train_batch_start(self, batch: TrainBatch, batch_idx: int) -> None:
        """Note the step, to which what it returns belongs."""
        self._step = self.global_step

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """Count a step's loss into the epoch's mean without a host synchronisation; after the last step, fit."""
        if outputs:
            n, parts = len(batch.index), self.trainer.accumulate_grad_batches
            loss = outputs["loss"].detach()
            # Lightning divides by the number of parts
            self._loss_sum = self._loss_sum + (loss if parts == 1 else loss * parts) * n
            self._loss_count += n
            if len(outputs) > 1:
                self.curves.add(self._step, **{name: value for name, value in outputs.items() if name != "loss"})
        if self.fits_at_end and ends_here(self):
            fit_now(self)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """A step of a schedule; what it fails with is said. Raises TrainingFault."""
        go_on(scheduler, *([] if metric is None else [metric]))

    def seed_epoch(self, stream: int) -> None:
        """Set torch's random state by the fit's seed, the epoch and the stream (a rank, or -1 for all ranks alike)."""
        words = np.random.SeedSequence((self._fit_seed, self.current_epoch, stream + 1)).generate_state(1, np.uint64)
        if self.device.type == "cpu":  # the same as below, which takes a while to note it for devices that are not used
            torch.default_generator.manual_seed(int(words[0]))
        else:
            torch.manual_seed(int(words[0]))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; stop when the loss is not finite, before the epoch's checkpoint is written."""
        if self.current_epoch + 1 == self.shared_epochs():
            keep(self, self._epochs_kept_at)
        self.log_dict({f"train/{name}": mean for name, mean in self.curves.end_epoch().items()}, sync_dist=True)
        if not self._loss_count:
            return
        mean = torch.as_tensor(self._loss_sum / self._loss_count)
        self._loss_sum, self._loss_count = 0.0, 0
        self.log("train/loss", mean, prog_bar=True, sync_dist=True)
        self.logged_epoch = self.current_epoch
        check_loss(mean.item(), self.trainer.current_epoch, self.likely_cause())

    # ---- fitting --------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Pretrained weights and fitted preprocessing, once: a resumed run has them in its checkpoint."""
        self.logged_epoch = -1
        self.rescored = []  # what scored otherwise than it was trained to is trained to it now
        require_weights_to_train(self)
        self._fit_seed = torch.initial_seed()
        for module in self.modules():
            if callable(load := getattr(module, "load_pretrained", None)):
                load()
        if not self.preprocess.fitted:
            self.preprocess.fit(lambda: self.data.preprocessing_batches(self.device))
        if self.median_normal.isnan().any():
            normals = (batch.x[batch.known != KNOWN_ANOMALY] for batch in self.training_data())
            self.median_normal.copy_(self._median_of(normals))
        self._epochs_kept_at = place_of(self)
        if not self.trainer.ckpt_path:  # a fit that goes on has what its record says
            self.training_record["epochs_taken"] = take_up(self, self._epochs_kept_at)

    def _median_of(self, normals: Iterable[Tensor]) -> Tensor:
        return median_normal(normals, len(self.data.training_rows()[0]), self.built_for.columns)

    def training_data(self) -> Iterable[TrainBatch]:
        """One pass over the whole training set in fixed order, the same on every rank; for fitting, not for steps."""
        for batch in self.data.fitting_batches(self.device):
            yield TrainBatch(*(column.to(self.device) for column in batch))

    def normal_data(self) -> Iterator[Tensor]:
        """Raw training samples (B, ...) that are no known anomalies, batch by batch; a trial takes one batch."""
        normals = (batch.x[batch.known != KNOWN_ANOMALY] for batch in self.training_data())
        return islice(filter(len, normals), 1 if self.is_trial else None)

    def scores_of(self, raw: Iterable[Tensor]) -> NDArray[np.float64]:
        """Scores (N,) of raw batches (B, ...) in the run's precision."""
        with self.trainer.precision_plugin.forward_context():
            return score_batches(self, raw)

    def training_scores(self) -> NDArray[np.float64]:
        """Scores (N,) of training samples without known anomalies, for the threshold."""
        return self.scores_of(b.x[b.known != KNOWN_ANOMALY] for b in self.training_data())

    def set_threshold(self) -> bool:
        """Fit the threshold to the weights as they are; False where that was done, or scores mean nothing yet."""
        if self.fits_at_end and not self.ready_to_score():
            fit_now(self)
        if not self.ready_to_score() or self._threshold_step == self.trainer.global_step:
            return False
        score_and_fit(self)
        self._threshold_step = self.trainer.global_step
        return True

    def forget_fits(self) -> None:
        """Averages took the weights' place: a fit at the end, and the threshold, belong to others."""
        self._threshold_step = -1
        if self.fits_at_end:
            self.forget_fit()

    def on_train_end(self) -> None:
        """However training ends, the threshold belongs to its last weights."""
        self.set_threshold()

    def check_scores(self, scores: NDArray[np.float64]) -> None:
        """Raise :class:`TrainingCollapse` when scores are not finite or (nearly) all the same."""
        epoch, floor = self.trainer.current_epoch, self.collapse_floor()
        check_finite(scores, epoch, self.likely_cause())
        # a few held-out samples may be alike; the training samples have to be as well
        if is_constant(scores, floor) and is_constant(self.training_scores(), floor):
            raw = lambda: (b.x[b.known != KNOWN_ANOMALY] for b in self.training_data())  # noqa: E731
            why = why_constant(raw, self.preprocess, name_of(self.preprocess), self.trains_by_gradient())
            raise constant_scores(scores, epoch, why)

    def likely_cause(self) -> str:
        """In words, what makes numbers of this detector not finite."""
        assert self.input_spec is not None
        unscaled = self.input_spec.kind != "image" and name_of(self.preprocess) == "Identity"
        return likely_cause(self.trains_by_gradient(), unscaled)

    # ---- tests ----------------------------------------------------------------------------------------------------

    def on_test_start(self) -> None:
        """Refuse what is not trained yet; scores that training did not know have a threshold of their own."""
        super().on_test_start()
        if self.rescored and not self.is_trial:
            self._threshold_step = -1
            self.set_threshold()

    on_predict_start = on_test_start

    # ---- validation -----------------------------------------------------------------------------------------------

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Collect scores of held-out samples, once they mean something."""
        if self.ready_to_score():
            self._score_step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Check the scores, set the threshold on them, and log what can be said of them."""
        if self.trainer.sanity_checking or not self.ready_to_score():
            return
        scored = self._table("val").compute()
        if len(scored.scores) == 0:
            return
        self.check_scores(scored.scores)
        reported = self.data.as_reported(scored, "train")
        if self.trainer.state.fn == "fit" and self.threshold_rule.uses_held_out:
            keep_held_out(self, reported)
            fit_to(self, scored, reported, "validation")
            if len(scored.scores) == len(self.data.split.validation) or self.is_trial:
                self._threshold_step = self.trainer.global_step
        normal = reported.scores[reported.labels != ANOMALY]
        logged = {"val/score_mean": float(normal.mean())} if len(normal) else {}
        with contextlib.suppress(NoRanking):  # normal-only validation data rank nothing: the mean score is all there is
            logged |= {f"val/{k}": v for k, v in ranking_metrics(reported.scores, reported.labels).items()}
        self.log_dict({**logged, **self.measure_held_out(scored)}, sync_dist=True)
