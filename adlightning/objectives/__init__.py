"""The methods of the papers, a file each: the loss as pure functions on top, the LightningModule below."""

from adlightning.objectives.autoencoder import Autoencoder
from adlightning.objectives.deep_sad import DeepSAD
from adlightning.objectives.deep_svdd import DeepSVDD, SoftBoundaryDeepSVDD

__all__ = ["Autoencoder", "DeepSAD", "DeepSVDD", "SoftBoundaryDeepSVDD"]
