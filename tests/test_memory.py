import os
import subprocess
import sys

import pytest

FAULTS = """
import ctypes
import resource
import numpy as np
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages, so that pages can be counted
from adlightning.core.memory import keep_freed_memory
keep_freed_memory()
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(4_000_000)  # 31 MiB: within what older C libraries take
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("chosen", [False, True])
def test_a_freed_block_is_used_again(chosen: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    if chosen:
        environment["MALLOC_TRIM_THRESHOLD_"] = "131072"
    ended = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    faults = [int(line) for line in ended.stdout.split()]
    pages = 4_000_000 * 8 // os.sysconf("SC_PAGE_SIZE")
    assert (faults[2] > pages / 2) if chosen else (faults[2] < pages / 10)
