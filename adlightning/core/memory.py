"""What the C library does with freed memory, and what libraries say when there is none left."""

from __future__ import annotations

import ctypes
import errno
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


_SAYING = (
    "defaultcpuallocator",  # torch on a CPU
    "out of memory",  # torch on a GPU and on Apple's, CUDA itself, pandas' parser
    "alloc_failed",  # cuBLAS and cuDNN
    "storage size calculation overflowed",  # torch, of more bytes than can be counted
    "cannot allocate memory",  # torch's shared memory and memory maps
    "memoryerror in dataloader worker",
    "bad allocation",  # ONNX Runtime
)
_LONGEST = 200  # characters of a library's own words


def lacks_memory(error: BaseException) -> bool:
    """Whether a library's error means that memory is full: of the device, or of the machine."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    said = str(error).lower()
    return bool(names & {"RuntimeError", "ParserError"}) and any(words in said for words in _SAYING)


def memory_is_full(error: BaseException) -> str:
    """The beginning of a message, with what the library says of it."""
    text = str(error)
    said = (text.partition("DefaultCPUAllocator: ")[2] or text).strip().partition("\n")[0][:_LONGEST]
    return f"memory is full ({said})" if said else "memory is full"
