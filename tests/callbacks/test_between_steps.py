"""Callbacks without hooks of single steps: one's own may still have them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytorch_lightning as pl
from conftest import MakeTrainer
from small_detectors import TRIALS

from adlightning.callbacks.timing import Timing
from adlightning.core.between_steps import BetweenSteps


class Steps(pl.Callback):
    """Counts steps."""

    seen = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += 1


class Both(Timing, Steps):
    """Inherits a hook from beside."""


class Further(Timing):
    """Calls what it inherits."""

    seen = 0

    def on_train_batch_end(self, *given: Any) -> None:
        super().on_train_batch_end(*given)
        self.seen += 1


def test_hooks_of_subclasses_are_called(make_trainer: MakeTrainer) -> None:
    steps, both, further = Steps(), Both(), Further()
    trainer = make_trainer(max_epochs=2, callbacks=[steps, both, further])
    trial = TRIALS["deep_svdd on table"]
    trainer.fit(trial.make(), datamodule=trial.make_data())
    assert steps.seen == both.seen == further.seen > 0


def test_hooks_that_do_nothing_are_none_in_a_copy_too() -> None:
    # callbacks are pickled where ranks are spawned
    for made in (Timing(), copy.deepcopy(Timing()), pickle.loads(pickle.dumps(Timing()))):
        assert isinstance(made, BetweenSteps)
        assert made.on_train_batch_end is None
        assert callable(made.on_train_start)
