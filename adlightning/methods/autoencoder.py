"""The (convolutional) autoencoder: reconstruction error as score, and the first phase of Deep SVDD and Deep SAD.

Deep SAD, Appendices C to E.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.encoder import EncoderDetector
from adlightning.networks.encoders import build_decoder


def reconstruction_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each sample, (B,), over all its pixels or features, in float32."""
    return (reconstruction.float() - x.float()).square().flatten(1).mean(dim=1)


class ReconstructingDetector(EncoderDetector):
    """An encoder with its mirrored decoder: the autoencoder, and the first phase of the hypersphere methods.

    Args:
        common: networks, optimisation, preprocessing and threshold, as in :class:`EncoderDetector`.
    """

    decoder: nn.Module

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def build_head(self, shape: tuple[int, ...]) -> None:
        """The decoder; its range is that of the preprocessed input."""
        self.decoder = build_decoder(
            self.network,
            shape,
            self.conv_channels,
            self.dense,
            self.rep_dim,
            self.leakiness,
            output=self.preprocess.output,
        )

    def reconstruction_errors(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,) of raw input."""
        x = self.preprocess(x)
        return reconstruction_error(x, self.decoder(self.encoder(x)))


class Autoencoder(ReconstructingDetector):
    """The (C)AE baseline, unsupervised: trained on the mean squared reconstruction error, which is also its score.

    Args:
        common: networks, optimisation, preprocessing and threshold, as in :class:`EncoderDetector`.
    """

    uses_known_anomalies = False

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of the batch."""
        return self.log_loss(self.reconstruction_errors(batch.x).mean(), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,)."""
        return self.reconstruction_errors(x)

    def reconstructions(self, x: Tensor) -> Tensor:
        """Reconstructions (B, ...) of raw samples, in the preprocessed range."""
        reconstruction: Tensor = self.decoder(self.encoder(self.preprocess(x)))
        return reconstruction
