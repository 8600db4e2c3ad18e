"""Many networks as one: the same numbers, gradients and running statistics, also where some samples only fill up."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from adlightning.benchmark.packed_losses import loss_of_each, mean_of_each
from adlightning.benchmark.stacked import NotStackable, Samples, Stack
from adlightning.methods.deep_sad import deep_sad_loss
from adlightning.networks.lenet import LeNetEncoder
from adlightning.networks.mlp import MLPEncoder

MAKE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLPEncoder((5,), (6, 4), 3), (5,)),
    "mlp with biases": (lambda: MLPEncoder((5,), (6,), 3, bias=True), (5,)),
    "autoencoder of tables": (lambda: _autoencoder(MLPEncoder((5,), (6,), 3)), (5,)),
    "lenet": (lambda: LeNetEncoder((1, 8, 8), (3, 2), rep_dim=16), (1, 8, 8)),
    "autoencoder of images": (lambda: _autoencoder(LeNetEncoder((2, 8, 8), (3,), (16,), 16, bias=True)), (2, 8, 8)),
}


def _autoencoder(encoder: MLPEncoder | LeNetEncoder) -> nn.Module:
    return nn.Sequential(encoder, encoder.mirrored("linear"))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("sizes", [(6, 6, 6), (6, 4, 5)])
def test_stacked_networks_do_what_each_does_alone(name: str, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    make, shape = MAKE[name]
    networks = [make() for _ in sizes]
    if "image" in name:  # as LeNets are laid out where that is faster
        for network in networks:
            network.to(memory_format=torch.channels_last)
    alone = copy.deepcopy(networks)
    stack = Stack(Samples(len(sizes)))
    together = stack.network(networks)
    x = torch.randn(len(sizes), max(sizes), *shape)
    of_own = torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(1)
    full = len(set(sizes)) == 1
    stack.samples.are(max(sizes), None if full else of_own / torch.tensor(sizes).unsqueeze(1))
    for _ in range(2):
        values = together(x.flatten(0, 1)).flatten(1).square().sum(dim=1)
        losses = mean_of_each(stack.samples, values)
        for weight in stack.owners:
            weight.grad = None
        losses.sum().backward()
    for i, (network, n) in enumerate(zip(alone, sizes, strict=True)):
        for _ in range(2):
            network.zero_grad()
            loss = network(x[i, :n]).flatten(1).square().sum(dim=1).mean()
            loss.backward()
        torch.testing.assert_close(losses[i], loss)
        for own, stacked in zip(network.buffers(), networks[i].buffers(), strict=True):
            torch.testing.assert_close(stacked, own)
        gradients = {
            id(owners[i]): weight.grad[i] for weight, owners in stack.owners.items() if weight.grad is not None
        }
        for own, stacked in zip(network.parameters(), networks[i].parameters(), strict=True):
            torch.testing.assert_close(gradients[id(stacked)], own.grad, rtol=1e-3, atol=2e-4)


def test_a_step_of_the_stacked_weights_is_one_of_each() -> None:
    networks: list[nn.Module] = [nn.Linear(2, 1) for _ in range(3)]
    stack = Stack(Samples(3))
    stack.network(networks)
    for weight in stack.owners:
        weight.data += 1.0
    before = [parameter.clone() for parameter in networks[1].parameters()]
    assert all(torch.equal(w.data[1], p) for w, p in zip(stack.owners, before, strict=True))
    stack.part()
    for weight in stack.owners:
        weight.data += 1.0
    assert all(torch.equal(a, b) for a, b in zip(networks[1].parameters(), before, strict=True))


@pytest.mark.parametrize(
    "layer", [nn.LSTM(2, 2), nn.Conv2d(2, 2, 3, groups=2), nn.Dropout(), nn.BatchNorm1d(2, momentum=None)]
)
def test_what_is_not_known_is_refused(layer: nn.Module) -> None:
    with pytest.raises(NotStackable):
        Stack(Samples(2)).network([nn.Sequential(layer), nn.Sequential(copy.deepcopy(layer))])


def test_losses_of_each_by_the_methods_own_function() -> None:
    samples = Samples(2)
    distances = torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]])
    known = torch.tensor([[0, 1, -1], [0, 0, 1]])

    def loss(d: Tensor, known: Tensor, eta: Tensor) -> Tensor:
        return deep_sad_loss(d, known, eta, 0.0)  # type: ignore[arg-type]

    etas = (torch.tensor([1.0, 2.0]),)
    samples.are(3)
    whole = loss_of_each(samples, loss, distances.flatten(), known, scalars=etas)
    assert whole.tolist() == pytest.approx([(1 + 2 + 1 / 4) / 3, (3 + 5 + 2 * 9) / 3])
    samples.are(3, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]]))
    assert loss_of_each(samples, loss, distances.flatten(), known, scalars=etas).tolist() == pytest.approx(
        [(1 + 2 + 1 / 4) / 3, 4.0]
    )
