"""Fits of a density ratio by kernels: KLIEP (Sugiyama et al., NeurIPS 2007) and uLSIF (Kanamori et al., JMLR 2009).

r(x) = p_normal(x) / p_unlabelled(x) is modelled as sum_l a_l exp(-||x - c_l||^2 / (2 h^2)) with a_l >= 0.
KLIEP's convex problem is solved to a known gap. docs/methods/kernel_ratio.md says why no library is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.model_selection import KFold

from adlightning.shallow.kernel import Floats

GAP = 1e-8  # what KLIEP's mean log-likelihood may lack of its maximum
CENTERING = 0.1  # of the interior point method: each step aims at a tenth of the complementarity
BOUNDARY = 0.99  # part of the way to the boundary that a step may go
MAX_STEPS = 200  # about 10 to 30 are needed


class Distances(NamedTuple):
    """Squared distances to the centers: of normal samples (N, L) and of unlabelled ones (M, L), in random order."""

    normal: Floats
    unlabelled: Floats

    def log_kernels(self, bandwidth: float) -> tuple[Floats, Floats]:
        """-||x - c||^2 / (2 h^2) of both."""
        return self.normal / (-2 * bandwidth**2), self.unlabelled / (-2 * bandwidth**2)

    def kernels(self, bandwidth: float) -> tuple[Floats, Floats]:
        """exp(-||x - c||^2 / (2 h^2)) of both."""
        normal, unlabelled = self.log_kernels(bandwidth)
        return np.exp(normal), np.exp(unlabelled)

    def median(self) -> float:
        """Median distance of a normal sample to a center that it does not coincide with; 1 where there is none."""
        apart = self.normal[self.normal > 0]
        return float(np.sqrt(np.median(apart))) if len(apart) else 1.0


# ---- KLIEP -----------------------------------------------------------------------------------------------------------


def mixture_weights(p: Floats) -> Floats:
    """The w (L,) on the simplex with the largest f(w) = mean_i log (p w)_i, for p (N, L) not negative.

    A primal-dual interior point method (Boyd and Vandenberghe, Convex Optimization, 11.7) on the equivalent problem
    min sum w - f(w) over w >= 0, whose solution adds up to 1. By concavity f lacks at most max_l df/dw_l - 1 of its
    maximum: it ends once weights on the simplex, zero where the dual variable is larger, lack at most `GAP`.

    Args:
        p: finite, with a positive entry in each row; that of the largest entry in each row should be of order 1.

    Raises:
        RuntimeError: it did not get there in `MAX_STEPS` steps.
    """
    n, size = p.shape
    w, dual = np.full(size, 1 / size), np.ones(size)
    for _ in range(MAX_STEPS):
        kept: Floats = np.where(w > dual, w, 0) if (w > dual).any() else w
        kept = kept / kept.sum()
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a row may lose its weight
            gap = float((p / (p @ kept)[:, None]).mean(axis=0).max()) - 1
        if gap <= GAP:
            return kept
        scaled = p / (p @ w)[:, None]
        gradient, hessian = 1 - scaled.mean(axis=0), scaled.T @ scaled / n
        target = CENTERING * float(w @ dual) / size
        step = np.linalg.solve(hessian + np.diag(dual / w), target / w - gradient)
        dual_step = (target - dual * step) / w - dual
        both, steps = np.concatenate([w, dual]), np.concatenate([step, dual_step])
        shrinks = steps < 0
        length = min(1.0, BOUNDARY * float((-both[shrinks] / steps[shrinks]).min(initial=np.inf)))
        w, dual = w + length * step, dual + length * dual_step
    raise RuntimeError(f"the solver of KLIEP did not converge on {n} samples and {size} centers: gap {gap:.1e}")


def kliep(normal: Floats, unlabelled: Floats) -> Floats:
    """log a (L,), -inf for zero: max mean_normal log r subject to mean_unlabelled r = 1 and a >= 0.

    With b_l the mean kernel of unlabelled samples, w_l = a_l b_l lies on the simplex, and r_i = sum_l w_l K_il / b_l.

    Args:
        normal: log kernels (N, L) of normal samples.
        unlabelled: log kernels (M, L) of unlabelled samples.
    """
    log_mean = logsumexp(unlabelled, axis=0) - np.log(len(unlabelled))
    log_p = normal - log_mean
    # a factor on a row is a constant in the objective: no row underflows
    w = mixture_weights(np.exp(log_p - log_p.max(axis=1, keepdims=True)))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(w) - log_mean)


def held_out_score(distances: Distances, bandwidth: float, folds: int, seed: int, both: bool = False) -> float:
    """KLIEP's likelihood cross-validation: mean over shuffled folds of the mean log r of normal samples left out.

    Centers and unlabelled samples are the same in every fold, and nothing bounds it as h goes to 0. With `both`, folds
    leave out unlabelled samples too, and less the log of their mean r it is an estimate of KL(p_normal || p_unlabelled)
    from below.
    """
    normal, unlabelled = distances.log_kernels(bandwidth)
    split, scores = KFold(folds, shuffle=True, random_state=seed), []
    everything = np.arange(len(unlabelled))
    others = split.split(unlabelled) if both else [(everything, everything)] * folds
    for (train, held_out), (kept, left) in zip(split.split(normal), others, strict=True):
        log_a = kliep(normal[train], unlabelled[kept])
        scores.append(float(logsumexp(log_a + normal[held_out], axis=1).mean()))
        if both:
            scores[-1] -= float(logsumexp(log_a + unlabelled[left]) - np.log(len(left)))
    return float(np.mean(scores))


# ---- uLSIF -----------------------------------------------------------------------------------------------------------


def ulsif(normal: Floats, unlabelled: Floats, regularization: float) -> Floats:
    """a (L,): (H + lambda I)^-1 h with negative coefficients set to 0, from kernels (N, L), (M, L).

    H is the mean of k k' over the unlabelled samples, h that of k over the normal ones.
    """
    second = unlabelled.T @ unlabelled / len(unlabelled)
    a = np.linalg.solve(second + regularization * np.eye(len(second)), normal.mean(axis=0))
    return np.maximum(a, 0)


def left_out_losses(normal: Floats, unlabelled: Floats, regularizations: Sequence[float]) -> Floats:
    """uLSIF's leave-one-out score, (K,) for K values of lambda, in closed form; low is good.

    Mean over i = 1, ..., min(N, M) of r(u_i)^2 / 2 - r(x_i), where r is fitted without the i-th unlabelled sample u_i
    and the i-th normal one x_i; kernels (N, L), (M, L), of at least two samples each, are to come in random order.
    """
    n, m = len(normal), len(unlabelled)
    second, first = unlabelled.T @ unlabelled / m, normal.mean(axis=0)
    x, u = normal[: min(n, m)].T, unlabelled[: min(n, m)].T
    losses = []
    for regularization in regularizations:
        # H without u_i, plus lambda I, is m / (m - 1) times B - u_i u_i' / m: one matrix for all i, up to rank one
        b = second + regularization * (m - 1) / m * np.eye(len(second))
        solved_u = np.linalg.solve(b, u)
        solved_h = np.linalg.solve(b, n * first[:, None] - x)
        share = (u * solved_h).sum(axis=0) / (m - (u * solved_u).sum(axis=0))
        a = np.maximum((m - 1) / (m * (n - 1)) * (solved_h + solved_u * share), 0)
        losses.append(float(((u * a).sum(axis=0) ** 2 / 2 - (x * a).sum(axis=0)).mean()))
    return np.array(losses)
