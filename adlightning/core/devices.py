"""Whether there is a GPU, asked at each step of an optimiser."""

from __future__ import annotations

import os

import torch

ASK_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def ask_at_little_cost() -> None:
    """Where there is no GPU, let torch ask CUDA alone, which it does in any case in the end.

    torch's optimisers ask at each step. Lightning has them ask NVIDIA's management library first, so that who looks for
    a GPU may fork afterwards. Where that library is missing, looking for it takes 50 microseconds each time.
    """
    if not torch.cuda.is_available():
        os.environ[ASK_NVML] = "0"
