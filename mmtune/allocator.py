"""glibc's allocator, told to keep the large buffers that XLA asks for anew in every step on a CPU.

By default each of them is mapped and unmapped, and its pages are cleared, every time: a fifth of the step and more.
"""

import ctypes
import os

SWITCH = "MMTUNE_MALLOC"

# mallopt's parameters, from glibc's malloc.h.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_SETTINGS = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 256 * 2**20))


def tune_malloc() -> bool:
    """Tunes malloc for this process and returns whether it did.

    To be called before any other thread begins, hence before JAX is imported: a thread keeps the arena that it began
    with, and in all arenas but the first one large buffers are mapped whatever the settings.

    Does nothing without glibc, when the environment tunes malloc itself (MALLOC_*), or with MMTUNE_MALLOC=0.
    """
    if os.environ.get(SWITCH) == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    accepted = [mallopt(parameter, value) for parameter, value in _SETTINGS]  # all of them, whatever one returns
    return all(accepted)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False
