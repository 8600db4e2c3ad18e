"""The methods of the papers, a file each: the loss as pure functions on top, the LightningModule below."""

from adlightning.methods.adgan import ADGAN
from adlightning.methods.anogan import AnoGAN
from adlightning.methods.autoencoder import Autoencoder
from adlightning.methods.deep_sad import DeepSAD
from adlightning.methods.deep_svdd import DeepSVDD, SoftBoundaryDeepSVDD

__all__ = [
    "ADGAN",
    "AnoGAN",
    "Autoencoder",
    "DeepSAD",
    "DeepSVDD",
    "SoftBoundaryDeepSVDD",
]
