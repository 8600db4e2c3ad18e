"""Plain networks: no Lightning, no knowledge of methods."""

from adlightning.networks.alad import (
    ALADEncoder,
    ALADGenerator,
    ImagePairDiscriminator,
    JointDiscriminator,
    LatentPairDiscriminator,
)
from adlightning.networks.dagmm import DAGMMDecoder, DAGMMEncoder, EstimationNetwork
from adlightning.networks.dgm import VAE, fully_connected, sample_gaussian
from adlightning.networks.encoders import build_decoder, build_encoder
from adlightning.networks.energy import ConvolutionalEnergy, DenseEnergy, RecurrentEnergy
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator
from adlightning.networks.fully_convolutional import FullyConvolutional
from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator
from adlightning.networks.glow import Glow
from adlightning.networks.goad import GOADEncoder
from adlightning.networks.hypotheses import GroupDiscriminator, HypothesesDecoder
from adlightning.networks.initialisation import (
    glorot_uniform_,
    require_collapse_free,
    reset_parameters_,
    strip_biases_,
)
from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.logits import build_logits
from adlightning.networks.lstm import LSTMDecoder, LSTMEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder, PlainMLP
from adlightning.networks.mobilenet import MobileNetV2Encoder
from adlightning.networks.patches import BackbonePatches, RawPatches, TimmPatches
from adlightning.networks.pixelcnn import PixelCNNPP
from adlightning.networks.pretrained import read_weights
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.networks.timm_encoder import TimmEncoder
from adlightning.networks.torchvision_encoder import TorchvisionEncoder
from adlightning.networks.unet import FeatureDiscriminator, UNet
from adlightning.networks.vae_density import VAEDensity
from adlightning.networks.vgg import VGG11
from adlightning.networks.wide_resnet import WideResNet10x4

__all__ = [
    "VAE",
    "VGG11",
    "ALADEncoder",
    "ALADGenerator",
    "BackbonePatches",
    "ConvolutionalEnergy",
    "DAGMMDecoder",
    "DAGMMEncoder",
    "DCGANCritic",
    "DCGANEncoder",
    "DCGANGenerator",
    "DenseEnergy",
    "EstimationNetwork",
    "FeatureDiscriminator",
    "FenceDiscriminator",
    "FenceGenerator",
    "FullyConvolutional",
    "GOADEncoder",
    "Glow",
    "GroupDiscriminator",
    "HypothesesDecoder",
    "ImagePairDiscriminator",
    "JointDiscriminator",
    "LSTMDecoder",
    "LSTMEncoder",
    "LatentPairDiscriminator",
    "LeNetDecoder",
    "LeNetEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "MobileNetV2Encoder",
    "PixelCNNPP",
    "PlainMLP",
    "RawPatches",
    "RecurrentEnergy",
    "ResidualCritic",
    "ResidualGenerator",
    "StridedEncoder",
    "TimmEncoder",
    "TimmPatches",
    "TorchvisionEncoder",
    "UNet",
    "VAEDensity",
    "WideResNet10x4",
    "build_decoder",
    "build_encoder",
    "build_logits",
    "fully_connected",
    "glorot_uniform_",
    "read_weights",
    "require_collapse_free",
    "reset_parameters_",
    "sample_gaussian",
    "strip_biases_",
]
