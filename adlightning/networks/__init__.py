"""Plain networks: no Lightning, no knowledge of methods."""

from adlightning.networks.initialisation import glorot_uniform_, require_collapse_free, reset_parameters_
from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder

__all__ = [
    "LeNetDecoder",
    "LeNetEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "glorot_uniform_",
    "require_collapse_free",
    "reset_parameters_",
]
