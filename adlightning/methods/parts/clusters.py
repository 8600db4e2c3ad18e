"""Clusters of representations: k-means of a training set, and the nearest of its centres."""

from __future__ import annotations

import warnings

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from adlightning.core.detector import AnomalyDetector
from adlightning.labels import KNOWN_ANOMALY


def kmeans_centers(x: Tensor, n_clusters: int, seed: int, n_init: int) -> Tensor:
    """Centres (n_clusters, d) of representations (N, d), by scikit-learn's k-means with k-means++, in float32.

    No cluster is empty: scikit-learn moves the centre of one to the sample that lies farthest from its own. Where there
    are fewer distinct samples than clusters, some centres are the same.

    Args:
        x: representations, N at least 1, finite.
        n_clusters: number of clusters.
        seed: of the starts.
        n_init: starts, of which the best result is taken.
    """
    samples = x.detach().cpu().double().numpy()
    kmeans = KMeans(min(n_clusters, len(samples)), n_init=n_init, random_state=seed % 2**32)
    # one thread: several add up in an order that is not the same each time
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct samples than clusters
        centers = torch.from_numpy(kmeans.fit(samples).cluster_centers_).float()
    return torch.cat([centers, centers[:1].expand(n_clusters - len(centers), -1)])


def nearest_center(z: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (B,) of representations (B, d) from the nearest of centres (K, d), and which it is, (B,)."""
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        which = (centers.square().sum(dim=1) - 2 * (z.detach() @ centers.T)).argmin(dim=1)
        return (z - centers[which]).square().sum(dim=1), which


def require_samples_for(detector: AnomalyDetector, n_clusters: int) -> None:
    """Raise ValueError when there are more clusters than training samples."""
    _, known = detector.data.training_rows()
    n = int((known != KNOWN_ANOMALY).sum())
    if n_clusters > n:
        raise ValueError(f"n_clusters must be at most {n}, the number of training samples, got {n_clusters}")
