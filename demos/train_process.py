"""The process of a run that the page started: the command line, stopped as by SIGTERM when the page's process ends.

    python -m mmtune.demos.train_process train --task ...

The page holds the other end of standard input. Whatever way it ends, that end is closed.
"""

import os
import signal
import sys
import threading


def main() -> None:
    """Runs the command line that the arguments say."""
    threading.Thread(target=_follow, daemon=True, name="follow the page").start()

    from mmtune.cli import main as command_line

    command_line(sys.argv[1:])


def _follow() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from mmtune.allocator import begin_with_huge_pages

    begin_with_huge_pages()
    main()
