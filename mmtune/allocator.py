"""glibc's allocator, told to keep the large buffers that XLA asks for anew in every step on a CPU.

By default each of them is mapped and unmapped, and its pages are cleared, every time: a fifth of the step and more.
"""

import ctypes
import os
import platform

SWITCH = "MMTUNE_MALLOC"

# mallopt's parameters, from glibc's malloc.h.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_SETTINGS = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 * 2**20))


def tune_malloc() -> bool:
    """Tunes malloc for this process and returns whether it did.

    Does nothing without glibc, when the environment tunes malloc itself (MALLOC_*), or with MMTUNE_MALLOC=0.
    """
    if os.environ.get(SWITCH) == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    accepted = [mallopt(parameter, value) for parameter, value in _SETTINGS]  # all of them, whatever one returns
    return all(accepted)
