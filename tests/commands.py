"""Calling the command line within a test."""

import pytest

from mmtune.cli import main


def run(capsys, *words):
    """Returns the exit code, and what was printed to standard output and to standard error."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return left.value.code or 0, said.out, said.err
