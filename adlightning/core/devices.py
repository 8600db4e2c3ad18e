"""Whether there is a GPU, asked at each step of an optimiser."""

from __future__ import annotations

import ctypes
import os

import torch

ASK_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def ask_at_little_cost() -> None:
    """Where neither a GPU nor NVIDIA's management library is there, let torch ask CUDA alone.

    torch's optimisers ask at each step. Lightning has them ask that library first, so that who looks for a GPU may fork
    afterwards. Where it is missing torch asks CUDA in any case, and looking for it takes 50 microseconds each time.
    """
    if torch.cuda.is_available():
        return
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        os.environ[ASK_NVML] = "0"
