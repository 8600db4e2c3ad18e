"""AMA: an adversarial mirrored autoencoder with negatives from outside of the typical latents.

Somepalli et al., arXiv:2003.10713; docs/methods.md says where the paper and its released code differ.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F

from adlightning.core.contracts import KNOWN_ANOMALY
from adlightning.core.scoring import evaluating
from adlightning.methods.parts.mirrored import MirroredDetector

Atypical = Literal["annulus", "scaled", "sipple", "sipple_code", "none"]
Direction = Literal["inward", "outward"]
ShellRadius = Literal["sqrt_dim", "empirical"]

LARGEST_SCALE = 0.5  # of a latent in `scaled`: `atyp_ratio` of the released code
FAR = 2  # times or a part of sqrt(d): the median norm is then far from where the annulus lies


def in_annulus(latents: Tensor, radius: Tensor | float, delta: float, direction: Direction) -> Tensor:
    """Latents (N, d) in the directions of these, their norms drawn from U(radius - delta, radius), or outward.

    Norms below 0, where delta exceeds the radius, become 0.
    """
    drawn = delta * torch.rand(len(latents), 1, device=latents.device)
    norms = radius - drawn if direction == "inward" else radius + drawn
    return norms.clamp_min(0) * F.normalize(latents, dim=1)


def rescaled(latents: Tensor, direction: Direction) -> Tensor:
    """Latents (N, d) times a, or divided by a (outward), a ~ U(0, 0.5) for each: the released code's negatives."""
    scale = LARGEST_SCALE * (1 - torch.rand(len(latents), 1, device=latents.device))  # above 0
    return scale * latents if direction == "inward" else latents / scale


def in_cube(n: int, dim: int, device: torch.device) -> Tensor:
    """Latents (n, dim) uniform in [-1, 1]^dim, the cube whose corners are at sqrt(dim): after Sipple (Figure 3a)."""
    return 2 * torch.rand(n, dim, device=device) - 1


def in_scaled_cube(n: int, latents: Tensor) -> Tensor:
    """Latents (n, d) from U(0, 1)^d times the smallest |value| of a batch's latents (B, d): the released code's."""
    return torch.rand(n, latents.shape[1], device=latents.device) * latents.abs().min()


def overwritten(x: Tensor, made: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, ...) with made (N, ...) at positions (N,), and which (B,) were overwritten; the last of several stays."""
    draws = torch.arange(len(positions), device=x.device)
    last = torch.full((len(x),), -1, device=x.device).scatter_reduce(0, positions, draws, "amax")
    negative = last >= 0
    return torch.where(negative.view(-1, *[1] * (x.dim() - 1)), made[last.clamp_min(0)], x), negative


class AMA(MirroredDetector):
    """AMA, unsupervised: a part of each batch gives way to images of atypical latents, to be reconstructed badly.

    The negatives are made with encoder and generator in eval mode, train neither of them by how they are made, and are
    drawn with replacement: a little less than `negative_share` of a batch.

    Args:
        atypical: where their latents lie: `annulus`, between the radius and radius -+ delta in the directions of the
            batch's latents; `scaled`, these latents themselves made shorter or longer, as in the released code;
            `sipple`, a cube around the origin, and `sipple_code`, the released code's; `none` for no negatives.
        direction: `inward` or `outward` of the typical latents, in `annulus` and `scaled`. The paper chooses by
            validation anomalies; inward on CIFAR-10.
        delta: thickness of the annulus; the paper does not say how large.
        shell_radius: `sqrt_dim`, the paper's radius, or `empirical`, the median norm of the batch's latents.
        negative_share: negatives drawn, as a share of the batch.
        warm_up_epochs: epochs without negatives: 10 in the paper, 11 in the released code.
        selection: `oracle` when `direction`, `delta` or another of these values were chosen by anomalies of a tested
            kind, as the paper's were: reports say so.
        common: networks, losses and training, as in :class:`MirroredDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, images of a side that the networks cannot make, or batches too small
            to have a negative.
    """

    uses_known_anomalies = False

    def __init__(
        self,
        atypical: Atypical = "annulus",
        direction: Direction = "inward",
        delta: float = 1.0,
        shell_radius: ShellRadius = "sqrt_dim",
        negative_share: float = 0.1,
        warm_up_epochs: int = 10,
        selection: Literal["none", "oracle"] = "none",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if selection not in ("none", "oracle"):
            raise ValueError(f"selection must be none or oracle, got {selection!r}")
        kinds: dict[str, tuple[str, Any]] = {"atypical": (atypical, Atypical), "direction": (direction, Direction)}
        for name, (chosen, kind) in {**kinds, "shell_radius": (shell_radius, ShellRadius)}.items():
            if chosen not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {chosen!r}")
        if not 0 < delta < math.inf:
            raise ValueError(f"delta must be positive and finite, got {delta}")
        inside = atypical == "annulus" and direction == "inward" and shell_radius == "sqrt_dim"
        if inside and delta > math.sqrt(self.latent_dim):
            raise ValueError(f"delta must not exceed sqrt(latent_dim) = {math.sqrt(self.latent_dim):.4g}, got {delta}")
        if not 0 < negative_share <= 1:
            raise ValueError(f"negative_share must lie in (0, 1], got {negative_share}")
        if warm_up_epochs < 0:
            raise ValueError(f"warm_up_epochs must not be negative, got {warm_up_epochs}")
        self.atypical = atypical
        self.direction = direction
        self.delta = delta
        self.shell_radius = shell_radius
        self.negative_share = negative_share
        self.warm_up_epochs = warm_up_epochs
        self.selection = selection
        self._warned = False

    @property
    def has_negatives(self) -> bool:
        """Whether there are negatives in the current epoch."""
        wanted = self.atypical != "none" and self.lambda_neg > 0
        return wanted and self.current_epoch >= self.warm_up_epochs

    def setup(self, stage: str) -> None:
        """Refuse batches that would have no negative, and say so when a fit ends before there are any."""
        super().setup(stage)
        if stage != "fit" or self.atypical == "none":
            return
        epochs = self.trainer.max_epochs
        if not self.is_trial and epochs is not None and 0 <= epochs <= self.warm_up_epochs:
            rank_zero_warn(
                f"trainer.max_epochs={epochs} ends within model.warm_up_epochs={self.warm_up_epochs}: no negatives"
            )
        if self._n_negatives(self.data.batch_size) < 1:
            raise ValueError(
                f"negative_share must amount to at least one sample of a batch, got {self.negative_share} of "
                f"{self.data.batch_size} (data.batch_size)"
            )

    def remarks(self) -> list[str]:
        """Whether there were negatives."""
        epochs = self.training_record.get("epochs", self.current_epoch)
        none = self.atypical != "none" and self.lambda_neg > 0 and epochs <= self.warm_up_epochs
        return [f"training ended within model.warm_up_epochs={self.warm_up_epochs}: no negatives"] if none else []

    def _n_negatives(self, batch_size: int) -> int:
        return int(self.negative_share * batch_size + 1e-9)

    def with_negatives(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives in the place of random samples of the batch, once the warm-up is over."""
        if not self.has_negatives:
            return x, torch.zeros_like(known, dtype=torch.bool)
        n = self._n_negatives(len(x))
        if n == 0:  # an epoch's last batch, too small to have one
            return x, torch.zeros_like(known, dtype=torch.bool)
        positions = torch.randint(len(x), (n,), device=x.device)
        with evaluating(self.encoder, self.generator):
            made = self.generator(self.atypical_latents(self.encoder(x).float(), positions)).to(x.dtype)
        return overwritten(x, made, positions)

    def atypical_latents(self, latents: Tensor, positions: Tensor) -> Tensor:
        """Atypical latents (N, d) from those of a batch (B, d) and positions (N,) in it."""
        if self.atypical == "sipple":
            return in_cube(len(positions), self.latent_dim, latents.device)
        if self.atypical == "sipple_code":
            return in_scaled_cube(len(positions), latents)
        if self.atypical == "scaled":
            return rescaled(latents[positions], self.direction)
        norms = torch.linalg.vector_norm(latents, dim=1)
        radius = math.sqrt(self.latent_dim) if self.shell_radius == "sqrt_dim" else norms.median()
        return in_annulus(latents[positions], radius, self.delta, self.direction)

    def on_train_epoch_end(self) -> None:
        """Say so, once, when the latents are not where the annulus takes them to be."""
        super().on_train_epoch_end()
        beside = self.atypical == "annulus" and self.shell_radius == "sqrt_dim" and self.has_negatives
        if not beside or self._warned or not self.curves.rows:
            return
        norm, radius = self.curves.rows[-1]["latent_norm"], math.sqrt(self.latent_dim)
        if not radius / FAR <= norm <= radius * FAR:
            self._warned = True
            rank_zero_warn(
                f"the median norm of latents is {norm:.3g} at the end of epoch {self.current_epoch}, the annulus of "
                f"the negatives lies at sqrt(latent_dim) = {radius:.3g}: shell_radius: empirical follows the latents"
            )


class SemiSupervisedAMA(MirroredDetector):
    """AMA with known anomalies as negatives in place of generated ones (Section 3.3), from the first epoch on.

    Args:
        common: as in :class:`MirroredDetector` and :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, images of a side that the networks cannot make, or no known anomaly.
    """

    needs_known_anomalies = True

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def with_negatives(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The known anomalies of the batch are its negatives."""
        return x, known == KNOWN_ANOMALY
