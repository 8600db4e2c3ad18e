"""Layers as TensorFlow and Keras have them, whose weights then fit: 'SAME' padding, and BatchNorm's constants."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-3
MOMENTUM = 0.01  # the share of a batch in the running statistics: 0.99 in Keras' terms is the share of what was there


def same_padding(side: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side, so that a convolution gives ceil(side / stride) values; an odd one goes after."""
    total = max((-(-side // stride) - 1) * stride + kernel_size - side, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Maps (B, n_in, H, W) to (B, n_out, ceil(H / stride), ceil(W / stride)), padded as by 'SAME'.

    A kernel of 5 with stride 2 has 1 zero before and 2 after an even side.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int) -> None:
        super().__init__(n_in, n_out, kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of the padded maps."""
        rows, columns = (same_padding(x.shape[i], self.kernel_size[i], self.stride[i]) for i in (-2, -1))
        return super().forward(F.pad(x, (*columns, *rows)))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Maps (B, n_in, H, W) to (B, n_out, stride H, stride W): the transpose of :class:`SameConv2d`.

    Of a kernel of 5 with stride 2 the first row and column and the last two are cropped.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int) -> None:
        super().__init__(n_in, n_out, kernel_size, stride, padding=max(kernel_size - stride, 0) // 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The transposed convolution, cropped."""
        height, width = (x.shape[i] * self.stride[i] for i in (-2, -1))
        return super().forward(x, output_size)[..., :height, :width]


def keras_batch_norms_(network: nn.Module) -> None:
    """Give every BatchNorm of a network Keras' constants, in place."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eps, module.momentum = EPSILON, MOMENTUM
