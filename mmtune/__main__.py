"""The command `mmtune`, also as `python -m mmtune`."""

from mmtune.allocator import begin_with_huge_pages


def run() -> None:
    """Runs the command line."""
    begin_with_huge_pages()
    from mmtune.cli import main  # not before: what was imported is lost

    main()


if __name__ == "__main__":
    run()
