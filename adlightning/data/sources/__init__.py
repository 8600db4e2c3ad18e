"""Sources of samples: raw arrays, labels and names, and nothing of protocols."""

from adlightning.data.sources.base import AnomalySource, ClassSource, LazyImages, Part, Samples, Source, SourceError
from adlightning.data.sources.digits import Digits
from adlightning.data.sources.image_folder import ImageFolder, NormalAnomalyFolder
from adlightning.data.sources.npz import Npz
from adlightning.data.sources.odds import Odds
from adlightning.data.sources.table import Table
from adlightning.data.sources.torchvision_sets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "SVHN",
    "AnomalySource",
    "ClassSource",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "LazyImages",
    "NormalAnomalyFolder",
    "Npz",
    "Odds",
    "Part",
    "Samples",
    "Source",
    "SourceError",
    "Table",
]
