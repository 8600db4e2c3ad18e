"""The losses of methods that can be packed, cell by cell: their own formulae, over stacked networks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from adlightning.benchmark.stacked import NotStackable, Samples, Stack
from adlightning.core.detector import AnomalyDetector
from adlightning.methods.autoencoder import Autoencoder, reconstruction_error
from adlightning.methods.binary_classifier import BinaryClassifier, classification_loss
from adlightning.methods.deep_sad import DeepSAD, deep_sad_loss
from adlightning.methods.deep_svdd import DeepSVDD, one_class_loss
from adlightning.methods.parts.hypersphere import Hypersphere, squared_distance

D = TypeVar("D", bound=AnomalyDetector)


class PackedLosses(ABC, Generic[D]):
    """The training losses of detectors of one class, of which each has samples of its own.

    Args:
        detectors: built, on one device; their weights become views of the stack's.
        stack: takes their networks.

    Raises:
        NotStackable: networks that cannot be stacked, or weights outside them.
    """

    def __init__(self, detectors: Sequence[D], stack: Stack) -> None:
        self.detectors, self.samples = list(detectors), stack.samples
        self.stack_networks(stack)
        stacked = {id(owner) for owners in stack.owners.values() for owner in owners}
        for name, weight in detectors[0].named_parameters():
            if weight.requires_grad and id(weight) not in stacked:
                raise NotStackable(f"{name} lies outside the networks that can be packed")

    @abstractmethod
    def stack_networks(self, stack: Stack) -> None:
        """Make all networks with weights into stacked ones."""

    @abstractmethod
    def losses(self, x: Tensor, known: Tensor, epoch: int) -> Tensor:
        """Losses (K,) of a step in an epoch: preprocessed samples (K B, ...), known (K, B)."""


class _OfAutoencoders(PackedLosses[Autoencoder]):
    def stack_networks(self, stack: Stack) -> None:
        self.encoder = stack.network([detector.encoder for detector in self.detectors])
        self.decoder = stack.network([detector.decoder for detector in self.detectors])

    def losses(self, x: Tensor, known: Tensor, epoch: int) -> Tensor:
        return mean_of_each(self.samples, reconstruction_error(x, self.decoder(self.encoder(x))))


class _OfClassifiers(PackedLosses[BinaryClassifier]):
    def stack_networks(self, stack: Stack) -> None:
        self.encoder = stack.network([detector.encoder for detector in self.detectors])
        self.head: nn.Module = stack.network([detector.head for detector in self.detectors])

    def losses(self, x: Tensor, known: Tensor, epoch: int) -> Tensor:
        return loss_of_each(self.samples, classification_loss, self.head(self.encoder(x)).squeeze(1), known)


class _WithSphere(PackedLosses[D]):
    def stack_networks(self, stack: Stack) -> None:
        spheres = [_sphere(detector) for detector in self.detectors]
        self.sphere = copy.copy(spheres[0])
        self.sphere._modules = {"encoder": stack.network([sphere.encoder for sphere in spheres]), "decoder": None}
        if decoders := [sphere.decoder for sphere in spheres if sphere.decoder is not None]:
            self.sphere._modules["decoder"] = stack.network(decoders)

    def losses(self, x: Tensor, known: Tensor, epoch: int) -> Tensor:
        if self.sphere.pretrains(epoch):
            return mean_of_each(self.samples, self.sphere.reconstruction_errors(x))
        centers = torch.stack([_sphere(detector).center for detector in self.detectors])
        own = centers.repeat_interleave(self.samples.size, dim=0)
        return self.objectives(squared_distance(self.sphere.encoder(x), own), known)

    @abstractmethod
    def objectives(self, distances: Tensor, known: Tensor) -> Tensor:
        """Losses (K,) of the second phase, by squared distances (K B,)."""


class _OfDeepSVDD(_WithSphere[DeepSVDD]):
    def objectives(self, distances: Tensor, known: Tensor) -> Tensor:
        return loss_of_each(self.samples, one_class_loss, distances)


class _OfDeepSAD(_WithSphere[DeepSAD]):
    def objectives(self, distances: Tensor, known: Tensor) -> Tensor:
        first = self.detectors[0]
        etas, epsilons = (distances.new_tensor([getattr(d, name) for d in self.detectors]) for name in ("eta", "eps"))

        def objective(d: Tensor, known: Tensor, eta: Tensor, eps: Tensor) -> Tensor:
            return deep_sad_loss(d, known, eta, eps, first.anomaly_loss)  # type: ignore[arg-type]  # numbers of each

        return loss_of_each(self.samples, objective, distances, known, scalars=(etas, epsilons))


def _sphere(detector: AnomalyDetector) -> Hypersphere:
    sphere = detector.sphere
    assert isinstance(sphere, Hypersphere)
    return sphere


def mean_of_each(samples: Samples, values: Tensor) -> Tensor:
    """Means (K,) over each network's own samples, of values (K B,)."""
    own = values.view(samples.n_networks, samples.size)
    return own.mean(dim=1) if samples.weights is None else (own * samples.weights).sum(dim=1)


def loss_of_each(
    samples: Samples, loss: Callable[..., Tensor], values: Tensor, *columns: Tensor, scalars: Sequence[Tensor] = ()
) -> Tensor:
    """Losses (K,) by a function that gives the mean loss of a batch.

    Args:
        samples: how the samples lie.
        loss: of values (B,), each of the columns (B,), and scalars.
        values: (K B,).
        columns: (K, B) each.
        scalars: (K,) each, a number a network.
    """
    own = (values.view(samples.n_networks, samples.size), *columns)
    if samples.weights is None:
        return vmap(loss)(*own, *scalars)

    def of_one(*given: Tensor) -> Tensor:
        return loss(*(value.unsqueeze(0) for value in given[: len(own)]), *given[len(own) :])

    in_dims = (*[0] * len(own), *[None] * len(scalars))
    of_each = vmap(vmap(of_one, in_dims=in_dims))(*own, *scalars)
    return (of_each * samples.weights).sum(dim=1)


LOSSES: dict[type[AnomalyDetector], type[PackedLosses[AnomalyDetector]]] = {
    Autoencoder: _OfAutoencoders,  # type: ignore[dict-item]  # each is given detectors of its own class
    BinaryClassifier: _OfClassifiers,  # type: ignore[dict-item]
    DeepSAD: _OfDeepSAD,  # type: ignore[dict-item]
    DeepSVDD: _OfDeepSVDD,  # type: ignore[dict-item]
}
"""By the class itself: a subclass may train otherwise."""
