"""`python -m mmtune`, for machines on which the console script is not on the path."""

from mmtune.cli import main

main()
