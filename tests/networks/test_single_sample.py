import copy
from typing import Any

import pytest
import torch
from torch import nn

from adlightning.networks.gan import DCGANGenerator
from adlightning.networks.single_sample import SingleSampleConvTranspose2d, for_single_samples


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (2, 3), "padding": (0, 1), "output_padding": (1, 2), "dilation": (2, 1), "bias": False},
    ],
)
def test_a_layer_equals_the_transposed_convolution(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, (4, 3), **options).double()
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64)
    (single,) = for_single_samples(nn.Sequential(layer)).children()
    assert isinstance(single, SingleSampleConvTranspose2d)
    torch.testing.assert_close(single(x), layer(x))


def test_a_network_shares_its_weights_and_stays_as_it_was() -> None:
    generator = DCGANGenerator((1, 16, 16), latent_dim=4, width=8).eval()
    before, z = copy.deepcopy(generator), torch.randn(1, 4)
    single = for_single_samples(generator)
    torch.testing.assert_close(single(z), generator(z))
    assert [id(weight) for weight in single.parameters()] == [id(weight) for weight in generator.parameters()]
    assert [type(module) for module in generator.modules()] == [type(module) for module in before.modules()]


def test_groups_are_left_alone() -> None:
    layer = nn.ConvTranspose2d(4, 4, 3, groups=2)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(for_single_samples(nn.Sequential(layer))(x), layer(x))
