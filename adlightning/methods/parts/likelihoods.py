"""What is asked of preprocessing where samples have a likelihood; the likelihoods are beside the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlightning.core.prepared import name_of
from adlightning.networks.dgm import Likelihood

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector


def require_likelihood(detector: AnomalyDetector, likelihood: Likelihood) -> None:
    """Raise ValueError for the Bernoulli likelihood of preprocessed input outside [0, 1]; for `build`."""
    if likelihood == "bernoulli" and detector.preprocess.output != "sigmoid":
        raise ValueError(
            "likelihood must be gaussian, or preprocessing one to [0, 1] (UnitRange, StandardizeMinMax), got "
            f"{likelihood} with preprocessing {name_of(detector.preprocess)}"
        )
