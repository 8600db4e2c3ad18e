"""What AMA is told of turns, interpolated images and negatives: groups of its arguments, checked, and said in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.rules import at_least, between, check_arguments, not_negative, positive

if TYPE_CHECKING:
    from adlightning.methods.ama.detector import AMA

Simplex = Literal["normalized", "remainder"]
Gradient = Literal["none", "G", "EG"]
Atypical = Literal["annulus", "scaled", "sipple", "sipple_code", "none"]
Direction = Literal["inward", "outward"]
Radius = Literal["sqrt_dim", "empirical"]

FAR = 2  # times or a part of sqrt(d): the median norm is then far from where the annulus lies


@dataclass(frozen=True)
class CriticTurns:
    """How many steps the critic takes before one of encoder and generator.

    Args:
        steps: of the critic.
        fresh_batches: each of these steps has a batch of its own; else they share one, as in the released code.
    """

    steps: int = 5
    fresh_batches: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_arguments({"critic_turns.steps": at_least(1)}, {}, {"critic_turns.steps": self.steps})


@dataclass(frozen=True)
class Interpolation:
    """Images of mixed latents of normals, which the critic tells from the samples too.

    Args:
        weight: lambda_inter; 0 leaves them out. The released code's default is 0.2.
        simplex: weights of the mean: `normalized` as in the paper, or `remainder` as in the released code.
        points: latents that are mixed; 2 or 3 with `remainder`.
        gradient: whom the images train beside the critic: `none`, as in the released code, `G` the generator, or `EG`
            the encoder as well.
    """

    weight: float = 0.5
    simplex: Simplex = "normalized"
    points: int = 3
    gradient: Gradient = "G"

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {"interpolation.weight": not_negative, "interpolation.points": at_least(2)}
        hints = {"interpolation.simplex": Simplex, "interpolation.gradient": Gradient}
        check_arguments(rules, hints, {f"interpolation.{name}": value for name, value in vars(self).items()})
        if self.simplex == "remainder" and self.points > 3:
            raise ValueError(
                "interpolation.points must be 2 or 3 with simplex: remainder, whose last weight would be negative, got "
                f"{self.points}"
            )


@dataclass(frozen=True)
class Negatives:
    """Images of atypical latents in the place of samples of a batch, to be reconstructed badly.

    They are made with encoder and generator in eval mode, train neither of them by how they are made, and are drawn
    with replacement: a little less than `share` of a batch.

    Args:
        kind: where their latents lie: `annulus`, between the radius and radius -+ delta in the directions of the
            batch's latents; `scaled`, these latents themselves made shorter or longer, as in the released code;
            `sipple`, a cube around the origin, and `sipple_code`, the released code's; `none` for no negatives.
        direction: `inward` or `outward` of the typical latents, in `annulus` and `scaled`. The paper chooses by
            validation anomalies; inward on CIFAR-10.
        delta: thickness of the annulus; the paper does not say how large.
        radius: `sqrt_dim`, the paper's, or `empirical`, the median norm of the batch's latents.
        share: negatives drawn, as a share of the batch.
        warm_up_epochs: epochs without negatives: 10 in the paper, 11 in the released code.
        weight: lambda_neg; the negatives are a part of the batch over which the mean is taken.
    """

    kind: Atypical = "annulus"
    direction: Direction = "inward"
    delta: float = 1.0
    radius: Radius = "sqrt_dim"
    share: float = 0.1
    warm_up_epochs: int = 10
    weight: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {"delta": positive, "share": between(0, 1, "right"), "warm_up_epochs": not_negative}
        hints = {"kind": Atypical, "direction": Direction, "radius": Radius}
        check_arguments(
            {f"negatives.{name}": rule for name, rule in {**rules, "weight": not_negative}.items()},
            {f"negatives.{name}": hint for name, hint in hints.items()},
            {f"negatives.{name}": value for name, value in vars(self).items()},
        )

    def expected_norms(self, latent_dim: int) -> dict[str, float]:
        """The radius of typical latents, and the other end of the annulus where it lies beside that radius."""
        radius = math.sqrt(latent_dim)
        if self.kind != "annulus" or self.radius != "sqrt_dim":
            return {"sqrt(d)": radius}
        other = radius - self.delta if self.direction == "inward" else radius + self.delta
        return {"sqrt(d)": radius, "end of the annulus": other}

    def require_room(self, latent_dim: int) -> None:
        """Raise ValueError for an annulus that is thicker than the ball is wide."""
        inside = self.kind == "annulus" and self.direction == "inward" and self.radius == "sqrt_dim"
        if inside and self.delta > math.sqrt(latent_dim):
            raise ValueError(
                f"negatives.delta must not exceed sqrt(latent_dim) = {math.sqrt(latent_dim):.4g}, got {self.delta}"
            )

    def require_some(self, detector: AMA) -> None:
        """Say so when a fit ends before there are any. Raises ValueError for batches that would have none."""
        if self.kind == "none":
            return
        epochs, batch_size = detector.trainer.max_epochs, detector.data.batch_size
        if not detector.is_trial and epochs is not None and 0 <= epochs <= self.warm_up_epochs:
            rank_zero_warn(
                f"trainer.max_epochs={epochs} ends within model.negatives.warm_up_epochs={self.warm_up_epochs}: no "
                "negatives"
            )
        if int(self.share * batch_size + 1e-9) < 1:
            raise ValueError(
                f"negatives.share must amount to at least one sample of a batch, got {self.share} of {batch_size} "
                "(data.batch_size)"
            )

    def warn_when_misplaced(self, detector: AMA) -> bool:
        """Say so when the latents are not where the annulus takes them to be; whether that was said."""
        radius, rows = math.sqrt(detector.latent_dim), detector.curves.rows
        if self.kind != "annulus" or self.radius != "sqrt_dim" or not rows:
            return False
        if radius / FAR <= (norm := rows[-1]["latent_norm"]) <= radius * FAR:
            return False
        rank_zero_warn(
            f"the median norm of latents is {norm:.3g} at the end of epoch {detector.current_epoch}, the annulus of "
            f"the negatives lies at sqrt(latent_dim) = {radius:.3g}: negatives.radius: empirical follows the latents"
        )
        return True

    def remarks(self, detector: AMA) -> list[str]:
        """What a reader of results has to know: whether there were negatives."""
        epochs = detector.training_record.get("epochs", detector.current_epoch)
        none = self.kind != "none" and self.weight > 0 and epochs <= self.warm_up_epochs
        said = f"training ended within model.negatives.warm_up_epochs={self.warm_up_epochs}: no negatives"
        return [said] if none else []
