"""The public names and their homes; `__init__.py` imports each when it is first used."""

from .callbacks.networks import (
    ChannelsLast as ChannelsLast,
)
from .callbacks.networks import (
    CompileNetworks as CompileNetworks,
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
from .core.thresholds import (
    Contamination as Contamination,
)
from .core.thresholds import (
    FixedThreshold as FixedThreshold,
)
from .core.thresholds import (
    NormalQuantile as NormalQuantile,
)
from .core.thresholds import (
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
from .data.one_vs_all import (
    OneVsAll as OneVsAll,
)
from .data.out_of_distribution import (
    OutOfDistribution as OutOfDistribution,
)
from .data.own_data import (
    FolderData as FolderData,
)
from .data.own_data import (
    TableData as TableData,
)
from .data.sources import (
    CIFAR10 as CIFAR10,
)
from .data.sources import (
    CIFAR100 as CIFAR100,
)
from .data.sources import (
    GTSRB as GTSRB,
)
from .data.sources import (
    LSUN as LSUN,
)
from .data.sources import (
    MNIST as MNIST,
)
from .data.sources import (
    SVHN as SVHN,
)
from .data.sources import (
    Abalone as Abalone,
)
from .data.sources import (
    AnomalySource as AnomalySource,
)
from .data.sources import (
    Augmented as Augmented,
)
from .data.sources import (
    CelebA as CelebA,
)
from .data.sources import (
    ClassSource as ClassSource,
)
from .data.sources import (
    Digits as Digits,
)
from .data.sources import (
    Epilepsy as Epilepsy,
)
from .data.sources import (
    FashionMNIST as FashionMNIST,
)
from .data.sources import (
    FlatFolder as FlatFolder,
)
from .data.sources import (
    GaussianNoise as GaussianNoise,
)
from .data.sources import (
    ImageFolder as ImageFolder,
)
from .data.sources import (
    LazyImages as LazyImages,
)
from .data.sources import (
    NoisySine as NoisySine,
)
from .data.sources import (
    NormalAnomalyFolder as NormalAnomalyFolder,
)
from .data.sources import (
    Npz as Npz,
)
from .data.sources import (
    Odds as Odds,
)
from .data.sources import (
    Omniglot as Omniglot,
)
from .data.sources import (
    Samples as Samples,
)
from .data.sources import (
    Sine as Sine,
)
from .data.sources import (
    Source as Source,
)
from .data.sources import (
    SourceError as SourceError,
)
from .data.sources import (
    SpeechCommands as SpeechCommands,
)
from .data.sources import (
    Sphere as Sphere,
)
from .data.sources import (
    Table as Table,
)
from .data.sources import (
    UniformNoise as UniformNoise,
)
from .data.unlabelled import (
    InductiveLabelled as InductiveLabelled,
)
from .data.unlabelled import (
    InductiveOneVsAll as InductiveOneVsAll,
)
from .data.unlabelled import (
    TransductiveLabelled as TransductiveLabelled,
)
from .data.unlabelled import (
    TransductiveOneVsAll as TransductiveOneVsAll,
)
from .experiment import (
    experiment as experiment,
)
from .methods import (
    ADGAN as ADGAN,
)
from .methods import (
    ALAD as ALAD,
)
from .methods import (
    AMA as AMA,
)
from .methods import (
    DAGMM as DAGMM,
)
from .methods import (
    DCAE as DCAE,
)
from .methods import (
    DCN as DCN,
)
from .methods import (
    DROCC as DROCC,
)
from .methods import (
    DROCCLF as DROCCLF,
)
from .methods import (
    DROCCOE as DROCCOE,
)
from .methods import (
    DSEBM as DSEBM,
)
from .methods import (
    GOAD as GOAD,
)
from .methods import (
    SSDGM as SSDGM,
)
from .methods import (
    VAE as VAE,
)
from .methods import (
    WAIC as WAIC,
)
from .methods import (
    AnoGAN as AnoGAN,
)
from .methods import (
    Autoencoder as Autoencoder,
)
from .methods import (
    BinaryClassifier as BinaryClassifier,
)
from .methods import (
    ConAD as ConAD,
)
from .methods import (
    DeepCluster as DeepCluster,
)
from .methods import (
    DeepSAD as DeepSAD,
)
from .methods import (
    DeepSVDD as DeepSVDD,
)
from .methods import (
    DensityRatio as DensityRatio,
)
from .methods import (
    DensityWAIC as DensityWAIC,
)
from .methods import (
    DROCCRand as DROCCRand,
)
from .methods import (
    FenceGAN as FenceGAN,
)
from .methods import (
    GeometricTransforms as GeometricTransforms,
)
from .methods import (
    Likelihood as Likelihood,
)
from .methods import (
    LikelihoodRatio as LikelihoodRatio,
)
from .methods import (
    SemiSupervisedAMA as SemiSupervisedAMA,
)
from .methods import (
    SkipGANomaly as SkipGANomaly,
)
from .methods import (
    SoftBoundaryDeepSVDD as SoftBoundaryDeepSVDD,
)
from .methods import (
    SScore as SScore,
)
from .methods import (
    StackedSSDGM as StackedSSDGM,
)
from .methods import (
    Typicality as Typicality,
)
from .methods.parts.adversarial import (
    GradientPenalty as GradientPenalty,
)
from .methods.parts.adversarial import (
    WeightClipping as WeightClipping,
)
from .methods.parts.compressors import (
    FLIF as FLIF,
)
from .methods.parts.compressors import (
    JPEG2000 as JPEG2000,
)
from .methods.parts.compressors import (
    PNG as PNG,
)
from .networks import (
    VGG11 as VGG11,
)
from .networks import (
    ALADEncoder as ALADEncoder,
)
from .networks import (
    ALADGenerator as ALADGenerator,
)
from .networks import (
    ConvolutionalEnergy as ConvolutionalEnergy,
)
from .networks import (
    DAGMMDecoder as DAGMMDecoder,
)
from .networks import (
    DAGMMEncoder as DAGMMEncoder,
)
from .networks import (
    DCGANCritic as DCGANCritic,
)
from .networks import (
    DCGANEncoder as DCGANEncoder,
)
from .networks import (
    DCGANGenerator as DCGANGenerator,
)
from .networks import (
    DenseEnergy as DenseEnergy,
)
from .networks import (
    EstimationNetwork as EstimationNetwork,
)
from .networks import (
    FeatureDiscriminator as FeatureDiscriminator,
)
from .networks import (
    FenceDiscriminator as FenceDiscriminator,
)
from .networks import (
    FenceGenerator as FenceGenerator,
)
from .networks import (
    Glow as Glow,
)
from .networks import (
    GOADEncoder as GOADEncoder,
)
from .networks import (
    GroupDiscriminator as GroupDiscriminator,
)
from .networks import (
    HypothesesDecoder as HypothesesDecoder,
)
from .networks import (
    ImagePairDiscriminator as ImagePairDiscriminator,
)
from .networks import (
    JointDiscriminator as JointDiscriminator,
)
from .networks import (
    LatentPairDiscriminator as LatentPairDiscriminator,
)
from .networks import (
    LeNetDecoder as LeNetDecoder,
)
from .networks import (
    LeNetEncoder as LeNetEncoder,
)
from .networks import (
    LSTMDecoder as LSTMDecoder,
)
from .networks import (
    LSTMEncoder as LSTMEncoder,
)
from .networks import (
    MLPDecoder as MLPDecoder,
)
from .networks import (
    MLPEncoder as MLPEncoder,
)
from .networks import (
    MobileNetV2Encoder as MobileNetV2Encoder,
)
from .networks import (
    PixelCNNPP as PixelCNNPP,
)
from .networks import (
    PlainMLP as PlainMLP,
)
from .networks import (
    RecurrentEnergy as RecurrentEnergy,
)
from .networks import (
    ResidualCritic as ResidualCritic,
)
from .networks import (
    ResidualGenerator as ResidualGenerator,
)
from .networks import (
    StridedEncoder as StridedEncoder,
)
from .networks import (
    TimmEncoder as TimmEncoder,
)
from .networks import (
    TorchvisionEncoder as TorchvisionEncoder,
)
from .networks import (
    UNet as UNet,
)
from .networks import (
    VAEDensity as VAEDensity,
)
from .networks import (
    WideResNet10x4 as WideResNet10x4,
)
from .preprocessing import (
    After as After,
)
from .preprocessing import (
    Centre as Centre,
)
from .preprocessing import (
    GlobalContrastL1 as GlobalContrastL1,
)
from .preprocessing import (
    Identity as Identity,
)
from .preprocessing import (
    Preprocessing as Preprocessing,
)
from .preprocessing import (
    StandardizeChannels as StandardizeChannels,
)
from .preprocessing import (
    StandardizeFeatures as StandardizeFeatures,
)
from .preprocessing import (
    StandardizeMinMax as StandardizeMinMax,
)
from .preprocessing import (
    SymmetricRange as SymmetricRange,
)
from .preprocessing import (
    UnitRange as UnitRange,
)
from .run import (
    Run as Run,
)
from .run import (
    fit as fit,
)
from .shallow import (
    GMM as GMM,
)
from .shallow import (
    KDE as KDE,
)
from .shallow import (
    LOF as LOF,
)
from .shallow import (
    OCSVM as OCSVM,
)
from .shallow import (
    SSAD as SSAD,
)
from .shallow import (
    IsolationForest as IsolationForest,
)
from .shallow import (
    KernelKLIEP as KernelKLIEP,
)
from .shallow import (
    KernelULSIF as KernelULSIF,
)
from .shallow import (
    NearestNeighbor as NearestNeighbor,
)
from .shallow import (
    ShallowDetector as ShallowDetector,
)
from .shallow.features import (
    AutoencoderFeatures as AutoencoderFeatures,
)
from .shallow.features import (
    BackboneFeatures as BackboneFeatures,
)
from .shallow.features import (
    PCAFeatures as PCAFeatures,
)
from .shallow.features import (
    RawFeatures as RawFeatures,
)

__version__: str
