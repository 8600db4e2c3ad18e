"""The methods of the papers, a file each: the loss as pure functions on top, the LightningModule below."""

from adlightning.objectives.adgan import ADGAN
from adlightning.objectives.alad import ALAD
from adlightning.objectives.ama import AMA, SemiSupervisedAMA
from adlightning.objectives.anogan import AnoGAN
from adlightning.objectives.autoencoder import Autoencoder
from adlightning.objectives.binary_classifier import BinaryClassifier
from adlightning.objectives.dcae import DCAE
from adlightning.objectives.deep_sad import DeepSAD
from adlightning.objectives.deep_svdd import DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.objectives.density_ratio import DensityRatio
from adlightning.objectives.drocc import DROCC, DROCCOE
from adlightning.objectives.drocc_lf import DROCCLF
from adlightning.objectives.fence_gan import FenceGAN
from adlightning.objectives.geometric import GeometricTransforms
from adlightning.objectives.goad import GOAD
from adlightning.objectives.shell import DROCCRand
from adlightning.objectives.skip_ganomaly import SkipGANomaly
from adlightning.objectives.ss_dgm import SSDGM, StackedSSDGM
from adlightning.objectives.vae import VAE

__all__ = [
    "ADGAN",
    "ALAD",
    "AMA",
    "DCAE",
    "DROCC",
    "DROCCLF",
    "DROCCOE",
    "GOAD",
    "SSDGM",
    "VAE",
    "AnoGAN",
    "Autoencoder",
    "BinaryClassifier",
    "DROCCRand",
    "DeepSAD",
    "DeepSVDD",
    "DensityRatio",
    "FenceGAN",
    "GeometricTransforms",
    "SemiSupervisedAMA",
    "SkipGANomaly",
    "SoftBoundaryDeepSVDD",
    "StackedSSDGM",
]
