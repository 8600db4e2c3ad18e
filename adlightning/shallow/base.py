"""ShallowDetector: an estimator from outside deep learning on features, behind the contract of every detector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import PreprocessingFactory
from adlightning.core.saving import naming_checkpoint
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Known, TrainingSamples
from adlightning.shallow.oracle import Choice, Grid, choose, read_test_set, require_both_classes
from adlightning.shallow.persistence import from_bytes, require_recipe, to_bytes

Selection = Literal["none", "oracle"]


def edge_words(argument: str, value: float, values: Sequence[Any], option: str) -> str | None:
    """That a search took the least or the largest of its values, in words; None within them, or of a single one."""
    if len(set(values)) < 2 or min(values) < value < max(values):
        return None
    end, beyond = ("least", "smaller") if value <= min(values) else ("largest", "larger")
    return (
        f"{argument} {value:.4g} is the {end} of the values that it was chosen from, {min(values):.4g} to "
        f"{max(values):.4g}: give {beyond} ones as well, by model.{option}"
    )


class ShallowDetector(AnomalyDetector):
    """An estimator fitted once, at the end of training, on features of all training samples.

    Only an autoencoder's features are trained by gradient, for `trainer.max_epochs`; a fit with others ends after its
    first epoch, in which no weight moves. Estimators run on the host in float64, features without autocast.

    A detector writes :meth:`fit_estimator` and :meth:`score_features`, says its `estimator_type`, and what builds one
    anew from a checkpoint (`adlightning.shallow.rebuilding.RECIPES`).

    Args:
        features: what the estimator looks at: `RawFeatures`, `PCAFeatures`, `AutoencoderFeatures` (the papers'
            hybrids), `BackboneFeatures`, or one's own subclass of `Features`.
        selection: `none`, or `oracle`: hyper-parameters are chosen on the TEST set, as the papers did, and results say
            so.
        preprocessing: as in :class:`AnomalyDetector`; `UnitRange` with `BackboneFeatures`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or that the data do not allow; before anything is fitted.
    """

    uses_known_anomalies = False
    fits_at_end = True
    score_needs: str | None = "an estimator that runs on the host"

    estimator_type: ClassVar[type]
    """What :meth:`fit_estimator` returns; a checkpoint with anything else is refused."""

    shared_module = "feature_map"
    shared_arguments = ("features", "preprocessing")
    shared_optimizers = True
    sized_by_data: ClassVar = (*AnomalyDetector.sized_by_data, "feature_map.pca.directions")
    max_workers: ClassVar[int] = 1
    """Threads of a selection: more than one where a fit leaves the interpreter free and its memory allows several."""

    def __init__(
        self,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        dimensions, name, needed = features.dimensions(), type(features).__name__, features.needs
        single = len(dimensions) <= 1 or selection == "oracle"
        require("features.components", single, "be one number unless selection is oracle", dimensions)
        if needed is not None and self.preprocessing is not None:
            given: Any = self.preprocessing.func
            rule = f"be {needed.__name__} with features: {name}"
            require("preprocessing", issubclass(given, needed), rule, given.__name__)
        self.features = features
        self.selection = selection
        self.estimator: Any = None
        self._searched: dict[tuple[str, float], tuple[Sequence[float], str]] = {}

    # ---- what an estimator writes ---------------------------------------------------------------------------------

    @abstractmethod
    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> Any:
        """A fitted estimator; `choice` replaces the constructor's arguments of the same names."""

    @abstractmethod
    def score_features(self, estimator: Any, features: Floats, /) -> Floats:
        """Anomaly scores (N,) of features (N, D), higher for more anomalous."""

    def grids(self) -> tuple[Grid, Grid]:
        """With `selection: oracle`, arguments chosen on the whole test set and arguments chosen on 10 % of it."""
        return {}, {}

    def require_samples(self, known: Known) -> None:
        """Raise ValueError for training samples, of which this is known (N,), that no estimator can be fitted to."""

    def chosen(self, estimator: Any) -> Choice:
        """What a fit chose by itself, by argument; plain values."""
        return {}

    def note_search(self, argument: str, value: float, values: Sequence[float], option: str) -> None:
        """Of a search on training data: what it chose, from which values, and the option that gives these."""
        self._searched[argument, value] = values, option

    def remarks(self) -> list[str]:
        """What was chosen at an end of the values to choose from."""
        return [*super().remarks(), *self.training_record.get("at_edge", [])]

    # ---- features -------------------------------------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """The features, for preprocessed samples of this shape."""
        self.feature_map = self.features.build(shape, self.preprocess.output)

    @torch.no_grad()
    def represent(self, x: Tensor) -> Floats:
        """Features (B, D) of raw input, in float64 on the host; the same under any precision of the run."""
        with torch.autocast(x.device.type, enabled=False):
            z: Tensor = self.feature_map.network(self.preprocess(x)).flatten(1).float()
            if (pca := self.feature_map.pca) is not None:
                z = (z - pca.center) @ pca.directions[: int(pca.kept)].T
            return np.asarray(z.cpu().double().numpy())

    # ---- training -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Check what the data must allow, before anything is trained."""
        require_recipe(self.estimator_type)
        known = self.data.training_rows()[1]
        self.require_samples(known)
        if self.selection == "oracle":
            outer, inner = self.grids()
            choices = bool(outer or inner) or len(self.features.dimensions()) > 1
            require("selection", choices, f"be none: {type(self).__name__} has nothing to choose here", self.selection)
            require_both_classes(self.data.oracle_batches(self.device))
        self.features.prepare(self.feature_map, int(np.sum(known != KNOWN_ANOMALY)))
        super().on_fit_start()

    def configure_optimizers(self) -> Any:
        """The features' own."""
        return self.features.configured(self.feature_map)

    def trains_by_gradient(self) -> bool:
        """Whether an autoencoder's features are trained."""
        return self.features.trained

    def forget_fit(self) -> None:
        """An estimator of earlier weights is forgotten: a fit that goes on moves them."""
        self.estimator = None

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """The loss of the features."""
        return self.feature_map.loss(self.preprocess(batch.x))

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """The loss of features that nothing trains, always 0, is worth no curve."""
        super().on_train_batch_end(outputs if self.features.trained else None, batch, batch_idx)

    def shared_epochs(self) -> int:
        """All but the last of features that are trained: the estimator is fitted after that one."""
        return max((self.trainer.max_epochs or 0) - 1, 0) if self.features.trained else 0

    def first_scored(self) -> int:
        """With features that nothing trains, the first epoch is the last."""
        return super().first_scored() if self.features.trained else 0

    def in_last_epoch(self) -> bool:
        """Nothing follows an epoch that trains nothing."""
        return super().in_last_epoch() or not self.features.trained

    def fit_on_training_data(self) -> None:
        """Fit features and estimator on all training samples; the same on every rank."""
        self.trainer.should_stop = self.trainer.should_stop or not self.features.trained
        with torch.autocast(self.device.type, enabled=False):
            normal: Callable[[], Iterator[Tensor]] = lambda: (  # noqa: E731
                self.preprocess(b.x[b.known != KNOWN_ANOMALY]) for b in self.training_data()
            )
            self.feature_map.fit(normal, self.data.effective_seed())
        batches = [(self.represent(b.x), b.known.cpu().numpy()) for b in self.training_data()]
        features, known = (np.concatenate(column) for column in zip(*batches, strict=True))
        self._searched = {}
        if self.selection == "oracle":
            self.estimator, choice = self._choose(features, known)
        else:
            self.estimator, choice = self.fit_estimator(TrainingSamples(features, known)), {}
        chosen = {**self.chosen(self.estimator), **choice}
        self.training_record |= {"chosen": chosen, "at_edge": self._at_edges(chosen, choice)}
        for words in self.training_record["at_edge"]:
            rank_zero_warn(words)

    def _at_edges(self, chosen: Choice, of_grid: Choice) -> list[str]:
        """What was chosen, by a search of its own or of a selection, at an end of its values."""
        grids = {name: values for grid in self.grids() for name, values in grid.items()}
        searched = {
            name: self._searched[name, value] for name, value in chosen.items() if (name, value) in self._searched
        }
        searched |= {name: (grids[name], f"{name}s") for name in of_grid if name in grids}
        words = (edge_words(name, chosen[name], values, option) for name, (values, option) in searched.items())
        return [each for each in words if each is not None]

    def _choose(self, features: Floats, known: Known) -> tuple[Any, Choice]:
        """With `selection: oracle`: the estimator that does best on the TEST set, and the values that were chosen."""
        test = read_test_set(self.data.oracle_batches(self.device), self.represent, self.data.effective_seed())
        dimensions = self.features.dimensions() or [features.shape[1]]
        samples = {k: TrainingSamples(features[:, :k], known) for k in dimensions}
        outer, inner = self.grids()

        def fit(choice: Choice) -> Any:
            return self.fit_estimator(samples[choice["features.components"]], **choice)

        def score(estimator: Any, choice: Choice, z: Floats) -> Floats:
            return self.score_features(estimator, z[:, : choice["features.components"]])

        inner = {"features.components": dimensions, **inner}
        estimator, choice = choose(fit, score, outer, inner, test, self.max_workers)
        kept = choice.pop("features.components")
        if self.feature_map.pca is not None:
            self.feature_map.pca.kept.fill_(kept)
            choice["features.components"] = kept
        return estimator, choice

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Only once the estimator is fitted."""
        return self.estimator is not None

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Scores (B,) of raw input, computed in float64."""
        if self.estimator is None:
            raise RuntimeError("the estimator is not fitted: fit, or load a checkpoint of a finished fit")
        scores = self.score_features(self.estimator, self.represent(x))
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
        if self.feature_map.pca is None:
            return self.feature_map.size
        state = checkpoint["state_dict"]
        size, kept = len(state["feature_map.pca.directions"]), int(state["feature_map.pca.kept"])
        require("feature_map.pca.kept", 1 <= kept <= size, f"lie in 1..{size}", kept)
        return kept


def require(argument: str, holds: bool, rule: str, value: object) -> None:
    """Raise ValueError naming the argument, the rule and the value, unless the rule holds."""
    if not holds:
        raise ValueError(f"{argument} must {rule}, got {value}")
