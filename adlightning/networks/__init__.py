"""Plain networks: no Lightning, no knowledge of methods."""

from adlightning.networks.dgm import VAE, fully_connected, sample_gaussian
from adlightning.networks.initialisation import glorot_uniform_, require_collapse_free, reset_parameters_
from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder

__all__ = [
    "VAE",
    "LeNetDecoder",
    "LeNetEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "fully_connected",
    "glorot_uniform_",
    "require_collapse_free",
    "reset_parameters_",
    "sample_gaussian",
]
