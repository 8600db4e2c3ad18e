"""The network of GOAD's released code for tables: linear layers without biases (`netC1`, `netC5`)."""

from __future__ import annotations

from itertools import chain, pairwise, repeat

from torch import Tensor, nn

from adlightning.networks.mlp import check_positive, require_samples_of

LEAKINESS = 0.2


class GOADEncoder(nn.Module):
    """Mapped samples (B, D) to embeddings (B, rep_dim): linear layers without biases, leaky ReLUs of slope 0.2 between.

    Args:
        shape: (D,) of a mapped sample.
        rep_dim: dimension of the embeddings, and width of the hidden layers (`ndf` in the released code).
        n_layers: linear layers: 1 for arrhythmia and thyroid in the released code (`netC1`), else 5 (`netC5`).

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], rep_dim: int = 8, n_layers: int = 1) -> None:
        super().__init__()
        require_samples_of(1, "mapped samples (D,)", shape, "GOADEncoder")
        check_positive("rep_dim", (rep_dim,))
        check_positive("n_layers", (n_layers,))
        self.n_layers = n_layers
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(chain([shape[0]], repeat(rep_dim, n_layers))):
            layers += [nn.LeakyReLU(LEAKINESS), nn.Linear(n_in, n_out, bias=False)]
        self.net = nn.Sequential(*layers[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (B, rep_dim)."""
        z: Tensor = self.net(x)
        return z
