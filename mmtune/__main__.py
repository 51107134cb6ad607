"""The command `mmtune`, also as `python -m mmtune`."""

from mmtune.allocator import begin_with_huge_pages
from mmtune.cli import main


def run() -> None:
    """Runs the command line."""
    begin_with_huge_pages()
    main()


if __name__ == "__main__":
    run()
