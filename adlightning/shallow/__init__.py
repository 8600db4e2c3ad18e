"""Shallow and hybrid baselines: estimators on raw values, PCA, autoencoder codes or a network's features."""

from adlightning.shallow.base import ShallowDetector
from adlightning.shallow.gmm import GMM
from adlightning.shallow.isolation_forest import IsolationForest
from adlightning.shallow.kde import KDE
from adlightning.shallow.kernel_ratio import KernelKLIEP, KernelULSIF
from adlightning.shallow.lof import LOF
from adlightning.shallow.nearest_neighbor import NearestNeighbor
from adlightning.shallow.ocsvm import OCSVM
from adlightning.shallow.ssad import SSAD
from adlightning.shallow.svm import SVM, BiasedSVM

__all__ = [
    "GMM",
    "KDE",
    "LOF",
    "OCSVM",
    "SSAD",
    "SVM",
    "BiasedSVM",
    "IsolationForest",
    "KernelKLIEP",
    "KernelULSIF",
    "NearestNeighbor",
    "ShallowDetector",
]
