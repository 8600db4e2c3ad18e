"""What a method does to raw input before its network: a fitted module inside the detector.

It belongs to the method, not to the data: on the same images Deep SAD takes [0, 1], Deep SVDD normalised contrast,
DROCC standardised channels, AMA and ADGAN [-1, 1]. Everything fitted is a float32 buffer and lives in the checkpoint.
"""

from adlightning.preprocessing.base import After, Identity, Output, Preprocessing
from adlightning.preprocessing.columns import EncodeColumns
from adlightning.preprocessing.features import Centre, StandardizeFeatures, StandardizeMinMax, StandardizeSeries
from adlightning.preprocessing.images import GlobalContrastL1, StandardizeChannels, SymmetricRange, UnitRange

__all__ = [
    "After",
    "Centre",
    "EncodeColumns",
    "GlobalContrastL1",
    "Identity",
    "Output",
    "Preprocessing",
    "StandardizeChannels",
    "StandardizeFeatures",
    "StandardizeMinMax",
    "StandardizeSeries",
    "SymmetricRange",
    "UnitRange",
]
