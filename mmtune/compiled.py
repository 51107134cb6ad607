"""Compiled programs, kept in the user's cache directory: a second run of the same shapes begins at once."""

import os

from mmtune.files import cache_folder

SWITCH = "MMTUNE_COMPILED"

# JAX reads these when it is imported. What was not used for longest makes room.
_FOLDER, _MOST_BYTES = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"
_GIB = 2**30


def keep_programs() -> bool:
    """Tells JAX where to keep what it compiles, and returns whether it did; to be called before JAX is imported.

    Does nothing when the environment names a folder itself (JAX_COMPILATION_CACHE_DIR), or with MMTUNE_COMPILED=0.
    """
    if os.environ.get(SWITCH) == "0" or _FOLDER in os.environ:
        return False
    os.environ[_FOLDER] = str(cache_folder("compiled"))
    os.environ.setdefault(_MOST_BYTES, str(4 * _GIB))
    return True
