"""Estimators from stored values, checked for what training leaves and for what libraries rely on without looking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._iforest import _average_path_length
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.tree import ExtraTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from adlightning.shallow.kernel import Floats, GaussianKDE, KernelExpansion, KernelRatio
from adlightning.shallow.stored import Stored

LARGEST = 1e150
"""Of any value, whose square is finite, and its inverse the least scale."""

_MOST = 2**31 - 1  # of a count
_SUM = 1e-6  # by which weights may miss 1
_LEAF = -1


@dataclass(frozen=True)
class Recipe:
    """The types that an estimator's file may hold, and what builds it from its values and number of features."""

    kinds: frozenset[str]
    build: Callable[[dict[str, Any], int], Any]


def array(values: dict[str, Any], name: str, *shape: int) -> Floats:
    """A stored array of finite numbers of this shape, -1 where any size but 0 will do. Raises ValueError."""
    found = values.get(name)
    if not isinstance(found, np.ndarray) or found.dtype != np.float64:
        raise ValueError(f"its {name} must be an array of float64")
    fits = found.ndim == len(shape) and all(n == m or (m == -1 and n) for n, m in zip(found.shape, shape, strict=True))
    if not fits:
        raise ValueError(f"its {name} must have the shape {shape}, it has {found.shape}")
    if not (np.abs(found) <= LARGEST).all():  # neither is NaN
        raise ValueError(f"its {name} must hold finite numbers of at most {LARGEST:g}")
    return found


def number(values: dict[str, Any], name: str, least: float = -LARGEST) -> float:
    """A stored number in its range. Raises ValueError."""
    found = values.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not least <= found <= LARGEST:
        raise ValueError(f"its {name} must be a number from {least:g} to {LARGEST:g}, got {str(found)[:50]}")
    return float(found)


def count(values: dict[str, Any], name: str, most: int = _MOST) -> int:
    """A stored whole number from 1. Raises ValueError."""
    found = values.get(name)
    if type(found) is not int or not 1 <= found <= most:
        raise ValueError(f"its {name} must be a whole number from 1 to {most}, got {str(found)[:50]}")
    return found


def _positive(values: dict[str, Any], name: str) -> float:
    return number(values, name, 1 / LARGEST)


def _or_none(values: dict[str, Any], name: str) -> float | None:
    return None if values.get(name, 0) is None else _positive(values, name)


# ---- ours ------------------------------------------------------------------------------------------------------------


def _expansion(values: dict[str, Any], n_features: int) -> KernelExpansion:
    vectors = array(values, "vectors", -1, n_features)
    gamma, degree = _or_none(values, "gamma"), None
    if values.get("degree") is not None:
        degree = count(values, "degree")
        if gamma is None:
            raise ValueError("its gamma must be a number, as its degree is, got None")
    coefficients, rho = array(values, "coefficients", len(vectors)), number(values, "rho")
    return KernelExpansion(vectors, coefficients, rho, gamma, degree, number(values, "coef0", 0))


def _density(values: dict[str, Any], n_features: int) -> GaussianKDE:
    return GaussianKDE(array(values, "samples", -1, n_features), _positive(values, "bandwidth"))


def _ratio(values: dict[str, Any], n_features: int) -> KernelRatio:
    centers = array(values, "centers", -1, n_features)
    log_coefficients = array(values, "log_coefficients", len(centers))
    return KernelRatio(centers, log_coefficients, _positive(values, "bandwidth"), _or_none(values, "regularization"))


# ---- scikit-learn's --------------------------------------------------------------------------------------------------


def _mixture(values: dict[str, Any], n_features: int) -> GaussianMixture:
    weights = array(values, "weights_", -1)
    k = len(weights)
    if (weights <= 0).any() or abs(weights.sum() - 1) > _SUM:
        raise ValueError("its weights_ must be positive and add up to 1")
    mixture = GaussianMixture(k)
    mixture.weights_, mixture.means_ = weights, array(values, "means_", k, n_features)
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        setattr(mixture, name, array(values, name, k, n_features, n_features))
        if (np.diagonal(getattr(mixture, name), axis1=1, axis2=2) <= 0).any():
            raise ValueError(f"its {name} must be positive along the diagonal")
    mixture.n_features_in_, mixture.converged_ = n_features, bool(values.get("converged_"))
    return mixture


def _factor(values: dict[str, Any], n_features: int) -> LocalOutlierFactor:
    x = array(values, "_fit_X", -1, n_features)
    n, k = len(x), count(values, "n_neighbors_", len(x) - 1)
    factor = LocalOutlierFactor(n_neighbors=k, algorithm="brute", novelty=True)
    NearestNeighbors._fit(factor, x)
    factor.n_samples_fit_, factor.n_neighbors_, factor.offset_ = n, k, number(values, "offset_")
    factor._distances_fit_X_ = array(values, "_distances_fit_X_", n, k)
    factor._lrd = array(values, "_lrd", n)
    factor.negative_outlier_factor_ = array(values, "negative_outlier_factor_", n)
    if (factor._distances_fit_X_ < 0).any() or (factor._lrd <= 0).any():
        raise ValueError("its distances must not be negative, and its densities positive")
    return factor


def _neighbors(values: dict[str, Any], n_features: int) -> NearestNeighbors:
    x = array(values, "_fit_X", -1, n_features)
    return NearestNeighbors(n_neighbors=count(values, "n_neighbors", len(x)), algorithm="brute").fit(x)


def _forest(values: dict[str, Any], n_features: int) -> IsolationForest:
    members = values.get("estimators_")
    if not isinstance(members, list) or not members:
        raise ValueError("its estimators_ must be a list of trees")
    psi = count(values, "max_samples_")
    forest = IsolationForest(n_estimators=len(members), max_samples=psi)
    forest.estimators_ = [_member(member, n_features) for member in members]
    forest.estimators_features_ = [np.arange(n_features)] * len(members)
    forest.n_features_in_ = forest._max_features = n_features
    forest.max_samples_ = forest._max_samples = psi
    forest.offset_ = number(values, "offset_")
    trees = [member.tree_ for member in forest.estimators_]
    forest._average_path_length_per_tree = tuple(_average_path_length(tree.n_node_samples) for tree in trees)
    forest._decision_path_lengths = tuple(tree.compute_node_depths() for tree in trees)
    return forest


def _member(stored: Any, n_features: int) -> ExtraTreeRegressor:
    tree = stored.values.get("tree_") if isinstance(stored, Stored) else None
    if not isinstance(tree, Stored) or not tree.kind.endswith(".Tree"):
        raise ValueError("its estimators_ must be trees")
    nodes = tree.values.get("nodes")
    if not isinstance(nodes, np.ndarray) or nodes.dtype != NODE_DTYPE or nodes.ndim != 1 or not len(nodes):
        raise ValueError("it holds a tree that is none: it has no nodes")
    depth = _require_tree(nodes, n_features)
    member = ExtraTreeRegressor(max_features=1, splitter="random")
    member.n_features_in_, member.n_outputs_, member.max_features_ = n_features, 1, 1
    member.tree_ = Tree(n_features, np.array([1], dtype=np.intp), 1)
    values = array(tree.values, "values", len(nodes), 1, 1)
    member.tree_.__setstate__({"max_depth": depth, "node_count": len(nodes), "nodes": nodes, "values": values})
    return member


def _require_tree(nodes: NDArray[Any], n_features: int) -> int:
    """The depth of a tree; ValueError for indices that lead nowhere: scikit-learn follows them without looking."""
    index = np.arange(len(nodes))
    left, right = nodes["left_child"], nodes["right_child"]
    inner = left != _LEAF
    children = np.concatenate([left[inner], right[inner]])
    below = (np.minimum(left, right)[inner] > index[inner]).all()
    once = np.array_equal(np.sort(children), index[1:]) and (right[~inner] == _LEAF).all()
    known = ((nodes["feature"][inner] >= 0) & (nodes["feature"][inner] < n_features)).all()
    if not (below and once and known):
        raise ValueError("it holds a tree that is none: its indices lead nowhere")
    floats = np.stack([nodes[name] for name in ("threshold", "impurity", "weighted_n_node_samples")])
    samples = nodes["n_node_samples"]
    if not (np.abs(floats) <= LARGEST).all() or (samples < 1).any() or (samples > _MOST).any():
        raise ValueError("it holds a tree whose thresholds or numbers of samples are none")
    depths = np.zeros(len(nodes), dtype=np.int64)
    for node in index[inner]:  # children come after their parents
        depths[left[node]] = depths[right[node]] = depths[node] + 1
    return int(depths.max())


def _recipe(build: Callable[[dict[str, Any], int], Any], *kinds: str) -> Recipe:
    return Recipe(frozenset(kinds), build)


RECIPES: dict[type, Recipe] = {
    KernelExpansion: _recipe(_expansion, "adlightning.shallow.kernel.KernelExpansion"),
    GaussianKDE: _recipe(_density, "adlightning.shallow.kernel.GaussianKDE"),
    KernelRatio: _recipe(_ratio, "adlightning.shallow.kernel.KernelRatio"),
    GaussianMixture: _recipe(_mixture, "sklearn.mixture._gaussian_mixture.GaussianMixture"),
    LocalOutlierFactor: _recipe(_factor, "sklearn.neighbors._lof.LocalOutlierFactor"),
    NearestNeighbors: _recipe(_neighbors, "sklearn.neighbors._unsupervised.NearestNeighbors"),
    IsolationForest: _recipe(
        _forest,
        "sklearn.ensemble._iforest.IsolationForest",
        "sklearn.tree._classes.ExtraTreeRegressor",
        "sklearn.tree._tree.Tree",
    ),
}
"""How each estimator that a detector leaves is built from what was stored of it; its own type comes first.

A detector of one's own adds the entry of its `estimator_type` beside itself (docs/adding_a_method.md).
"""
