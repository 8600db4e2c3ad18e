"""Training by one optimiser with a learning rate for each epoch, in one phase or in two (Deep SAD, Appendix E)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from adlightning.core.detector import AnomalyDetector

OptimizerName = Literal["adam", "sgd"]


def step_decay(rate: float, milestones: Sequence[int], epoch: int) -> float:
    """Learning rate of an epoch: a tenth of the last one from each milestone on."""
    return rate * 0.1 ** sum(epoch >= milestone for milestone in milestones)


class OptimizedDetector(AnomalyDetector):
    """A detector trained by one optimiser, with a learning rate for each epoch.

    Args:
        optimizer: `adam`, or `sgd`.
        momentum: momentum of `sgd` in [0, 1); 0 for `adam`.
        lr: learning rate.
        lr_milestones: epochs at which the learning rate drops to a tenth, counted from the start of their phase.
        weight_decay: coupled weight decay w, which adds (w / 2) ||W||^2: Deep SAD's lambda.
        common: preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        optimizer: OptimizerName = "adam",
        momentum: float = 0.0,
        lr: float = 1e-4,
        lr_milestones: Sequence[int] = (50,),
        weight_decay: float = 1e-6,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        _require("optimizer", optimizer in get_args(OptimizerName), "be adam or sgd", optimizer)
        _require("momentum", 0 <= momentum < 1, "lie in [0, 1)", momentum)
        _require("momentum", optimizer == "sgd" or momentum == 0, "be 0 with optimizer adam", momentum)
        _require("lr_milestones", all(m >= 0 for m in lr_milestones), "not be negative", list(lr_milestones))
        _require("lr", lr > 0, "be positive", lr)
        _require("weight_decay", weight_decay >= 0, "not be negative", weight_decay)
        self.optimizer = optimizer
        self.momentum = momentum
        self.lr = lr
        self.lr_milestones = list(lr_milestones)
        self.weight_decay = weight_decay

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch of the whole run."""
        return step_decay(self.lr, self.lr_milestones, epoch)

    def new_optimizer(self, parameters: Any) -> Optimizer:
        """The chosen optimiser over parameters or groups of them."""
        if self.optimizer == "sgd":
            return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything; the schedule gives each epoch its learning rate."""
        factor: Callable[[int], float] = lambda epoch: self.learning_rate(epoch) / self.lr  # noqa: E731
        optimizer = self.new_optimizer(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, factor)}


class TwoPhaseDetector(OptimizedDetector):
    """A fit of two phases: epochs 0 to `pretrain_epochs` - 1 train without labels, the rest train the objective.

    Args:
        pretrain_epochs: epochs of the first phase; 0 leaves it out.
        pretrain_lr: learning rate in the first phase.
        pretrain_lr_milestones: epochs of the first phase at which it drops to a tenth.
        pretrain_weight_decay: weight decay in the first phase; not stated in the paper, 0.5e-3 in the code's README.
        common: optimisation, preprocessing and threshold, as in :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the first phase.
    """

    first_phase_argument = "pretrain_epochs"

    def __init__(
        self,
        pretrain_epochs: int = 150,
        pretrain_lr: float = 1e-4,
        pretrain_lr_milestones: Sequence[int] = (50,),
        pretrain_weight_decay: float = 1e-6,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if pretrain_epochs < 0:
            raise ValueError(f"pretrain_epochs must not be negative, got {pretrain_epochs}")
        if pretrain_lr <= 0:
            raise ValueError(f"pretrain_lr must be positive, got {pretrain_lr}")
        if pretrain_weight_decay < 0:
            raise ValueError(f"pretrain_weight_decay must not be negative, got {pretrain_weight_decay}")
        if any(milestone < 0 for milestone in pretrain_lr_milestones):
            raise ValueError(f"pretrain_lr_milestones must not be negative, got {list(pretrain_lr_milestones)}")
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_lr = pretrain_lr
        self.pretrain_lr_milestones = list(pretrain_lr_milestones)
        self.pretrain_weight_decay = pretrain_weight_decay

    @property
    def pretraining(self) -> bool:
        """Whether the current epoch belongs to the first phase."""
        return self.current_epoch < self.pretrain_epochs

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch of the whole run, by phase."""
        if epoch < self.pretrain_epochs:
            return step_decay(self.pretrain_lr, self.pretrain_lr_milestones, epoch)
        return step_decay(self.lr, self.lr_milestones, epoch - self.pretrain_epochs)


def _require(argument: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{argument} must {rule}, got {value}")
