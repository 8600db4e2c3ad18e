"""Sources of samples: raw arrays, labels and names, and nothing of protocols."""

from adlightning.core.contracts import SourceError
from adlightning.data.sources.abalone import Abalone
from adlightning.data.sources.anomaly_file import AnomalyFile
from adlightning.data.sources.augmented import Augmented
from adlightning.data.sources.base import AnomalySource, ClassSource, LazyImages, Part, Samples, Source
from adlightning.data.sources.defect_folder import DefectFolder
from adlightning.data.sources.digits import Digits
from adlightning.data.sources.epilepsy import Epilepsy
from adlightning.data.sources.file_sets import GTSRB, CelebA, Omniglot
from adlightning.data.sources.image_folder import FlatFolder, ImageFolder, NormalAnomalyFolder
from adlightning.data.sources.lsun import LSUN
from adlightning.data.sources.noise import GaussianNoise, UniformNoise
from adlightning.data.sources.npz import Npz
from adlightning.data.sources.odds import Odds
from adlightning.data.sources.paradigms import Paradigms
from adlightning.data.sources.sound_folder import SoundFolder
from adlightning.data.sources.speech_commands import SpeechCommands
from adlightning.data.sources.synthetic import NoisySine, Sine, Sphere
from adlightning.data.sources.table import Table
from adlightning.data.sources.torchvision_sets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "GTSRB",
    "LSUN",
    "MNIST",
    "SVHN",
    "Abalone",
    "AnomalyFile",
    "AnomalySource",
    "Augmented",
    "CelebA",
    "ClassSource",
    "DefectFolder",
    "Digits",
    "Epilepsy",
    "FashionMNIST",
    "FlatFolder",
    "GaussianNoise",
    "ImageFolder",
    "LazyImages",
    "NoisySine",
    "NormalAnomalyFolder",
    "Npz",
    "Odds",
    "Omniglot",
    "Paradigms",
    "Part",
    "Samples",
    "Sine",
    "SoundFolder",
    "Source",
    "SourceError",
    "SpeechCommands",
    "Sphere",
    "Table",
    "UniformNoise",
]
