"""Standard streams that whoever started this process has closed."""

import os
import sys


def open_standard_streams() -> None:
    """Opens standard input, output and error where they are closed, to nowhere.

    Otherwise the next socket or pipe takes the number of such a stream, and what is printed ends up in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - it stays open
