"""Generated scenes as the reader gives them."""

from pathlib import Path

from mmtune.data.dataset import FaultLog
from mmtune.data.reader import Source
from mmtune.data.shapes import Shapes

SIZE = 120
"""Pixels of a side: small, so that many scenes can be looked at."""


def records(task=None, split=None, need_masks=False, **options):
    source = Source(Path("shapes"), split, {k: str(v) for k, v in options.items()}, task, need_masks=need_masks)
    log = FaultLog()
    content = Shapes().read(source, log)
    assert not log.faults
    return content
