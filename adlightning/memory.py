"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = (2**26, 2**25)  # older C libraries take 32 MiB at most


def keep_freed_memory() -> None:
    """Let the process keep freed blocks of up to 64 MiB for its next step; nothing where glibc is not the C library.

    glibc gives large blocks back to the system when they are freed, and gets them back in pages of zeros: at every step
    of training for every feature map. MALLOC_MMAP_THRESHOLD_ or MALLOC_TRIM_THRESHOLD_ in the environment come first.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST):
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
