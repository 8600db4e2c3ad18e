"""The public names and their homes; `__init__.py` imports each when it is first used."""

from .callbacks.latent_entropy import (
    LatentEntropy as LatentEntropy,
)
from .callbacks.networks import (
    CompileNetworks as CompileNetworks,
    MemoryFormat as MemoryFormat,
)
from .callbacks.run_folder import (
    RunFolder as RunFolder,
)
from .checkpoints.loading import (
    load_detector as load_detector,
)
from .core.detector import (
    AnomalyDetector as AnomalyDetector,
)
from .core.maps import (
    MaximumOfMap as MaximumOfMap,
    MeanOfMap as MeanOfMap,
    Reduction as Reduction,
    TopShare as TopShare,
)
from .core.ranking_metric import (
    Ranked as Ranked,
    RankingMetric as RankingMetric,
    ranking_collection as ranking_collection,
)
from .core.thresholds import (
    Contamination as Contamination,
    FalseDiscoveryRate as FalseDiscoveryRate,
    FalsePositiveRate as FalsePositiveRate,
    FixedThreshold as FixedThreshold,
    NormalQuantile as NormalQuantile,
    ThresholdRule as ThresholdRule,
)
from .data.arrays import (
    Arrays as Arrays,
)
from .data.labelled import (
    AnomalyLabelled as AnomalyLabelled,
)
from .data.limited_negatives import (
    LimitedNegatives as LimitedNegatives,
)
from .data.modules import (
    AnomalyDataModule as AnomalyDataModule,
)
from .data.mvtec import (
    MVTecLayout as MVTecLayout,
)
from .data.one_vs_all import (
    OneVsAll as OneVsAll,
)
from .data.out_of_distribution import (
    OutOfDistribution as OutOfDistribution,
)
from .data.own_data import (
    FolderData as FolderData,
    SoundData as SoundData,
    TableData as TableData,
)
from .data.sources import (
    CIFAR10 as CIFAR10,
    CIFAR100 as CIFAR100,
    GTSRB as GTSRB,
    LSUN as LSUN,
    MNIST as MNIST,
    SVHN as SVHN,
    Abalone as Abalone,
    AnomalyFile as AnomalyFile,
    AnomalySource as AnomalySource,
    Augmented as Augmented,
    CelebA as CelebA,
    ClassSource as ClassSource,
    DefectFolder as DefectFolder,
    Digits as Digits,
    Epilepsy as Epilepsy,
    FashionMNIST as FashionMNIST,
    FlatFolder as FlatFolder,
    GaussianNoise as GaussianNoise,
    ImageFolder as ImageFolder,
    LazyImages as LazyImages,
    NoisySine as NoisySine,
    NormalAnomalyFolder as NormalAnomalyFolder,
    Npz as Npz,
    Odds as Odds,
    Omniglot as Omniglot,
    Paradigms as Paradigms,
    Samples as Samples,
    Sine as Sine,
    SoundFolder as SoundFolder,
    Source as Source,
    SourceError as SourceError,
    SpeechCommands as SpeechCommands,
    Sphere as Sphere,
    Table as Table,
    UniformNoise as UniformNoise,
)
from .data.synthetic import (
    Confetti as Confetti,
    CutPaste as CutPaste,
    SyntheticAnomalies as SyntheticAnomalies,
)
from .data.unlabelled import (
    InductiveLabelled as InductiveLabelled,
    InductiveOneVsAll as InductiveOneVsAll,
    TransductiveLabelled as TransductiveLabelled,
    TransductiveOneVsAll as TransductiveOneVsAll,
)
from .data.windows import (
    Windows as Windows,
)
from .experiments import (
    experiment as experiment,
)
from .methods import (
    ADGAN as ADGAN,
    ALAD as ALAD,
    AMA as AMA,
    DAGMM as DAGMM,
    DCAE as DCAE,
    DCN as DCN,
    DROCC as DROCC,
    DROCCLF as DROCCLF,
    DROCCOE as DROCCOE,
    DSEBM as DSEBM,
    FCDD as FCDD,
    GOAD as GOAD,
    HSC as HSC,
    PCA as PCA,
    SSDGM as SSDGM,
    VAE as VAE,
    WAIC as WAIC,
    AnoGAN as AnoGAN,
    Autoencoder as Autoencoder,
    BinaryClassifier as BinaryClassifier,
    ConAD as ConAD,
    DeepCluster as DeepCluster,
    DeepSAD as DeepSAD,
    DeepSVDD as DeepSVDD,
    DensityRatio as DensityRatio,
    DensityWAIC as DensityWAIC,
    DROCCRand as DROCCRand,
    FenceGAN as FenceGAN,
    GeometricTransforms as GeometricTransforms,
    Likelihood as Likelihood,
    LikelihoodRatio as LikelihoodRatio,
    PatchKNN as PatchKNN,
    SemiSupervisedAMA as SemiSupervisedAMA,
    SkipGANomaly as SkipGANomaly,
    SoftBoundaryDeepSVDD as SoftBoundaryDeepSVDD,
    SScore as SScore,
    StackedSSDGM as StackedSSDGM,
    Typicality as Typicality,
)
from .methods.ama.settings import (
    Interpolation as Interpolation,
    Negatives as Negatives,
)
from .methods.goad import (
    AffineMaps as AffineMaps,
)
from .methods.parts.adversarial import (
    GradientPenalty as GradientPenalty,
    Unconstrained as Unconstrained,
    WeightClipping as WeightClipping,
)
from .methods.parts.anomaly_losses import (
    HingeLoss as HingeLoss,
    InverseNorm as InverseNorm,
    NegativeHampelLoss as NegativeHampelLoss,
    NegativeNorm as NegativeNorm,
)
from .methods.parts.ascent import (
    Ascent as Ascent,
)
from .methods.parts.compressors import (
    FLIF as FLIF,
    JPEG2000 as JPEG2000,
    PNG as PNG,
)
from .methods.parts.head import (
    Head as Head,
)
from .methods.parts.hypersphere import (
    AutoencoderPretraining as AutoencoderPretraining,
)
from .methods.parts.inversion import (
    LatentSearch as LatentSearch,
)
from .methods.parts.neighborhood import (
    Neighborhood as Neighborhood,
)
from .methods.parts.reconstruction_losses import (
    AbsoluteError as AbsoluteError,
    Huber as Huber,
    LaplacianPyramid as LaplacianPyramid,
    SquaredError as SquaredError,
)
from .methods.stacked_ss_dgm import (
    M1Pretraining as M1Pretraining,
)
from .networks import (
    VGG11 as VGG11,
    ALADEncoder as ALADEncoder,
    ALADGenerator as ALADGenerator,
    BackbonePatches as BackbonePatches,
    ConvolutionalEnergy as ConvolutionalEnergy,
    DAGMMDecoder as DAGMMDecoder,
    DAGMMEncoder as DAGMMEncoder,
    DCGANCritic as DCGANCritic,
    DCGANEncoder as DCGANEncoder,
    DCGANGenerator as DCGANGenerator,
    DenseEnergy as DenseEnergy,
    EstimationNetwork as EstimationNetwork,
    FeatureDiscriminator as FeatureDiscriminator,
    FenceDiscriminator as FenceDiscriminator,
    FenceGenerator as FenceGenerator,
    FullyConvolutional as FullyConvolutional,
    Glow as Glow,
    GOADEncoder as GOADEncoder,
    GroupDiscriminator as GroupDiscriminator,
    HypothesesDecoder as HypothesesDecoder,
    ImagePairDiscriminator as ImagePairDiscriminator,
    JointDiscriminator as JointDiscriminator,
    LatentPairDiscriminator as LatentPairDiscriminator,
    LeNetDecoder as LeNetDecoder,
    LeNetEncoder as LeNetEncoder,
    LSTMDecoder as LSTMDecoder,
    LSTMEncoder as LSTMEncoder,
    MLPDecoder as MLPDecoder,
    MLPEncoder as MLPEncoder,
    MobileNetV2Encoder as MobileNetV2Encoder,
    PixelCNNPP as PixelCNNPP,
    PlainMLP as PlainMLP,
    RawPatches as RawPatches,
    RecurrentEnergy as RecurrentEnergy,
    ResidualCritic as ResidualCritic,
    ResidualGenerator as ResidualGenerator,
    StridedEncoder as StridedEncoder,
    TimmEncoder as TimmEncoder,
    TimmPatches as TimmPatches,
    TorchvisionEncoder as TorchvisionEncoder,
    UNet as UNet,
    VAEDensity as VAEDensity,
    WideResNet10x4 as WideResNet10x4,
)
from .preprocessing import (
    After as After,
    Centre as Centre,
    EncodeColumns as EncodeColumns,
    GlobalContrastL1 as GlobalContrastL1,
    Identity as Identity,
    Preprocessing as Preprocessing,
    StandardizeChannels as StandardizeChannels,
    StandardizeFeatures as StandardizeFeatures,
    StandardizeMinMax as StandardizeMinMax,
    StandardizeSeries as StandardizeSeries,
    SymmetricRange as SymmetricRange,
    UnitRange as UnitRange,
)
from .run import (
    Run as Run,
    fit as fit,
)
from .shallow import (
    GMM as GMM,
    KDE as KDE,
    LOF as LOF,
    OCSVM as OCSVM,
    SSAD as SSAD,
    SVM as SVM,
    BiasedSVM as BiasedSVM,
    IsolationForest as IsolationForest,
    KernelKLIEP as KernelKLIEP,
    KernelULSIF as KernelULSIF,
    NearestNeighbor as NearestNeighbor,
    ShallowDetector as ShallowDetector,
)
from .shallow.features import (
    AutoencoderFeatures as AutoencoderFeatures,
    BackboneFeatures as BackboneFeatures,
    PCAFeatures as PCAFeatures,
    RawFeatures as RawFeatures,
)

__version__: str
