"""What there is: methods, datamodules, sources and parts. Help texts and the README's table are made from it."""

from __future__ import annotations

import importlib
from typing import NamedTuple


class Method(NamedTuple):
    """A row of the README's table: what it is, its classes, where its experiments are, what was measured."""

    title: str
    classes: tuple[str, ...]
    configs: str
    status: str


METHODS: tuple[Method, ...] = (
    Method(
        "Deep SAD (Ruff et al. 2020)",
        ("DeepSAD",),
        "`configs/deep_sad/`",
        "measured: [docs/results.md](docs/results.md)",
    ),
    Method(
        "Deep SVDD, one-class (Ruff et al. 2018)",
        ("DeepSVDD",),
        "`configs/deep_svdd/`",
        "measured: [docs/results.md](docs/results.md)",
    ),
    Method(
        "Deep SVDD, soft-boundary",
        ("SoftBoundaryDeepSVDD",),
        "`configs/soft_boundary_deep_svdd/`",
        "measured on tables",
    ),
    Method(
        "(convolutional) autoencoder",
        ("Autoencoder",),
        "`configs/autoencoder/`",
        "measured on tables, MNIST",
    ),
    Method(
        "supervised classifier; SS-DGM (M2, M1+M2)",
        ("BinaryClassifier", "SSDGM", "StackedSSDGM"),
        "`configs/binary_classifier/`, ...",
        "measured on tables",
    ),
    Method(
        "OC-SVM / SVDD, SSAD",
        ("OCSVM", "SSAD"),
        "`configs/ocsvm/`, `configs/ssad/`",
        "measured on tables, MNIST, Fashion-MNIST; OC-SVM on CIFAR-10",
    ),
    Method(
        "SVM; biased SVM for known normals and unlabelled samples (Liu et al. 2003)",
        ("SVM", "BiasedSVM"),
        "`configs/svm/`, `configs/biased_svm/`",
        "measured on digits",
    ),
    Method(
        "isolation forest, KDE, Gaussian mixture, LOF, nearest neighbour",
        ("IsolationForest", "KDE", "GMM", "LOF", "NearestNeighbor"),
        "`configs/kde/`, ...",
        "measured on CIFAR-10; isolation forest, KDE and GMM on MNIST; nearest neighbour and LOF on tables",
    ),
    Method(
        "DROCC, DROCC-Rand, DROCC-OE, DROCC-LF (Goyal et al. 2020)",
        ("DROCC", "DROCCRand", "DROCCOE", "DROCCLF"),
        "`configs/drocc/`, ...",
        "measured on tables, sine wave, ball, digits, MNIST's half zeros, a class of CIFAR-10",
    ),
    Method(
        "density ratio (KLIEP, BA divergence, uLSIF), transductive or inductive",
        ("DensityRatio",),
        "`configs/density_ratio/`",
        "measured on digits, Fashion-MNIST in part",
    ),
    Method(
        "geometric transformations, GEOM (Golan and El-Yaniv 2018)",
        ("GeometricTransforms",),
        "`configs/geometric_transforms/`",
        "measured on digits",
    ),
    Method(
        "GOAD, for tables (Bergman and Hoshen 2020)",
        ("GOAD",),
        "`configs/goad/`",
        "measured on three tables",
    ),
    Method(
        "DAGMM (Zong et al. 2018)",
        ("DAGMM",),
        "`configs/dagmm/`",
        "measured on three tables, shortened",
    ),
    Method(
        "deep clustering: DCN (Yang et al. 2017), DeepCluster (Caron et al. 2018)",
        ("DCN", "DeepCluster"),
        "`configs/dcn/`, `configs/deep_cluster/`",
        "measured on three tables, digits",
    ),
    Method(
        "kernel density ratio: KLIEP, uLSIF",
        ("KernelKLIEP", "KernelULSIF"),
        "`configs/kernel_kliep/`, ...",
        "measured on tables",
    ),
    Method(
        "AMA (Somepalli et al. 2020)",
        ("AMA", "SemiSupervisedAMA"),
        "`configs/ama/`",
        "measured on digits",
    ),
    Method(
        "ADGAN (Deecke et al. 2018), AnoGAN (Schlegl et al. 2017)",
        ("ADGAN", "AnoGAN"),
        "`configs/adgan/`, `configs/anogan/`",
        "measured on digits; on two classes of MNIST, shortened",
    ),
    Method(
        "convolutional autoencoder and VAE of ADGAN's paper",
        ("DCAE", "VAE"),
        "`configs/dcae/`, `configs/vae/`",
        "measured on digits",
    ),
    Method(
        "Fence GAN (Ngo et al. 2019), Skip-GANomaly (Akcay et al. 2019), ALAD (Zenati et al. 2018)",
        ("FenceGAN", "SkipGANomaly", "ALAD"),
        "`configs/fence_gan/`, ...",
        "measured on digits",
    ),
    Method(
        "PatchCore (Roth et al. 2022), nearest neighbours of patches; principal components; both with maps",
        ("PatchKNN", "PCA"),
        "`configs/patch_knn/`, `configs/pca/`",
        "measured on digits",
    ),
    Method(
        "FCDD (Liznerski et al. 2021), with maps; HSC, the hypersphere classifier (Ruff et al. 2021)",
        ("FCDD", "HSC"),
        "`configs/fcdd/`, `configs/hsc/`",
        "measured on digits",
    ),
    Method(
        "WAIC (Choi et al. 2018) of WGANs' critics, or of densities: Glow (Kingma and Dhariwal 2018)",
        ("WAIC", "DensityWAIC"),
        "`configs/waic/`, `configs/density_waic/`",
        "measured on digits",
    ),
    Method(
        "DSEBM, and REBM for series (Zhai et al. 2016)",
        ("DSEBM",),
        "`configs/dsebm/`",
        "measured on digits; on epileptic seizures, shortened",
    ),
    Method(
        "ConAD (Nguyen et al. 2019)",
        ("ConAD",),
        "`configs/conad/`",
        "measured on digits",
    ),
    Method(
        "likelihood, its ratio (Ren et al. 2019), typicality (Nalisnick et al. 2019), S-score (Serra et al. 2020)",
        ("Likelihood", "LikelihoodRatio", "Typicality", "SScore"),
        "`configs/likelihood/`, ...",
        "measured on digits",
    ),
)

DETECTORS = ("adlightning.methods", "adlightning.shallow")
"""Packages whose public names are the classes of the methods."""

DATAMODULES = {
    "OneVsAll": "adlightning.data.one_vs_all",
    "AnomalyLabelled": "adlightning.data.labelled",
    "LimitedNegatives": "adlightning.data.limited_negatives",
    "OutOfDistribution": "adlightning.data.out_of_distribution",
    "InductiveOneVsAll": "adlightning.data.unlabelled",
    "InductiveLabelled": "adlightning.data.unlabelled",
    "TransductiveOneVsAll": "adlightning.data.unlabelled",
    "TransductiveLabelled": "adlightning.data.unlabelled",
    "FolderData": "adlightning.data.own_data",
    "MVTecLayout": "adlightning.data.mvtec",
    "SoundData": "adlightning.data.own_data",
    "TableData": "adlightning.data.own_data",
    "Windows": "adlightning.data.windows",
}
"""Datamodules and their modules."""

PARTS = ("adlightning.data.sources", "adlightning.networks", "adlightning.preprocessing", "adlightning.core.thresholds")
"""Packages whose public names are sources of samples and parts of detectors."""


def import_all() -> None:
    """Import every detector, datamodule, source and part, so that the command line finds them by their names."""
    for module in dict.fromkeys((*DETECTORS, *DATAMODULES.values(), *PARTS)):
        importlib.import_module(module)


def table() -> str:
    """The methods as a table in Markdown."""
    rows = [("method", "class", "configs", "status"), ("---",) * 4]
    for method in METHODS:
        classes = ", ".join(f"`{name}`" for name in method.classes)
        rows.append((method.title, classes, method.configs, method.status))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
