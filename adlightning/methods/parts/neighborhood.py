"""Where DROCC's negatives may lie: N_i(r), from the sample's own distance alone or from all samples' (equation 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adlightning.core.rules import at_least, check_arguments

NeighborhoodKind = Literal["relaxed", "strict"]

NEIGHBOR_QUANTILE = 0.9
"""Which of the distances to nearest neighbours is the radius that the data say (docs/defaults.md)."""

MAX_ROWS = 2000
"""Samples whose neighbours are looked for, among all."""

_BLOCK = 2**25  # entries of a block of pairwise distances: 128 MiB in float32
_SAME = 1e-3  # a distance that rounding makes of none, between standardised samples of any size
_TOLERANCE = 1e-3  # of the radius: a point put onto a border is on either side of it by rounding


@dataclass(frozen=True)
class Neighborhood:
    """N_i(r), the set around a normal sample in which its negative is searched.

    Args:
        kind: `relaxed`, r to gamma r from the sample itself, as the paper redefines it for speed and the released code
            has it; or `strict`, equation 1: within gamma r of the sample, and at least r from all normal training
            samples. Those are kept on the device, preprocessed. A negative that finds no such place counts for nothing.
        rounds: of `strict`: how often each projection pushes a point off the sample nearest to it and back into the
            shell of its own. The paper names no algorithm.
    """

    kind: NeighborhoodKind = "relaxed"
    rounds: int = 10

    def __post_init__(self) -> None:
        """Check the values."""
        values = {f"neighborhood.{name}": value for name, value in vars(self).items()}
        check_arguments({"neighborhood.rounds": at_least(1)}, {"neighborhood.kind": NeighborhoodKind}, values)


def sample_norm(h: Tensor) -> Tensor:
    """L2 norm of each sample of h (B, ...), as (B, 1, ..., 1)."""
    norm: Tensor = torch.linalg.vector_norm(h.flatten(1), dim=1)
    return norm.view(-1, *[1] * (h.ndim - 1))


def project_to_shell(h: Tensor, radius: float, gamma: float) -> Tensor:
    """The points nearest to offsets h (B, ...) with radius <= ||h|| <= gamma radius; an offset of zero stays zero.

    Source: DROCC, Section 3, "Gradient-ascent to generate negatives".
    """
    norm = sample_norm(h)
    return h * (norm.clamp(radius, gamma * radius) / torch.where(norm > 0, norm, 1.0))


def nearest_samples(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Of each point (B, D) the nearest of samples (N, D), as (B, D), and its distance (B, 1); in blocks of samples."""
    rows = torch.arange(len(points), device=points.device)
    least = torch.full((len(points),), torch.inf, device=points.device)
    which = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    size = max(1, _BLOCK // max(1, len(points)))
    for start in range(0, len(samples), size):
        distances = torch.cdist(points.float(), samples[start : start + size].float())
        found = distances.argmin(dim=1)
        closer = distances[rows, found] < least
        least = torch.where(closer, distances[rows, found], least)
        which = torch.where(closer, found + start, which)
    nearest = samples[which]
    return nearest, torch.linalg.vector_norm(points - nearest, dim=1, keepdim=True)


def neighbor_radius(samples: Tensor, quantile: float = NEIGHBOR_QUANTILE) -> float | None:
    """A quantile of the distances from samples (N, D) to their nearest others; None where no two of them differ.

    Of `MAX_ROWS` samples, evenly spread over all, and without distances of 0: copies say nothing of a radius.
    """
    rows = torch.linspace(0, len(samples) - 1, min(len(samples), MAX_ROWS), device=samples.device).long()
    size = max(1, _BLOCK // max(1, len(samples)))
    least = [
        torch.where(distances > _SAME, distances, torch.inf).min(dim=1).values
        for part in samples[rows].float().split(size)
        for distances in (torch.cdist(part, samples.float()),)
    ]
    found = torch.cat(least)
    found = found[found.isfinite()]
    return float(found.quantile(quantile)) if len(found) else None


def off_samples(points: Tensor, samples: Tensor, radius: float) -> Tensor:
    """Points (B, D), each of them that is closer than the radius to its nearest sample (N, D) moved straight off it.

    It is then at the radius from that sample, and may be closer to another. A point on a sample has no direction and
    stays.
    """
    nearest, distance = nearest_samples(points, samples)
    factor = torch.where((distance > 0) & (distance < radius), radius / torch.where(distance > 0, distance, 1.0), 1.0)
    return torch.where(factor > 1, nearest + factor * (points - nearest), points)


def is_off_samples(points: Tensor, samples: Tensor, radius: float) -> Tensor:
    """Whether each point (B, D) is at least the radius from all samples (N, D), up to a thousandth of it: (B,)."""
    return nearest_samples(points, samples)[1].squeeze(1) >= (1 - _TOLERANCE) * radius
