"""The methods of the papers, a file each: the loss as pure functions on top, the LightningModule below."""

from adlightning.methods.adgan import ADGAN
from adlightning.methods.alad import ALAD
from adlightning.methods.ama import AMA, SemiSupervisedAMA
from adlightning.methods.anogan import AnoGAN
from adlightning.methods.autoencoder import Autoencoder
from adlightning.methods.binary_classifier import BinaryClassifier
from adlightning.methods.conad import ConAD
from adlightning.methods.dagmm import DAGMM
from adlightning.methods.dcae import DCAE
from adlightning.methods.dcn import DCN
from adlightning.methods.deep_cluster import DeepCluster
from adlightning.methods.deep_sad import DeepSAD
from adlightning.methods.deep_svdd import DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.methods.density_ratio import DensityRatio
from adlightning.methods.density_waic import DensityWAIC
from adlightning.methods.drocc import DROCC
from adlightning.methods.drocc_lf import DROCCLF
from adlightning.methods.drocc_oe import DROCCOE
from adlightning.methods.drocc_rand import DROCCRand
from adlightning.methods.dsebm import DSEBM
from adlightning.methods.fcdd import FCDD
from adlightning.methods.fence_gan import FenceGAN
from adlightning.methods.geometric_transforms import GeometricTransforms
from adlightning.methods.goad import GOAD
from adlightning.methods.hsc import HSC
from adlightning.methods.likelihood import Likelihood
from adlightning.methods.likelihood_ratio import LikelihoodRatio
from adlightning.methods.patch_knn import PatchKNN
from adlightning.methods.pca import PCA
from adlightning.methods.s_score import SScore
from adlightning.methods.skip_ganomaly import SkipGANomaly
from adlightning.methods.ss_dgm import SSDGM
from adlightning.methods.stacked_ss_dgm import StackedSSDGM
from adlightning.methods.typicality import Typicality
from adlightning.methods.vae import VAE
from adlightning.methods.waic import WAIC

__all__ = [
    "ADGAN",
    "ALAD",
    "AMA",
    "DAGMM",
    "DCAE",
    "DCN",
    "DROCC",
    "DROCCLF",
    "DROCCOE",
    "DSEBM",
    "FCDD",
    "GOAD",
    "HSC",
    "PCA",
    "SSDGM",
    "VAE",
    "WAIC",
    "AnoGAN",
    "Autoencoder",
    "BinaryClassifier",
    "ConAD",
    "DROCCRand",
    "DeepCluster",
    "DeepSAD",
    "DeepSVDD",
    "DensityRatio",
    "DensityWAIC",
    "FenceGAN",
    "GeometricTransforms",
    "Likelihood",
    "LikelihoodRatio",
    "PatchKNN",
    "SScore",
    "SemiSupervisedAMA",
    "SkipGANomaly",
    "SoftBoundaryDeepSVDD",
    "StackedSSDGM",
    "Typicality",
]
