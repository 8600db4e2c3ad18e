"""Autoencoders judged by a critic of pairs: AMA's networks, turns and scores (Somepalli et al., arXiv:2003.10713).

docs/methods.md says where the paper and its released code differ.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.adversarial import AdversarialDetector, between, gradient_penalty
from adlightning.methods.parts.fitted import FittedDetector
from adlightning.methods.parts.pair_losses import (
    Simplex,
    a_score,
    corners,
    latent_norms,
    mean_over,
    r_score,
    reconstruction_terms,
    simplex_weights,
)
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.preprocessing import PreprocessingName

InterpGrad = Literal["none", "G", "EG"]
GPMode = Literal["per_sample", "per_pixel"]
Score = Literal["A", "R"]


class MirroredDetector(FittedDetector, AdversarialDetector):
    """An autoencoder trained against a critic of pairs (x, x) and (x, G(E(x))); a subclass says what is negative.

    A batch is `critic_steps` steps of the critic and one of encoder and generator. Reconstructions and interpolated
    images of a batch are made once: they do not change while the critic moves.

    The A-score needs the mean of R over the training set, which is taken at each validation from epoch
    `first_scored_epoch` on, and after the last step: there are no scores before.

    Args:
        latent_dim: dimension of the latents.
        encoder_width: channels of the encoder's first feature map.
        generator_width: channels of the generator's feature maps.
        critic_width: channels of the critic's feature maps, and number of its features.
        spectral_norm: spectral normalisation of the critic.
        mirrored: the critic sees pairs; else single images, the plain Wasserstein loss.
        lambda_inter: weight of the interpolated images; 0 leaves them out. The released code's default is 0.2.
        simplex: weights of the interpolation: `normalized` as in the paper, or `remainder` as in the released code.
        simplex_points: latents that are mixed; 3 with `remainder`.
        interp_grad: whom the interpolated images train beside the critic: `none`, as in the released code, `G` the
            generator, or `EG` the encoder as well.
        lambda_neg: weight of the negatives, which are a part of the batch over which the mean is taken.
        lambda_reg: weight of the mean norm of the latents of normals.
        penalty_weight: weight of the critic's gradient penalty; 0 leaves it out.
        gp_mode: the gradient's norm is taken `per_sample`, or `per_pixel` as in the released code.
        critic_steps: steps of the critic for each one of encoder and generator.
        fresh_batches: each of these steps has a batch of its own; else they share one, as in the released code.
        score_type: `A`, or `R`, higher for what is reconstructed worse.
        first_scored_epoch: first epoch whose validation has scores, and whose weights `--monitor` may choose.
        lr: learning rate of all three.
        betas: Adam's, of critic and generator.
        encoder_betas: Adam's, of the encoder.
        lr_milestones: epochs at which the learning rate drops to a tenth.
        preprocessing: `symmetric` in the released code.
        common: gradient norm, as in :class:`AdversarialDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the networks cannot make.
    """

    encoder: StridedEncoder
    generator: ResidualGenerator
    critic: ResidualCritic
    r_mean: Tensor
    r_std: Tensor
    has_fit: Tensor
    critic_steps_taken: Tensor

    def __init__(
        self,
        latent_dim: int = 128,
        encoder_width: int = 64,
        generator_width: int = 256,
        critic_width: int = 128,
        spectral_norm: bool = True,
        mirrored: bool = True,
        lambda_inter: float = 0.5,
        simplex: Simplex = "normalized",
        simplex_points: int = 3,
        interp_grad: InterpGrad = "G",
        lambda_neg: float = 5.0,
        lambda_reg: float = 1.0,
        penalty_weight: float = 10.0,
        gp_mode: GPMode = "per_sample",
        critic_steps: int = 5,
        fresh_batches: bool = False,
        score_type: Score = "A",
        first_scored_epoch: int = 20,
        lr: float = 3e-4,
        betas: Sequence[float] = (0.0, 0.9),
        encoder_betas: Sequence[float] = (0.5, 0.9),
        lr_milestones: Sequence[int] = (30, 60, 90),
        preprocessing: PreprocessingName = "symmetric",
        **common: Any,
    ) -> None:
        super().__init__(lr_milestones=lr_milestones, preprocessing=preprocessing, **common)
        widths = {"encoder_width": encoder_width, "generator_width": generator_width, "critic_width": critic_width}
        for name, size in {"latent_dim": latent_dim, **widths, "critic_steps": critic_steps}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if simplex_points < 2:
            raise ValueError(f"simplex_points must be at least 2, got {simplex_points}")
        if simplex == "remainder" and simplex_points > 3:
            raise ValueError(
                "simplex_points must be 2 or 3 with simplex: remainder, whose last weight would be negative, got "
                f"{simplex_points}"
            )
        if first_scored_epoch < 0:
            raise ValueError(f"first_scored_epoch must not be negative, got {first_scored_epoch}")
        weights = {"lambda_inter": lambda_inter, "lambda_neg": lambda_neg, "lambda_reg": lambda_reg}
        for name, value in {**weights, "penalty_weight": penalty_weight}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        for name, pair in (("betas", betas), ("encoder_betas", encoder_betas)):
            if len(pair) != 2 or not all(0 <= beta < 1 for beta in pair):
                raise ValueError(f"{name} must be two numbers in [0, 1), got {list(pair)}")
        kinds: dict[str, tuple[str, Any]] = {"simplex": (simplex, Simplex), "interp_grad": (interp_grad, InterpGrad)}
        for name, (chosen, kind) in {**kinds, "gp_mode": (gp_mode, GPMode), "score_type": (score_type, Score)}.items():
            if chosen not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {chosen!r}")
        self.latent_dim = latent_dim
        self.encoder_width = encoder_width
        self.generator_width = generator_width
        self.critic_width = critic_width
        self.spectral_norm = spectral_norm
        self.mirrored = mirrored
        self.lambda_inter = lambda_inter
        self.simplex = simplex
        self.simplex_points = simplex_points
        self.interp_grad = interp_grad
        self.lambda_neg = lambda_neg
        self.lambda_reg = lambda_reg
        self.penalty_weight = penalty_weight
        self.gp_mode = gp_mode
        self.critic_steps = critic_steps
        self.fresh_batches = fresh_batches
        self.score_type = score_type
        self.first_scored_epoch = first_scored_epoch
        self.lr = lr
        self.betas = list(betas)
        self.encoder_betas = list(encoder_betas)

    # ---- construction ---------------------------------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """The three networks for images of this shape, and room for the moments of R."""
        self.encoder = StridedEncoder(shape, self.latent_dim, self.encoder_width)
        self.generator = ResidualGenerator(shape, self.latent_dim, self.generator_width, self.preprocess.output)
        n_channels = 2 * shape[0] if self.mirrored else shape[0]
        self.critic = ResidualCritic(n_channels, shape[1], self.critic_width, self.spectral_norm)
        self.register_buffer("r_mean", torch.tensor(math.nan))
        self.register_buffer("r_std", torch.tensor(math.nan))
        self.register_buffer("has_fit", torch.tensor(False))
        # since the last step of encoder and generator: a run with fresh batches that is resumed goes on there
        self.register_buffer("critic_steps_taken", torch.tensor(0))

    def players(self) -> dict[str, nn.Module]:
        """Critic, generator and encoder."""
        return {"critic": self.critic, "generator": self.generator, "encoder": self.encoder}

    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """Adam, with other betas for the encoder."""
        first, second = self.encoder_betas if player == "encoder" else self.betas
        return Adam(parameters, lr=self.lr, betas=(first, second))

    # ---- training -------------------------------------------------------------------------------------------------

    @abstractmethod
    def with_negatives(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Preprocessed samples (B, ...) of a batch, negatives among them, and which (B,) are negatives."""

    def on_train_start(self) -> None:
        """Where the turns stand, on the host: a training step waits for no device."""
        super().on_train_start()
        self._critic_steps = int(self.critic_steps_taken)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """The critic's steps and, when its turn has come, one of encoder and generator."""
        self.forget_fit()
        x, negative = self.with_negatives(self.preprocess(batch.x), batch.known)
        n_steps = 1 if self.fresh_batches else self.critic_steps
        due = self._critic_steps + n_steps >= self.critic_steps
        with self.only("encoder", "generator"), torch.set_grad_enabled(due):
            latents = self.encoder(x)
            made, mixed = self.generator(latents), self._interpolated(latents, negative)
        for _ in range(n_steps):
            with self.only("critic"):
                fixed = made.detach(), None if mixed is None else mixed.detach()
                loss = self._penalty(x, fixed[0]) - self._objective(x, *fixed, negative)
                self.minimise(loss, "critic")
        norms = latent_norms(latents)
        if due:
            with self.only("encoder", "generator"):
                learnt = None if self.interp_grad == "none" else mixed
                objective = self._objective(x, made, learnt, negative)
                self.minimise(objective + self.lambda_reg * mean_over(norms, ~negative), "encoder", "generator")
        self._critic_steps = 0 if due else self._critic_steps + n_steps
        self.critic_steps_taken.fill_(self._critic_steps)
        median = norms.detach().masked_fill(negative, math.nan).nanmedian()
        self.curves.add(self.global_step, critic_loss=loss, latent_norm=median)
        self.log_loss(loss, batch)

    def _interpolated(self, latents: Tensor, negative: Tensor) -> Tensor | None:
        """What the generator makes of mixed latents of normals, or None where that has no weight."""
        if not self.lambda_inter:
            return None
        latents = latents if self.interp_grad == "EG" else latents.detach()
        weights = simplex_weights(len(latents), self.simplex_points, self.simplex, latents.device)
        mixed = (weights[:, :, None] * latents[corners(negative, self.simplex_points)]).sum(dim=1)
        images: Tensor = self.generator(mixed)
        return images

    def _objective(self, x: Tensor, made: Tensor, mixed: Tensor | None, negative: Tensor) -> Tensor:
        """Equation 2 without the norms: the critic maximises it, encoder and generator minimise it."""
        images = [x, made] if mixed is None else [x, made, mixed]
        values = self.critic(torch.cat([self.pairs(x, image) for image in images])).float().chunk(len(images))
        terms = reconstruction_terms(values[0], values[1], negative, self.lambda_neg)
        if mixed is not None:
            terms = terms + self.lambda_inter * mean_over(values[0] - values[2], ~negative)
        return terms

    def _penalty(self, x: Tensor, made: Tensor) -> Tensor:
        """The weighted gradient penalty on pairs whose second image lies between x and what is made of it."""
        if not self.penalty_weight:
            return x.new_zeros(())
        with torch.autocast(self.device.type, enabled=False):
            pairs = self.pairs(x, between(x, made.float())).detach().requires_grad_()
            return self.penalty_weight * gradient_penalty(self.critic(pairs), pairs, self.gp_mode == "per_pixel")

    def pairs(self, x: Tensor, images: Tensor) -> Tensor:
        """What the critic sees of preprocessed samples and images made of them: both stacked, or the images alone."""
        return torch.cat([x, images.to(x.dtype)], dim=1) if self.mirrored else images.to(x.dtype)

    # ---- scores ---------------------------------------------------------------------------------------------------

    def first_scored(self) -> int:
        """As asked for, the last epoch at the latest."""
        return min(self.first_scored_epoch, super().first_scored())

    def ready_to_score(self) -> bool:
        """Only once the moments of R are those of the weights."""
        return bool(self.has_fit)

    def forget_fit(self) -> None:
        """The moments of R belong to earlier weights."""
        self.has_fit.fill_(False)

    def fit_on_training_data(self) -> None:
        """Mean and standard deviation of R over the training samples that are not known anomalies."""
        with self.trainer.precision_plugin.forward_context():
            r = [self.r_scores(x).cpu() for x in self.fitting_normals()]
        values = torch.cat(r).double()
        self.r_mean.fill_(values.mean())
        self.r_std.fill_(values.std(correction=0))
        self.has_fit.fill_(True)

    def on_validation_epoch_start(self) -> None:
        """During a fit, validation scores are those of the weights as they are."""
        super().on_validation_epoch_start()
        trainer = self.trainer
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if fitting and self.current_epoch >= self.first_scored_epoch and not self.ready_to_score():
            self._fit()

    def reconstructions(self, x: Tensor) -> Tensor:
        """G(E(x)) of raw samples, (B, C, H, W), in the preprocessed range."""
        return self._made(self.preprocess(x))

    def _made(self, prepared: Tensor) -> Tensor:
        made: Tensor = self.generator(self.encoder(prepared))
        return made

    def r_scores(self, x: Tensor) -> Tensor:
        """R (B,) of raw samples."""
        prepared = self.preprocess(x)
        seen = torch.cat([self.pairs(prepared, prepared), self.pairs(prepared, self._made(prepared))])
        features = self.critic.features(seen)
        return r_score(features[: x.shape[0]], features[x.shape[0] :])

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The A-score (B,) as squared distance from the mean R of training samples, or R itself."""
        r = self.r_scores(x)
        return a_score(r, self.r_mean) if self.score_type == "A" else r
