"""The convolutional autoencoder that ADGAN compares with: reconstruction error on DCGAN's layers (Section 4.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from adlightning.core.contracts import TrainBatch
from adlightning.methods.autoencoder import reconstruction_error
from adlightning.methods.parts.optimization import OptimizedDetector
from adlightning.networks.gan import DCGANEncoder, DCGANGenerator


class DCGANAutoencoder(OptimizedDetector):
    """A DCGAN's generator as decoder and its mirror image as encoder: what the autoencoder and the VAE share.

    Args:
        latent_dim: dimension of the latent variable; the paper does not say.
        width: channels of the feature map next to the image.
        kernel_size: of the strided convolutions: 4, or 3.
        common: optimisation, preprocessing and threshold, as in :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the network cannot make.
    """

    uses_known_anomalies = False

    encoder: DCGANEncoder
    decoder: DCGANGenerator

    def __init__(self, latent_dim: int = 256, width: int = 64, kernel_size: int = 4, **common: Any) -> None:
        super().__init__(**common)
        for name, value in (("latent_dim", latent_dim), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.latent_dim = latent_dim
        self.width = width
        self.kernel_size = kernel_size


class DCAE(DCGANAutoencoder):
    """ADGAN's DCAE, unsupervised: trained on the mean squared reconstruction error, which is also its score.

    :class:`Autoencoder` is another: Deep SAD's, on LeNet's layers (or an MLP, or an LSTM), with max-pooling, without
    biases or an affine part. Here convolutions are strided, BatchNorms affine and activations ReLU, as in a DCGAN.

    Args:
        common: networks, as in :class:`DCGANAutoencoder`; optimisation, preprocessing and threshold, as in
            :class:`OptimizedDetector`.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and decoder for images of this shape; the decoder's range is that of the preprocessed input."""
        self.encoder = DCGANEncoder(shape, self.latent_dim, self.width, self.kernel_size)
        self.decoder = DCGANGenerator(shape, self.latent_dim, self.width, self.kernel_size, self.preprocess.output)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of the batch."""
        return self.log_loss(self.anomaly_score(batch.x).mean(), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,)."""
        x = self.preprocess(x)
        return reconstruction_error(x, self.decoder(self.encoder(x)))
