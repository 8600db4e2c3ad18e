"""What density ratio and geometric transformations share: a network by name, SGD, and weights from ImageNet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adlightning.methods.parts.optimization import OptimizedDetector, OptimizerName
from adlightning.networks.backbones import BackboneName, build_backbone
from adlightning.networks.vgg import VGG11, DropoutPlacement, VGGHead


class BackboneDetector(OptimizedDetector):
    """A network with logits, trained by SGD as in Section 5.3 of the density-ratio paper.

    Args:
        network: `vgg11` for images of at least 32x32 pixels (`resize: 32` makes them so), `wide_resnet` (WRN-10-4) for
            images, `mlp` for tables and small images.
        head: of `vgg11`: `torchvision` (25088-4096-4096 units) or `compact` (512-4096-4096), which are the same
            functions of a 32x32 image.
        dropout: rate of `vgg11` and `mlp`, in [0, 1).
        dropout_placement: of `vgg11`, always before both of the last dense layers, and: `per_stage` after each
            max-pooling, `per_conv` after each convolution, `fc_only` nowhere else. The paper leaves it open.
        dense: units of the hidden layers of `mlp`.
        weights: of torchvision's vgg11 to start from: a name (`IMAGENET1K_V1`) or a file; null starts at random. Needs
            three channels and `head: torchvision`.
        optimizer, momentum, lr, lr_milestones, weight_decay: as in :class:`OptimizedDetector`; the paper names neither
            momentum nor schedule.
        common: preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    net: nn.Module
    has_weights: Tensor

    def __init__(
        self,
        network: BackboneName = "vgg11",
        head: VGGHead = "torchvision",
        dropout: float = 0.5,
        dropout_placement: DropoutPlacement = "per_stage",
        dense: Sequence[int] = (128, 128),
        weights: str | None = None,
        optimizer: OptimizerName = "sgd",
        momentum: float = 0.0,
        lr: float = 0.02,
        lr_milestones: Sequence[int] = (),
        weight_decay: float = 1e-3,
        **common: Any,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            momentum=momentum,
            lr=lr,
            lr_milestones=lr_milestones,
            weight_decay=weight_decay,
            **common,
        )
        if weights is not None and network != "vgg11":
            raise ValueError(f"weights are of vgg11, got {weights} for network: {network}")
        self.network = network
        self.head = head
        self.dropout = dropout
        self.dropout_placement = dropout_placement
        self.dense = list(dense)
        self.weights = weights
        if weights is not None:
            self.register_buffer("has_weights", torch.tensor(False))

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of logits."""

    @property
    @abstractmethod
    def has_batch_norm(self) -> bool:
        """Whether the network has BatchNorm."""

    def build(self, shape: tuple[int, ...]) -> None:
        """The network, for preprocessed samples of this shape."""
        self.net = build_backbone(
            self.network,
            shape,
            self.n_outputs,
            head=self.head,
            dropout=self.dropout,
            dropout_placement=self.dropout_placement,
            dense=self.dense,
            batch_norm=self.has_batch_norm,
        )

    def on_fit_start(self) -> None:
        """Load pretrained weights, once: a checkpoint has them, wherever they came from."""
        super().on_fit_start()
        if self.weights is not None and not self.has_weights:
            assert isinstance(self.net, VGG11)
            self.net.load_weights(self.weights)
            self.has_weights.fill_(True)
