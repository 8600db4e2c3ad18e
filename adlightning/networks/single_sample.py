"""Networks for one sample at a time, whose weights are stacked: many copies, each with a sample of its own."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional as F


class SingleSampleConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of one sample (1, C, H, W) as a product of matrices.

    Under `vmap` over copies of the weights it is one batched product, where a convolution becomes one of as many groups
    as there are copies, which is slow.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer's output (1, C', H', W')."""
        kernel, stride, padding, dilation = self.kernel_size, self.stride, self.padding, self.dilation
        sides = [
            (n - 1) * stride[i] - 2 * int(padding[i]) + dilation[i] * (kernel[i] - 1) + self.output_padding[i] + 1
            for i, n in enumerate(x.shape[-2:])
        ]
        # (positions, C) times (C, C' k k): the weights as they lie, and so their gradient
        patches = x.flatten(2).squeeze(0).t() @ self.weight.flatten(1)
        y: Tensor = F.fold(patches.t()[None], sides, kernel, dilation, padding, stride)  # type: ignore[arg-type]
        return y if self.bias is None else y + self.bias[:, None, None]


def for_single_samples(network: nn.Module) -> nn.Module:
    """The network with transposed convolutions for one sample at a time; it shares the given one's weights."""
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]})
    for module in twin.modules():
        if type(module) is nn.ConvTranspose2d and module.groups == 1:
            module.__class__ = SingleSampleConvTranspose2d  # its weights and names stay
    return twin
