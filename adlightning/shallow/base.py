"""ShallowDetector: an estimator from outside deep learning on features, behind the contract of every detector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import (
    DecoderFactory,
    EncoderFactory,
    OptimizerFactory,
    SchedulerFactory,
    decoder_part,
    encoder_part,
)
from adlightning.core.saving import naming_checkpoint
from adlightning.methods.parts.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.networks.encoders import WeightInit
from adlightning.shallow.features import (
    AutoencoderFeatures,
    BackboneFeatures,
    FeatureMap,
    PCAFeatures,
    RawFeatures,
)
from adlightning.shallow.kernel import Floats, Known, TrainingSamples
from adlightning.shallow.oracle import Choice, Grid, choose, read_test_set, require_both_classes
from adlightning.shallow.persistence import from_bytes, to_bytes

FeatureName = Literal["raw", "pca", "autoencoder", "torchvision"]


class ShallowDetector(AnomalyDetector):
    """An estimator fitted once, at the end of training, on features of all training samples.

    Only an autoencoder's features are trained by gradient, for `trainer.max_epochs`; a fit with others ends after its
    first epoch, in which no weight moves. Estimators run on the host in float64, features without autocast.

    Args:
        features: `raw` (preprocessed values, flattened), `pca` of them, `autoencoder` (codes: the paper's hybrids) or
            `torchvision` (activations of a network; preprocessing must be `unit`).
        pca_components: number of principal components: with `pca`, and if given with `torchvision`. A list is a grid to
            choose from on test data, with `selection: oracle`.
        backbone: name of a torchvision network.
        backbone_layer: its layer: `features` is the last convolution of AlexNet and VGG with its ReLU and pooling
            (`features.10` AlexNet's without them), a ResNet has `layer4`.
        backbone_weights: name of torchvision weights, downloaded where they are not yet (`DEFAULT` for the best), a
            file with a state_dict, or null for random weights.
        encoder: the autoencoder's; None takes LeNet for images, an MLP for tables, an LSTM for series.
        decoder: the autoencoder's; None takes the encoder's mirror image.
        optimizer: the autoencoder's.
        lr_scheduler: its schedule; null for a constant learning rate.
        weight_init: `glorot` (uniform) or `framework`.
        selection: `none`, or `oracle`: hyper-parameters are chosen on the TEST set, as the papers did, and results say
            so.
        common: preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or that the data do not allow; before anything is fitted.
    """

    uses_known_anomalies = False
    fits_at_end = True
    score_needs: str | None = "an estimator that runs on the host"

    estimator_type: ClassVar[type]
    """What :meth:`fit_estimator` returns; a checkpoint with anything else is refused."""

    max_workers: ClassVar[int] = 1
    """Threads of a selection: more than one where a fit leaves the interpreter free and its memory allows several."""

    def __init__(
        self,
        features: FeatureName = "raw",
        pca_components: int | list[int] | None = None,
        backbone: str = "alexnet",
        backbone_layer: str = "features",
        backbone_weights: str | None = "DEFAULT",
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        weight_init: WeightInit = "glorot",
        selection: Literal["none", "oracle"] = "none",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        dimensions = _dimensions(pca_components)
        given, several = pca_components is not None, isinstance(pca_components, (list, tuple))
        require("pca_components", not given or min(dimensions, default=0) > 0, "be positive", pca_components)
        require("pca_components", given or features != "pca", "be given with features: pca", None)
        takes, single = features in ("pca", "torchvision"), not several or selection == "oracle"
        require("pca_components", takes or not given, f"not be given with features: {features}", pca_components)
        require("pca_components", single, "be one number unless selection is oracle", pca_components)
        self.features = features
        self.pca_components = dimensions if several else pca_components
        self.backbone = backbone
        self.backbone_layer = backbone_layer
        self.backbone_weights = backbone_weights
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.weight_init = weight_init
        self.selection = selection
        self.estimator: Any = None

    # ---- what an estimator writes ---------------------------------------------------------------------------------

    @abstractmethod
    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> Any:
        """A fitted estimator; `choice` replaces the constructor's arguments of the same names."""

    @abstractmethod
    def score_features(self, estimator: Any, features: Floats) -> Floats:
        """Anomaly scores (N,) of features (N, D), higher for more anomalous."""

    def grids(self) -> tuple[Grid, Grid]:
        """With `selection: oracle`, arguments chosen on the whole test set and arguments chosen on 10 % of it."""
        return {}, {}

    def require_samples(self, known: Known) -> None:
        """Raise ValueError for training samples, of which this is known (N,), that no estimator can be fitted to."""

    def chosen(self, estimator: Any) -> Choice:
        """What a fit chose by itself, by argument; plain values."""
        return {}

    # ---- features -------------------------------------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """The features, for preprocessed samples of this shape."""
        self.feature_map = self._feature_map(shape)
        if dimensions := _dimensions(self.pca_components):
            self.feature_map = PCAFeatures(self.feature_map, max(dimensions))

    def _feature_map(self, shape: tuple[int, ...]) -> FeatureMap:
        if self.features == "autoencoder":
            networks = (self.make_encoder, self.make_decoder)
            return AutoencoderFeatures(shape, self.preprocess.output, *networks, self.weight_init)
        if self.features == "torchvision":
            return BackboneFeatures(shape, self.backbone, self.backbone_layer, self.backbone_weights)
        return RawFeatures(shape)

    @torch.no_grad()
    def _features(self, x: Tensor) -> Floats:
        """Features (B, D) of raw input, in float64 on the host; the same under any precision of the run."""
        with torch.autocast(x.device.type, enabled=False):
            return np.asarray(self.feature_map(self.preprocess(x)).cpu().double().numpy())

    # ---- training -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Check what the data must allow, before anything is trained."""
        known = self.data.training_rows()[1]
        self.require_samples(known)
        if self.selection == "oracle":
            outer, inner = self.grids()
            choices = bool(outer or inner) or isinstance(self.pca_components, list)
            require("selection", choices, f"be none: {type(self).__name__} has nothing to choose here", self.selection)
            require_both_classes(self.data.oracle_batches(self.device))
        self.feature_map.prepare(int(np.sum(known != KNOWN_ANOMALY)))
        super().on_fit_start()

    def configure_optimizers(self) -> Any:
        """Adam for an autoencoder; for other features steps that move nothing, which Lightning counts."""
        if not self.feature_map.trained:
            return SGD([self.feature_map.idle], lr=0.0)
        return one_optimizer(self.feature_map.parameters(), self.make_optimizer, self.make_scheduler)

    def trains_by_gradient(self) -> bool:
        """Whether an autoencoder's features are trained."""
        return self.feature_map.trained

    def forget_fit(self) -> None:
        """An estimator of earlier weights is forgotten: a fit that goes on moves them."""
        self.estimator = None

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """The loss of the features."""
        loss = self.feature_map.loss(self.preprocess(batch.x))
        return loss

    def first_scored(self) -> int:
        """With features that nothing trains, the first epoch is the last."""
        return super().first_scored() if self.features == "autoencoder" else 0

    def in_last_epoch(self) -> bool:
        """Nothing follows an epoch that trains nothing."""
        return super().in_last_epoch() or not self.feature_map.trained

    def fit_on_training_data(self) -> None:
        """Fit features and estimator on all training samples; the same on every rank."""
        self.trainer.should_stop = self.trainer.should_stop or not self.feature_map.trained
        with torch.autocast(self.device.type, enabled=False):
            normal: Callable[[], Iterator[Tensor]] = lambda: (  # noqa: E731
                self.preprocess(b.x[b.known != KNOWN_ANOMALY]) for b in self.training_data()
            )
            self.feature_map.fit(normal, self.data.effective_seed())
        batches = [(self._features(b.x), b.known.cpu().numpy()) for b in self.training_data()]
        features, known = (np.concatenate(column) for column in zip(*batches, strict=True))
        if self.selection == "oracle":
            self.estimator, choice = self._choose(features, known)
        else:
            self.estimator, choice = self.fit_estimator(TrainingSamples(features, known)), {}
        self.training_record["chosen"] = {**self.chosen(self.estimator), **choice}

    def _choose(self, features: Floats, known: Known) -> tuple[Any, Choice]:
        """With `selection: oracle`: the estimator that does best on the TEST set, and the values that were chosen."""
        test = read_test_set(self.data.oracle_batches(self.device), self._features, self.data.effective_seed())
        dimensions = _dimensions(self.pca_components) or [features.shape[1]]
        samples = {k: TrainingSamples(features[:, :k], known) for k in dimensions}
        outer, inner = self.grids()

        def fit(choice: Choice) -> Any:
            return self.fit_estimator(samples[choice["pca_components"]], **choice)

        def score(estimator: Any, choice: Choice, z: Floats) -> Floats:
            return self.score_features(estimator, z[:, : choice["pca_components"]])

        inner = {"pca_components": dimensions, **inner}
        estimator, choice = choose(fit, score, outer, inner, test, self.max_workers)
        kept = choice.pop("pca_components")
        if isinstance(self.feature_map, PCAFeatures):
            self.feature_map.kept.fill_(kept)
            choice["pca_components"] = kept
        return estimator, choice

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Only once the estimator is fitted."""
        return self.estimator is not None

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Scores (B,) of raw input, computed in float64."""
        if self.estimator is None:
            raise RuntimeError("the estimator is not fitted: fit, or load a checkpoint of a finished fit")
        scores = self.score_features(self.estimator, self._features(x))
        return torch.as_tensor(scores, dtype=torch.float32).to(x.device)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the estimator, once it is fitted."""
        super().on_save_checkpoint(checkpoint)
        if self.estimator is not None:
            checkpoint["adlightning"]["estimator"] = to_bytes(self.estimator)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the estimator; types that do not belong in it are refused with a ValueError."""
        super().on_load_checkpoint(checkpoint)
        data = checkpoint["adlightning"].get("estimator")
        with naming_checkpoint(self):
            if data is not None:
                self.estimator = from_bytes(data, self.estimator_type, self._n_features(checkpoint))
            else:
                self.estimator = None

    def _n_features(self, checkpoint: dict[str, Any]) -> int:
        """How many features an estimator was fitted to: those of the map, or as many as a selection kept."""
        size = self.feature_map.size
        kept = int(checkpoint["state_dict"]["feature_map.kept"]) if isinstance(self.feature_map, PCAFeatures) else size
        require("feature_map.kept", 1 <= kept <= size, f"lie in 1..{size}", kept)
        return kept


def _dimensions(pca_components: int | Sequence[int] | None) -> list[int]:
    """The numbers of components, ascending."""
    if pca_components is None or isinstance(pca_components, int):
        return [] if pca_components is None else [pca_components]
    return sorted(pca_components)


def require(argument: str, holds: bool, rule: str, value: object) -> None:
    """Raise ValueError naming the argument, the rule and the value, unless the rule holds."""
    if not holds:
        raise ValueError(f"{argument} must {rule}, got {value}")
