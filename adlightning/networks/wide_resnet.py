"""The wide residual network of depth 10 and width 4 (Zagoruyko and Komodakis, 2016), as the code released with GEOM.

GEOM is Golan and El-Yaniv (2018), the baseline "GTs" of the density-ratio paper, Section 5.3.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.mlp import check_positive, require_samples_of

STEM = 16
STAGES = ((64, 1), (128, 2), (256, 2))
"""Filters and stride of the one block of each stage."""


class WideResNet10x4(nn.Module):
    """Images (B, C, H, W) of any size to logits (B, n_outputs).

    A 3x3 convolution, three pre-activation blocks with BatchNorm, of which the second and third halve the sides,
    BatchNorm, ReLU, global average pooling and a linear layer; no dropout. Starts as in the released code: convolutions
    Kaiming-normal by fan-in, the linear layer uniform in +-1/sqrt(256) with zero biases.

    Args:
        shape: (C, H, W) of an image.
        n_outputs: logits: 72 for GEOM's transforms; null for as many as the detector needs, 1 on its own.

    Raises:
        ValueError: samples that are no images, or a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], n_outputs: int | None = None) -> None:
        super().__init__()
        require_samples_of(3, "images (C, H, W)", shape, "WideResNet10x4")
        n_outputs = 1 if n_outputs is None else n_outputs
        check_positive("shape", shape)
        check_positive("n_outputs", (n_outputs,))
        self.stem = nn.Conv2d(shape[0], STEM, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        width = STEM
        for filters, stride in STAGES:
            blocks.append(PreActivationBlock(width, filters, stride))
            width = filters
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, n_outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_outputs) of images (B, C, H, W)."""
        maps = F.relu(self.norm(self.blocks(self.stem(x))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits


class PreActivationBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, beside a 1x1 convolution of the first ReLU's output.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, other than the input's: the shortcut always projects.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, out_channels, ceil(H / stride), ceil(W / stride)) of maps (B, in_channels, H, W)."""
        x = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(x)))) + self.shortcut(x)
        return out
