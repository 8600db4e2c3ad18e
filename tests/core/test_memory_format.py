"""Weights of four dimensions get the strides of a layout, whatever their sizes; who says nothing stays as made."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adlightning.core.memory_format import lay_out, lay_out_as_faster
from adlightning.networks import LeNetEncoder


@pytest.mark.parametrize("shape", [(8, 1, 5, 5), (1, 8, 5, 5), (4, 3, 1, 1), (4, 3, 2, 5)])
def test_strides_are_those_of_the_layout_and_values_stay(shape: tuple[int, int, int, int]) -> None:
    n, c, h, w = shape
    layer = nn.Conv2d(c, n, (h, w), bias=False)
    before = layer.weight.detach().clone()
    lay_out(layer, "channels_last")
    assert layer.weight.stride() == (h * w * c, 1, w * c, c)
    assert torch.equal(layer.weight, before)
    lay_out(layer, "contiguous")
    assert layer.weight.stride() == (c * h * w, h * w, w, 1)
    assert torch.equal(layer.weight, before)


def test_maps_of_a_lenet_are_channels_last_with_one_channel_too() -> None:
    network = LeNetEncoder((1, 28, 28))
    lay_out_as_faster(network)
    maps = network.conv(torch.zeros(2, 1, 28, 28))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert not maps.is_contiguous()


def test_a_class_says_it_of_itself_alone() -> None:
    class Own(LeNetEncoder):
        """Whose forward may call `view`."""

    holder = nn.ModuleList([Own((1, 28, 28)), nn.Conv2d(3, 4, 5)])
    lay_out_as_faster(holder)
    assert all(weight.is_contiguous() for weight in holder.parameters())
