"""The findings as a page of Markdown."""

from collections.abc import Mapping
from datetime import date

from benchmarks.fidelity.catalogue import SUBJECTS, reason
from benchmarks.fidelity.finding import Finding

_HEAD = """# Fidelity: the same question, three answers

Some faults raise no error: the loss falls, the answers read well, and the numbers are wrong. Each row asks one question
of a library that many people use, of a reference that does not depend on it, and of mmtune. Every number was measured
by the script that wrote this page; models are small and random, so that anyone can ask again in minutes:

```sh
uv run --extra test --extra peers python -m benchmarks.fidelity             # asks everything, writes this page
uv run --extra test --extra peers python -m benchmarks.fidelity NAME ...    # prints some, by names of the last column
```

`supervision` brings more than is wanted here: `uv pip install --no-deps supervision pydeprecate defusedxml
opencv-python-headless`. CIDEr's tokenizer needs Java. `pytest -m peers tests/peers/test_peer_fidelity.py` asks
everything again and fails where mmtune's answer is not the reference's.

These libraries are good, and most of mmtune stands on them; a fault that a release has mended is marked so when this
page is written again. Where a peer "raises", it is not silent, but the model cannot be used. How likely an answer is
stands in nats per token.
"""

_UNSHOWN = """## Not in the tables

- How far real checkpoints are off: the weights of Gemma, PaliGemma and Llama need an account, so the models here are
  random ones of the same architecture, whose numbers say that something is wrong and not how much it costs.
- KerasHub's layout for several devices refuses a model with one key and value head: that needs more devices than one,
  and says so by an error.
- KerasHub's `fit` on a `PyDataset`, its Gemma 3 preprocessor and its metrics of texts need TensorFlow, and say so.
- Whether Gemma 2's window counts within PaliGemma 2's prefix: transformers says no and KerasHub yes; at the published
  sizes it can matter at 896 pixels only, and a random model cannot say who is right.
"""


def render(findings: Mapping[str, Finding], day: date, setting: str) -> str:
    """Returns the page.

    Args:
        findings: By name, all of the catalogue.
        day: Of the run.
        setting: Versions and machine, in words.
    """
    parts = [_HEAD, f"Run on {day:%d %B %Y}: {setting}.\n"]
    for subject, asks in SUBJECTS.items():
        lines = ["| what is asked | the peer | the reference | mmtune | run |", "|---|---|---|---|---|"]
        lines += [row(ask.__name__, findings[ask.__name__]) for ask in asks]
        reasons = [f"- `{ask.__name__}`: {reason(ask)}" for ask in asks]
        parts.append("\n".join([f"## {subject}", "", *lines, "", *reasons, ""]))
    return "\n".join([*parts, _UNSHOWN])


def row(name: str, found: Finding) -> str:
    """Returns a finding as a row of a table."""
    peer = f"{found.peer} {found.version}: **{found.shown(found.peer_value)}**"
    if found.right(found.peer_value):
        peer += f" (mended in {found.version})"
    reference = f"{found.shown(found.reference_value)} ({found.reference})"
    return f"| {found.question} | {peer} | {reference} | {found.shown(found.ours)} | `{name}` |"
