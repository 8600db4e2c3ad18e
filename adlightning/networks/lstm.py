"""One-layer LSTMs for series: DROCC, Appendix E.4, and the autoencoder that it names, Srivastava et al. (2015).

| data                    | (T, D)  | rep_dim |
|-------------------------|---------|---------|
| epileptic seizures      | 178, 1  | 128     |
| audio commands          | 98, 32  | 512     |

DROCC and DROCC-LF have biases (`bias=True`). Deep SVDD and Deep SAD have none: a bias is a way to the centre that does
not look at the input (Ruff et al., 2018, Proposition 2). The gates and the hidden state of an LSTM stay bounded, which
Proposition 3 warns of; the DROCC paper runs both methods on one all the same.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from adlightning.networks.mlp import Output, check_positive, output_activation, require_samples_of


def hidden_states(recurrent: nn.LSTM | nn.RNN, x: Tensor) -> Tensor:
    """The states (B, T, H) of a recurrent network over series (B, T, D).

    Under autocast on a CPU without AVX-512, for which oneDNN has no LSTM in bfloat16, they are computed in float32.
    """
    lacking = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    lacking = lacking and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    with torch.autocast("cpu", enabled=False) if lacking else nullcontext():
        states: Tensor = recurrent(x.float() if lacking else x)[0]
    return states


class LSTMEncoder(nn.Module):
    """Series (B, T, D) of any length T >= 1 to codes (B, rep_dim): the last hidden state, within (-1, 1).

    Args:
        shape: (T, D) of a series.
        rep_dim: size of the hidden state.
        bias: the LSTM has biases.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], rep_dim: int = 32, bias: bool = False) -> None:
        super().__init__()
        require_samples_of(2, "series (T, D)", shape, "LSTMEncoder")
        check_positive("shape", shape)
        check_positive("rep_dim", (rep_dim,))
        self._mirrored = partial(LSTMDecoder, (shape[0], shape[1]), rep_dim)
        self.lstm = nn.LSTM(shape[1], rep_dim, bias=bias, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, rep_dim) of series (B, T, D)."""
        return hidden_states(self.lstm, x)[:, -1]

    def mirrored(self, output: Output) -> LSTMDecoder:
        """A decoder (B, rep_dim) to (B, T, D) of the same sizes, without biases."""
        return self._mirrored(output)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module, but not of the LSTM.

        Without dropout it computes the same in both modes, and cuDNN differentiates it in training mode only: a search
        for adversarial input in eval mode would fail.
        """
        super().train(mode)
        self.lstm.train()
        return self


class LSTMDecoder(nn.Module):
    """Codes (B, rep_dim) to series (B, T, D): an LSTM that sees the code at each step, then a Linear at each step.

    Srivastava et al. (2015), Section 2.2, without the future predictor of their composite model: the decoder is
    unconditioned (it never sees what it has put out) and starts with the last time step. DROCC names that paper and
    leaves open how the code enters; here it is the input of each step, since a last hidden state alone (without the
    cell state, which they hand over too) is what the one-class objectives represent a series by.

    Args:
        shape: (T, D) of a series.
        rep_dim: size of the code, and of the LSTM's hidden state.
        output: `sigmoid` for series in [0, 1], `tanh` for [-1, 1], `linear` for unbounded ones.

    Raises:
        ValueError: a size below 1, or an unknown output.
    """

    def __init__(self, shape: tuple[int, int], rep_dim: int, output: Output = "linear") -> None:
        super().__init__()
        check_positive("shape", shape)
        check_positive("rep_dim", (rep_dim,))
        self.n_steps = shape[0]
        self.lstm = nn.LSTM(rep_dim, rep_dim, bias=False, batch_first=True)
        self.out = nn.Sequential(nn.Linear(rep_dim, shape[1], bias=False), output_activation(output))

    def forward(self, code: Tensor) -> Tensor:
        """Series (B, T, D) from codes (B, rep_dim)."""
        hidden = hidden_states(self.lstm, code.unsqueeze(1).expand(-1, self.n_steps, -1))
        backwards: Tensor = self.out(hidden)
        return torch.flip(backwards, (1,))
