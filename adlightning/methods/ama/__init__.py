"""AMA: an adversarial mirrored autoencoder (Somepalli et al., arXiv:2003.10713).

The paper is in `detector.py`: the terms of its objective, and the detector. `settings.py` has groups of its
arguments, `semi_supervised.py` the variant with known anomalies.
"""

from adlightning.methods.ama.detector import AMA
from adlightning.methods.ama.semi_supervised import SemiSupervisedAMA
from adlightning.methods.ama.settings import CriticTurns, Interpolation, Negatives

__all__ = ["AMA", "CriticTurns", "Interpolation", "Negatives", "SemiSupervisedAMA"]
