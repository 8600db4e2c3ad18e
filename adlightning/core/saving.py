"""One checkpoint is a whole detector: class, arguments, input and the run's configuration go into it, and come out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from adlightning.checkpoints.training_state import require_own_training_state
from adlightning.core.contracts import CHECKPOINT_FORMAT, InputSpec, saved_part

if TYPE_CHECKING:
    from adlightning.data.modules import AnomalyDataModule


class SavedModule(pl.LightningModule, ABC):
    """A module whose checkpoint says, beside its weights and buffers, what it is and what it was trained on."""

    input_spec: InputSpec | None = None
    """The input that it was built for."""

    run_config: str | None = None
    """The run's configuration, as YAML."""

    training_record: dict[str, Any]
    """What is known of the training, plain values only."""

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

    def hyperparameters(self) -> dict[str, Any]:
        """Constructor arguments by name, plain values only."""
        names: dict[str, None] = {}
        for cls in type(self).__mro__[: type(self).__mro__.index(SavedModule)]:
            signature = inspect.signature(vars(cls).get("__init__", object.__init__))
            kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            names |= {n: None for n, p in signature.parameters.items() if n != "self" and p.kind not in kinds}
        return {name: _plain(getattr(self, name)) for name in names}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint a whole detector: class, arguments, input, and the run's configuration."""
        if self.input_spec is None:
            raise RuntimeError("a detector has nothing to save before it was built for some data")
        self.training_record |= {
            "epochs": self.trainer.fit_loop.epoch_progress.current.ready,
            "seed": self.data.effective_seed(),
            "split": self.data.split_fingerprint(),
        }
        checkpoint["adlightning"] = {
            "format": CHECKPOINT_FORMAT,
            "class": type(self).__qualname__,
            "hyperparameters": self.hyperparameters(),
            "input": self.input_spec.as_dict(),
            "config": self.run_config,
            "training": self.training_record,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class; build for the input that it was trained on.

        A trainer restores only what is left of the checkpoint afterwards: of training's own state what was checked and
        built anew, of anything unknown nothing.
        """
        with self.naming_checkpoint():
            self._load_saved_part(checkpoint)

    @contextmanager
    def naming_checkpoint(self) -> Iterator[None]:
        """Errors name the file that a trainer loads; without a trainer, the caller knows it."""
        try:
            yield
        except ValueError as error:
            if getattr(self, "_trainer", None) is None or not self.trainer.ckpt_path:
                raise
            raise ValueError(f"ckpt_path: {self.trainer.ckpt_path} is refused: {error}") from error

    def _load_saved_part(self, checkpoint: dict[str, Any]) -> None:
        saved = saved_part(checkpoint)
        if saved["class"] != type(self).__qualname__:
            raise ValueError(f"the checkpoint holds a {saved['class']}, not a {type(self).__qualname__}")
        spec = InputSpec.from_dict(saved["input"])
        if self.input_spec is not None and (refusal := spec.refusal(self.input_spec)):
            raise ValueError(refusal)
        self.configure_for(spec)
        self.training_record = dict(saved["training"])
        if getattr(self, "_trainer", None) is not None:
            self._refuse_other_split()
            require_own_training_state(checkpoint, self)

    def _refuse_other_split(self) -> None:
        """Another split than in training would test what was trained on, or train on what was held out."""
        record, data, verb = self.training_record, self.data, self.trainer.state.fn
        harmless = verb in ("test", "predict") and not data.tests_on_training_part
        if harmless or data.split_fingerprint() == record["split"]:
            return
        raise ValueError(
            f"the data are not split as in training (seed {record['seed']} then, {data.effective_seed()} now): samples "
            "would be on the wrong side. Give the data and their options as in training, with "
            f"--data.seed={record['seed']}; for other data there is the verb `score`"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value
