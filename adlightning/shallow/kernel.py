"""Distances, radial kernels and what kernel machines leave behind to score with, in float64 on the host."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics.pairwise import euclidean_distances

Floats = NDArray[np.float64]
Known = NDArray[np.int64]

MAX_RESIDENT = 8192  # samples whose n x n distances are kept: 512 MiB
BLOCK = 2**25  # entries of a block of distances: 256 MiB


def squared_distances(a: Floats, b: Floats) -> Floats:
    """||a_i - b_j||^2, (N, M), of samples (N, D) and (M, D)."""
    distances: Floats = euclidean_distances(a, b, squared=True)
    return distances


def row_blocks(n: int, columns: int) -> Iterator[slice]:
    """Slices of n rows such that a block with so many columns stays within memory."""
    size = max(1, BLOCK // max(1, columns))
    return (slice(start, start + size) for start in range(0, n, size))


class TrainingSamples:
    """Features (N, D) of the training samples and what is known of them, (N,) in {+1, 0, -1}.

    Their distances are the same for every candidate of a grid, and cost far more than a kernel of them.
    """

    def __init__(self, features: Floats, known: Known) -> None:
        self.features, self.known = features, known
        self._distances: Floats | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.features)

    def squared_distances(self) -> Floats | None:
        """All of them, (N, N), computed once; None for more than `MAX_RESIDENT` samples."""
        with self._lock:
            if self._distances is None and len(self) <= MAX_RESIDENT:
                self._distances = squared_distances(self.features, self.features)
            return self._distances


def scale_gamma(features: Floats) -> float:
    """1 / (D Var[x]) of features (N, D), scikit-learn's gamma `scale`; 1 where nothing varies."""
    variance = float(features.var())
    return 1 / (features.shape[1] * variance) if variance > 0 else 1.0


NARROW = 10.0
"""How many times `scale` the gamma `narrow` is: docs/defaults.md has the tables on which it was chosen."""

Gamma = float | Literal["scale", "narrow"]


def gamma_of(gamma: Gamma, features: Floats) -> float:
    """A kernel's gamma for features (N, D): the one given, `scale`, or `narrow`, ten times that."""
    if isinstance(gamma, str):
        return scale_gamma(features) * (NARROW if gamma == "narrow" else 1.0)
    return gamma


def log_kernel_sum(x: Floats, vectors: Floats, log_coefficients: Floats, scale: float) -> Floats:
    """log sum_i a_i exp(||x - v_i||^2 / scale), (N,), scale < 0, of samples (N, D); exact where the sum underflows."""
    parts = [np.empty(0)]
    for rows in row_blocks(len(x), len(vectors)):
        parts.append(logsumexp(log_coefficients + squared_distances(x[rows], vectors) / scale, axis=1))
    return np.concatenate(parts)


SMALLEST = 1e-300
"""Share of the largest sum of kernels from which on sums of either sign are told apart by their logarithms."""


@dataclass
class KernelExpansion:
    """f(x) = sum_i c_i k(v_i, x), and rho, below which a sample counts as anomalous.

    Args:
        vectors: v, (S, D).
        coefficients: c, (S,).
        rho: the machine's own threshold on f.
        gamma: of k(v, x) = exp(-gamma ||v - x||^2), or of the polynomial; None for k(v, x) = <v, x>.
        degree: of k(v, x) = (gamma <v, x> + coef0)^degree; None for a kernel that is no polynomial.
        coef0: of the polynomial.
    """

    vectors: Floats
    coefficients: Floats
    rho: float
    gamma: float | None
    degree: int | None = None
    coef0: float = 0.0

    @property
    def is_radial(self) -> bool:
        """Whether the kernel depends on distances."""
        return self.gamma is not None and self.degree is None

    def __call__(self, x: Floats) -> Floats:
        """f (N,) of samples (N, D); high for normal ones."""
        if self.gamma is None:
            return np.asarray(x @ (self.coefficients @ self.vectors))
        values = np.empty(len(x))
        for rows in row_blocks(len(x), len(self.vectors)):
            if self.degree is None:
                kernel = np.exp(-self.gamma * squared_distances(x[rows], self.vectors))
            else:
                kernel = (self.gamma * (x[rows] @ self.vectors.T) + self.coef0) ** self.degree
            values[rows] = kernel @ self.coefficients
        return values

    def anomaly_scores(self, x: Floats) -> Floats:
        """-f, (N,); above -rho outside the machine's own boundary.

        Rho stays out: beside it what a narrow kernel makes of distant samples vanishes, in float32 first.
        """
        return -self(x)

    def log_anomaly_scores(self, x: Floats) -> Floats:
        """log rho - log f, (N,), of a radial kernel with positive coefficients; 0 at the same boundary.

        Where a kernel is narrow, f of most samples is far below the last digit of rho: a difference has them all
        at rho, normal and anomalous, and float32 does so long before float64.
        """
        assert self.gamma is not None
        return math.log(self.rho) - log_kernel_sum(x, self.vectors, np.log(self.coefficients), -1 / self.gamma)

    def signed_log_anomaly_scores(self, x: Floats) -> Floats:
        """log rho - log f, (N,), continued through f = 0 to negative f by the inverse hyperbolic sine; 0 at f = rho.

        Coefficients may have either sign. It ranks as rho - f does. Values of f from 1e-300 on are as those
        of the logarithm; f = 0 is near 690.
        """
        unit = SMALLEST * (float(np.abs(self.coefficients).sum()) or 1.0)
        return np.asarray(np.arcsinh(self.rho / unit) - np.arcsinh(self(x) / unit))


def log_density(distances: Floats, bandwidth: float, dimension: int) -> Floats:
    """log (1/M sum_j N(x | x_j, h^2 I)), (B,), from squared distances (B, M) to the M samples; exact far from all."""
    nearest, scale = distances.min(axis=1), 2 * bandwidth**2
    sums = np.exp((nearest[:, None] - distances) / scale).sum(axis=1)
    constant = math.log(distances.shape[1]) + dimension / 2 * math.log(math.pi * scale)
    return np.asarray(np.log(sums) - nearest / scale - constant)


@dataclass
class GaussianKDE:
    """A density: samples (N, D) and the bandwidth h of the Gaussian at each."""

    samples: Floats
    bandwidth: float

    def log_density(self, x: Floats) -> Floats:
        """Log density (B,) of samples (B, D)."""
        blocks = row_blocks(len(x), len(self.samples))
        parts = [log_density(squared_distances(x[b], self.samples), self.bandwidth, x.shape[1]) for b in blocks]
        return np.concatenate([np.empty(0), *parts])

    def anomaly_scores(self, x: Floats) -> Floats:
        """-log density (B,) of samples (B, D)."""
        return -self.log_density(x)

    def left_out_log_density(self) -> Floats:
        """Log density (N,) of each of its own samples under all others; -inf is not possible for two or more."""
        parts, n = [], len(self.samples)
        for rows in row_blocks(n, n):
            distances = squared_distances(self.samples[rows], self.samples)
            np.fill_diagonal(distances[:, rows], np.inf)  # itself: no part of the sum, but counted in its mean
            parts.append(log_density(distances, self.bandwidth, self.samples.shape[1]))
        return np.concatenate(parts) + math.log(n / (n - 1))


@dataclass
class KernelRatio:
    """A fitted ratio.

    Args:
        centers: c, (K, D), those with a positive coefficient.
        log_coefficients: log a, (K,).
        bandwidth: h.
        regularization: lambda of uLSIF; None for KLIEP.
    """

    centers: Floats
    log_coefficients: Floats
    bandwidth: float
    regularization: float | None

    def log_ratio(self, x: Floats) -> Floats:
        """log r (B,) of samples (B, D); exact far from all centers, where r underflows."""
        return log_kernel_sum(x, self.centers, self.log_coefficients, -2 * self.bandwidth**2)

    def anomaly_scores(self, x: Floats) -> Floats:
        """-log r (B,) of samples (B, D)."""
        return -self.log_ratio(x)
