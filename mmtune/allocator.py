"""glibc's allocator, told to make the large buffers cheap that XLA asks for anew in every step on a CPU.

By default each of them is mapped and unmapped, and its small pages are cleared, every time: a fifth of the step and
more. Huge pages end that and cost no memory, but glibc takes the word for them only when a process begins: commands
begin anew with it. In a process that is under way malloc can be told to keep large buffers: as fast, but it holds
several times the memory of a step, since glibc seldom fits an aligned buffer into the hole that it left.
"""

import ctypes
import os
import sys
from pathlib import Path

SWITCH = "MMTUNE_MALLOC"

# mallopt's parameters, from glibc's malloc.h.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_SETTINGS = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 256 * 2**20))

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_with_huge_pages() -> None:
    """Begins this command anew, in the same process, with large buffers in huge pages, where they are given on request.

    Does nothing where the kernel gives none or gives them unasked, nor where `tune_malloc` does nothing.
    """
    if not _may_tune() or "[madvise]" not in _kernel_gives():
        return
    tunables = [os.environ.get(TUNABLES, ""), f"{HUGE_PAGES}=1"]
    environment = os.environ | {TUNABLES: ":".join(word for word in tunables if word)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def tune_malloc() -> bool:
    """Tunes malloc for this process and returns whether it did.

    To be called before any other thread begins, hence before JAX is imported: a thread keeps the arena that it began
    with, and in all arenas but the first one large buffers are mapped whatever the settings.

    Does nothing without glibc, when the environment tunes malloc itself (MALLOC_*), with MMTUNE_MALLOC=0, or where
    large buffers lie in huge pages.
    """
    if not _may_tune() or "[always]" in _kernel_gives():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    accepted = [mallopt(parameter, value) for parameter, value in _SETTINGS]  # all of them, whatever one returns
    return all(accepted)


def _may_tune() -> bool:
    """Whether glibc's malloc is at hand and the environment neither tunes it nor asks to leave it alone."""
    tuned = any(name.startswith("MALLOC_") for name in os.environ) or HUGE_PAGES in os.environ.get(TUNABLES, "")
    return not tuned and os.environ.get(SWITCH) != "0" and _is_glibc()


def _kernel_gives() -> str:
    """Returns the kernel's choices about huge pages, the one that holds in brackets; nothing where there are none."""
    try:
        return _KERNEL.read_text()
    except OSError:
        return ""


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False
