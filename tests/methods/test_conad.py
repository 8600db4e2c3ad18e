"""ConAD: losses by hand, groups and closeness, networks, players, scores, refusals."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import adam, images, stripes
from torch import Tensor, nn

from adlightning.core.contracts import InputSpec
from adlightning.methods import ConAD
from adlightning.methods.conad import consistency_loss, discriminator_loss, groups, hypotheses_nll, winner_takes_all
from adlightning.networks.gan import DCGANEncoder
from adlightning.networks.hypotheses import GroupDiscriminator, HypothesesDecoder, closeness
from adlightning.preprocessing import SymmetricRange

SMALL: dict[str, Any] = {
    "encoder": partial(DCGANEncoder, code_dim=8, width=4),
    "decoder": partial(HypothesesDecoder, width=4),
    "discriminator": partial(GroupDiscriminator, width=4, n_kernels=3, kernel_dim=2),
    "n_hypotheses": 3,
    "preprocessing": SymmetricRange,
}


def built(**options: Any) -> ConAD:
    torch.manual_seed(0)
    detector = ConAD(**{**SMALL, **options})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    return detector.eval()


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_likelihoods_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    means, scales = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]), torch.tensor([[[[1.0, 2.0]], [[0.5, 1.0]]]])
    first = 0 + math.log(1) + 0.5 + math.log(2) + math.log(2 * math.pi)
    second = 2 + math.log(0.5) + 0 + math.log(1) + math.log(2 * math.pi)
    torch.testing.assert_close(hypotheses_nll(x, means, scales), torch.tensor([[first, second]]))


def test_the_winner_takes_all_but_epsilon() -> None:
    nll = torch.tensor([[3.0, 1.0, 5.0], [2.0, 4.0, 2.5]], requires_grad=True)
    torch.testing.assert_close(winner_takes_all(nll), torch.tensor([1.0, 2.0]))
    expected = torch.tensor([0.8 * 1 + 0.1 * (3 + 5), 0.8 * 2 + 0.1 * (4 + 2.5)])
    torch.testing.assert_close(winner_takes_all(nll, 0.2), expected)
    winner_takes_all(nll).sum().backward()
    assert nll.grad is not None
    assert nll.grad.tolist() == [[0, 1, 0], [1, 0, 0]]  # the others learn nothing
    torch.testing.assert_close(winner_takes_all(torch.tensor([[3.0]]), 0.2), torch.tensor([3.0]))


def test_adversarial_losses_by_hand() -> None:
    def logits(*shares: float) -> Tensor:
        return torch.tensor([[math.log(p / (1 - p)) for p in shares]])

    real, fakes = logits(0.8, 0.5), (logits(0.3), logits(0.1), logits(0.5))
    by_hand = -(math.log(0.8) + math.log(0.5)) / 2 - math.log(0.7) - math.log(0.9) - math.log(0.5)
    assert discriminator_loss(real, *fakes).item() == pytest.approx(by_hand)
    assert consistency_loss(*fakes).item() == pytest.approx(-math.log(0.3) - math.log(0.1) - math.log(0.5))


def test_closeness_by_hand() -> None:
    projected = torch.tensor([[[[0.0, 0.0]], [[1.0, -1.0]], [[0.0, 3.0]]]])  # distances 2, 3 and 5
    two, three, five = (math.exp(-d) for d in (2, 3, 5))
    torch.testing.assert_close(closeness(projected), torch.tensor([[[two + three], [two + five], [three + five]]]))


def test_groups_leave_out_what_makes_none() -> None:
    assert groups(torch.arange(7), 3).tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("learnt_scale", [True, False])
def test_networks_fit_images_of_each_size(shape: tuple[int, int, int], learnt_scale: bool) -> None:
    decoder = HypothesesDecoder(5, shape, n_hypotheses=4, width=2, learnt_scale=learnt_scale, min_scale=0.2)
    means, scales = decoder(torch.randn(3, 5))
    assert means.shape == scales.shape == (3, 4, *shape)
    assert means.abs().max() <= 1
    assert (scales > 0.2).all() if learnt_scale else (scales == 1).all()
    assert GroupDiscriminator(shape, width=2)(means).shape == (3, 4)


def test_hypotheses_share_all_layers_but_the_last() -> None:
    sizes = [
        tuple(layer.weight.shape)
        for layer in HypothesesDecoder(128, (3, 32, 32)).modules()
        if isinstance(layer, nn.ConvTranspose2d)
    ]
    assert sizes == [(128, 256, 4, 4), (256, 128, 4, 4), (128, 64, 4, 4), (64, 16 * 2 * 3, 4, 4)]


def test_a_group_of_copies_is_told_from_its_images_one_by_one() -> None:
    torch.manual_seed(0)
    discriminator = GroupDiscriminator((1, 8, 8), width=2, n_kernels=2, kernel_dim=2).eval()
    image, others = torch.randn(1, 1, 1, 8, 8), torch.randn(1, 2, 1, 8, 8)
    alone = GroupDiscriminator((1, 8, 8), width=2, n_kernels=0).eval()
    copies = image.expand(1, 3, 1, 8, 8)
    mixed = torch.cat([image, others], dim=1)
    assert discriminator(copies)[0, 0] != discriminator(mixed)[0, 0]
    torch.testing.assert_close(alone(copies)[0, 0], alone(mixed)[0, 0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HypothesesDecoder(4, (1, 8, 8), n_hypotheses=0), "n_hypotheses must be at least 1"),
        (lambda: HypothesesDecoder(4, (1, 8, 8), min_scale=0.0), "min_scale must be positive, got 0"),
        (lambda: GroupDiscriminator((1, 8, 8), n_kernels=-1), "n_kernels must not be negative, got -1"),
        (lambda: ConAD(n_hypotheses=0), "n_hypotheses must be at least 1, got 0"),
        (lambda: ConAD(epsilon=1.0), r"epsilon must lie in \[0, 1\), got 1"),
        (lambda: built(encoder=partial(DCGANEncoder, code_dim=7, width=4)), "an even number of values, got 7"),
        (lambda: built(discriminator=partial(nn.Identity)), "discriminator must give"),
    ],
)
def test_bad_arguments_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# ---- the detector ----------------------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """Which players each minimised loss moved, in order."""

    def __init__(self) -> None:
        self.moved: list[list[str]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: Any = pl_module
        minimise = module.players.minimise

        def watched(loss: Tensor, *moving: str) -> None:
            before = {name: copy.deepcopy(net.state_dict()) for name, net in module.players.networks.items()}
            minimise(loss, *moving)
            weights = {name: dict(net.named_parameters()) for name, net in module.players.networks.items()}
            moved = (any((w != before[name][key]).any() for key, w in own.items()) for name, own in weights.items())
            self.moved.append([name for name, it in zip(weights, moved, strict=True) if it])

        module.players.minimise = watched


@pytest.mark.parametrize("batch_size", [20, 2])
def test_players_move_in_turn_also_in_batches_smaller_than_a_group(make_trainer: MakeTrainer, batch_size: int) -> None:
    watch = Watch()
    trainer = make_trainer(max_epochs=1, limit_train_batches=2, callbacks=[watch])
    trainer.fit(built().train(), datamodule=stripes(batch_size=batch_size))
    assert watch.moved == [["discriminator"], ["encoder", "decoder"]] * 2


def test_score_is_the_likelihood_under_the_best_hypothesis() -> None:
    detector, x = built(), images(4)
    with torch.no_grad():
        scores = type(detector).anomaly_score.__wrapped__(detector, x)  # type: ignore[attr-defined]
        prepared = detector.preprocess(x)
        means, scales = detector.decoder(detector.posterior(prepared)[0])
        normal = torch.distributions.Normal(means, scales)
        by_torch = -normal.log_prob(prepared[:, None]).flatten(2).sum(dim=2)
        best = means[torch.arange(4), by_torch.argmin(dim=1)]
        rebuilt = detector.reconstructions(x)
    torch.testing.assert_close(scores, by_torch.min(dim=1).values)
    torch.testing.assert_close(rebuilt, best)


def test_it_tells_left_bars_from_others(make_trainer: MakeTrainer) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = ConAD(**SMALL, autoencoder_optimizer=adam(1e-2)), stripes()
    trainer = make_trainer(max_epochs=12)
    trainer.fit(detector, datamodule=data)
    assert trainer.test(detector, datamodule=data, verbose=False)[0]["test/auroc"] > 0.9
