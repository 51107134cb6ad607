"""Every finding of docs/fidelity.md, asked again: ours is the reference's answer."""

import shutil

import pytest

for package in ("torch", "transformers", "peft", "pycocoevalcap"):
    pytest.importorskip(package)

from benchmarks.fidelity.catalogue import FINDINGS

pytestmark = pytest.mark.peers

NEEDS = {"box_edges": "supervision", "box_labels": "supervision"}


@pytest.mark.parametrize("name", FINDINGS)
def test_ours_is_the_reference(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if name == "uncut_captions" and shutil.which("java") is None:
        pytest.skip("there is no Java to run pycocoevalcap's tokenizer with")
    found = FINDINGS[name]()
    assert found.right(found.ours), (found.ours, found.reference_value, found.tolerance)
