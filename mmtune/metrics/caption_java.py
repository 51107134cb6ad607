"""METEOR and SPICE, which exist as Java programs only: pycocoevalcap's classes, where they can run."""

import importlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

_SCORERS = {"METEOR": ("meteor.meteor", "Meteor"), "SPICE": ("spice.spice", "Spice")}

# SPICE fetches its language models when it is first used; that is the user's to do, not ours.
_SPICE_MODELS = "spice/lib/stanford-corenlp-3.6.0-models.jar"


def java_scores(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """Returns METEOR and SPICE, each in 0..1, or only what can be computed here; a warning says what is left out.

    Args:
        hypotheses: The tokens of one caption a picture.
        references: The tokens of the right captions of each picture, at least one each.
    """
    found = {index: [" ".join(tokens)] for index, tokens in enumerate(hypotheses)}
    right = {index: [" ".join(tokens) for tokens in one] for index, one in enumerate(references)}
    scores = {}
    for name, (module, attribute) in _SCORERS.items():
        if reason := _missing(name):
            _log.warning("%s is left out: %s", name, reason)
            continue
        scorer = getattr(importlib.import_module(f"pycocoevalcap.{module}"), attribute)()
        try:
            scores[name] = float(scorer.compute_score(right, found)[0])
        except Exception as error:  # whatever a Java program that fails makes of pycocoevalcap
            _log.warning("%s is left out: its Java program failed: %r", name, error)
    return scores


def _missing(name: str) -> str | None:
    """Returns why a score cannot be computed here, or None."""
    if shutil.which("java") is None:
        return "expected Java (a command java), found none"
    try:
        package = importlib.import_module("pycocoevalcap")
    except ImportError:
        return "expected the package pycocoevalcap, which is not installed"
    if name == "SPICE" and not any((Path(place) / _SPICE_MODELS).is_file() for place in package.__path__):
        return "its language models are not there; run pycocoevalcap.spice.get_stanford_models once"
    return None
