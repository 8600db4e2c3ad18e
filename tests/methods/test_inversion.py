"""The search of a generator: against a loop over pairs, its starts and chunks, what cannot be batched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gan_cases import images, trained_
from torch import Tensor, nn

from adlightning.methods.parts.inversion import (
    Inversion,
    LatentSearch,
    SingleSampleConvTranspose2d,
    for_single_samples,
    mean_over_seeds,
    pairs_that_fit,
    squared_distance,
    starting_latents,
)
from adlightning.networks.gan import DCGANGenerator


def trained_generator() -> nn.Module:
    torch.manual_seed(0)
    return trained_(DCGANGenerator(8, (1, 16, 16), width=4)).eval()


def linear_generator() -> nn.Module:
    """The gradients of its stacked weights lie in memory in another order than the weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 12), nn.LeakyReLU(0.2), nn.Linear(12, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16))
    )


# ---- the search ------------------------------------------------------------------------------------------------------


def loop(search: LatentSearch, generator: nn.Module, x: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and losses of the search, one pair at a time, each with a copy of the generator and optimisers."""
    latents, losses = [], []
    for sample, start in zip(x, starts, strict=True):
        network, z = copy.deepcopy(generator).eval(), start[None].clone().requires_grad_()
        groups = [{"params": [z], "lr": search.lr_latent}]
        if search.lr_weights:
            groups.append({"params": list(network.parameters()), "lr": search.lr_weights})
        optimizers = [torch.optim.Adam([group], betas=search.betas) for group in groups]
        for _ in range(search.n_steps):
            for turn in [[o] for o in optimizers] if search.alternating else [optimizers]:
                network.zero_grad()
                z.grad = None
                (network(z) - sample[None]).square().sum().backward()
                for optimizer in turn:
                    optimizer.step()
        latents.append(z.detach()[0])
        losses.append((network(z) - sample[None]).square().sum().detach())
    return torch.stack(latents), torch.stack(losses)


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("lr_weights", [0.0, 1e-2])
@pytest.mark.parametrize("make", [trained_generator, linear_generator])
def test_the_search_equals_a_loop_over_pairs(
    make: Callable[[], nn.Module], lr_weights: float, alternating: bool
) -> None:
    generator = make()
    before = copy.deepcopy(generator.state_dict())
    torch.manual_seed(1)
    x, starts = torch.rand(5, 1, 16, 16) * 2 - 1, torch.randn(5, 8)
    search = LatentSearch(n_steps=4, lr_weights=lr_weights, alternating=alternating, chunk_size=2)
    latents, losses, made = Inversion(search, 8).of_pairs(generator, x, starts)
    expected_latents, expected_losses = loop(search, generator, x, starts)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=0)
    torch.testing.assert_close(latents, expected_latents, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(squared_distance(made, x), losses)
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_and_updates_at_one_point_matter() -> None:
    generator = trained_generator()
    torch.manual_seed(1)
    x, starts = torch.rand(2, 1, 16, 16) * 2 - 1, torch.randn(2, 8)

    def losses(**options: Any) -> Tensor:
        return Inversion(LatentSearch(n_steps=4, **options), 8).of_pairs(generator, x, starts)[1]

    both = losses(lr_weights=1e-2)
    assert (both < losses(lr_weights=0.0)).all()
    assert not torch.allclose(both, losses(lr_weights=1e-2, alternating=True), rtol=1e-3)


def test_every_step_is_told() -> None:
    steps: list[tuple[int, int]] = []
    generator = trained_generator()
    x, starts = torch.zeros(3, 1, 16, 16), torch.randn(3, 8)
    for alternating in (False, True):
        steps.clear()
        inversion = Inversion(LatentSearch(n_steps=2, alternating=alternating, chunk_size=1), 8)
        inversion.of_pairs(generator, x, starts, lambda i, made: steps.append((i, len(made))))
        assert steps == [(0, 3), (1, 3), (2, 3)]


def test_latents_are_drawn_by_what_is_in_a_sample() -> None:
    x = images(4)
    latents = starting_latents(x, 3, 8, seed=0)
    assert latents.shape == (4, 3, 8)
    assert torch.equal(starting_latents(x[[2, 0]], 1, 8, seed=0), latents[[2, 0], :1])
    flat = latents.flatten(0, 1)
    assert len(flat.unique(dim=0)) == 12
    assert not torch.equal(starting_latents(x, 3, 8, seed=1), latents)
    many = starting_latents(images(200), 2, 64, seed=0)
    assert abs(many.mean().item()) < 0.02
    assert many.std().item() == pytest.approx(1, abs=0.02)


def test_chunks_on_a_cpu_take_half_a_gibibyte() -> None:
    with torch.device("meta"):
        paper, huge = DCGANGenerator(256, (3, 32, 32)), DCGANGenerator(4096, (3, 64, 64), width=512)
    assert 5 <= pairs_that_fit(paper, 3072, torch.device("cpu")) <= 15
    assert pairs_that_fit(huge, 12288, torch.device("cpu")) == 1


def test_scores_of_a_sample_are_the_mean_of_its_seeds() -> None:
    assert mean_over_seeds(torch.tensor([1.0, 3.0, 10.0, 20.0]), 2).tolist() == [2, 15]


def test_where_memory_is_full_fewer_pairs_are_searched_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, x, tried = trained_generator(), images(5).float() / 127.5 - 1, list[int]()
    starts = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    whole = Inversion(LatentSearch(n_steps=1), 8).of_pairs(generator, x, starts)[1]
    search = Inversion._search

    def too_little_memory(self: Inversion, generator: Any, part: Tensor, *rest: Any) -> Any:
        tried.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return search(self, generator, part, *rest)

    monkeypatch.setattr(Inversion, "_search", too_little_memory)
    inversion = Inversion(LatentSearch(n_steps=1, chunk_size=4), 8)
    with pytest.warns(UserWarning, match="memory is full with 4 at a time: model.search.chunk_size is 2 now"):
        losses = inversion.of_pairs(generator, x, starts)[1]
    torch.testing.assert_close(losses, whole)
    assert tried == [4, 2, 2, 1]
    torch.testing.assert_close(inversion.of_pairs(generator, x, starts)[1], whole)
    assert tried[4:] == [2, 2, 1]  # what was found to fit is remembered


def test_one_pair_that_does_not_fit_and_other_errors_are_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Inversion, *_: Any) -> Any:
        raise error

    monkeypatch.setattr(Inversion, "_search", fails)
    pairs = trained_generator(), torch.zeros(2, 1, 16, 16), torch.zeros(2, 8)
    error: Exception = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.warns(UserWarning, match="chunk_size is 1 now"), pytest.raises(torch.OutOfMemoryError):
        Inversion(LatentSearch(chunk_size=2), 8).of_pairs(*pairs)
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        Inversion(LatentSearch(chunk_size=2), 8).of_pairs(*pairs)


# ---- what cannot be batched ------------------------------------------------------------------------------------------


class OfItsOwn(nn.Module):
    """Latents (B, 8) to samples (B, 3) by a layer, and by what a subclass does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, z: Tensor) -> Tensor:
        """Samples (B, 3)."""
        made: Tensor = self.layer(z)
        return made


class Branching(OfItsOwn):
    def forward(self, z: Tensor) -> Tensor:
        made = super().forward(z)
        return made if made.sum() > 0 else -made


class BatchStatistics(OfItsOwn):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, z: Tensor) -> Tensor:
        self.norm.train()
        made: Tensor = self.norm(super().forward(z)[:, None])[:, 0]
        return made


class Drawing(OfItsOwn):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) + torch.randn(len(z), 3)


@pytest.mark.parametrize(
    ("generator", "reason"),
    [(Branching, "data-dependent control flow"), (BatchStatistics, "running_mean|in-place"), (Drawing, "random")],
)
def test_a_generator_that_cannot_be_batched_is_refused_with_the_reason(generator: Any, reason: str) -> None:
    made = generator()
    modes = [module.training for module in made.modules()]
    with pytest.raises(ValueError, match=rf"generator: {generator.__name__} cannot .*\(.*({reason})") as refused:
        Inversion(LatentSearch(), 8).require_batchable(made)
    assert "search.lr_weights=0" in str(refused.value)
    assert [module.training for module in made.modules()] == modes
    Inversion(LatentSearch(lr_weights=0), 8).require_batchable(made)


def test_weights_without_a_part_in_the_sample_stay() -> None:
    class Idle(OfItsOwn):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(2, 2)

    generator = Idle()
    inversion = Inversion(LatentSearch(lr_weights=0.1, n_steps=3), 8)
    inversion.require_batchable(generator)
    losses = inversion.of_pairs(generator, torch.ones(2, 3), torch.zeros(2, 8))[1]
    assert (losses < squared_distance(generator(torch.zeros(2, 8)), torch.ones(2, 3))).all()


# ---- networks for one sample at a time -------------------------------------------------------------------------------


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
    generator = DCGANGenerator(4, (1, 16, 16), width=8).eval()
    before, z = copy.deepcopy(generator), torch.randn(1, 4)
    single = for_single_samples(generator)
    torch.testing.assert_close(single(z), generator(z))
    assert [id(weight) for weight in single.parameters()] == [id(weight) for weight in generator.parameters()]
    assert [type(module) for module in generator.modules()] == [type(module) for module in before.modules()]


def test_groups_are_left_alone() -> None:
    layer = nn.ConvTranspose2d(4, 4, 3, groups=2)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(for_single_samples(nn.Sequential(layer))(x), layer(x))
