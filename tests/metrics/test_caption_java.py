"""METEOR's program as it is talked to, and what is said where METEOR and SPICE cannot be had; no Java is needed."""

import importlib
import os
import re
import sys

import pytest

from mmtune.metrics.caption_java import java_scores

FOUND = [["a", "dog"], ["two", "cats"]]
RIGHT = [[["a", "dog", "runs"], ["the", "dog"]], [["two", "|||", "cats"]]]

# Answers as METEOR does: a line for each, then one for the whole; what it was told stands in a file.
SPEAKS = """
import sys
told = open(sys.argv[-1] + "/told", "a")
for line in sys.stdin:
    told.write(line)
    told.flush()
    parts = line.rstrip("\\n").split(" ||| ")
    if parts[0] == "SCORE":
        print(len(parts), flush=True)
    else:
        for part in parts[1:]:
            print(int(part) / 10)
        print(0.625, flush=True)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that stands for pycocoevalcap, with METEOR's jar and SPICE's own, but not its models."""
    for jar in ("meteor/meteor-1.5.jar", "spice/spice-1.0.jar"):
        file = tmp_path / "there" / "pycocoevalcap" / jar
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "there")])
    for name in [name for name in sys.modules if name.split(".")[0] == "pycocoevalcap"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    yield tmp_path / "there" / "pycocoevalcap"
    for name in [name for name in sys.modules if name.split(".")[0] == "pycocoevalcap"]:
        del sys.modules[name]


def java(tmp_path, monkeypatch, body):
    """Puts a program in the place of Java."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "speaks.py").write_text(SPEAKS)
    (folder / "java").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def test_meteor_is_asked_caption_by_caption_and_for_the_whole(package, tmp_path, monkeypatch):
    here = tmp_path / "bin"
    body = f'echo "$@" > {here}/words; pwd >> {here}/words; exec {sys.executable} {here}/speaks.py {here}'
    folder = java(tmp_path, monkeypatch, body)
    assert java_scores(FOUND, RIGHT) == {"METEOR": 0.625}
    assert (folder / "told").read_text().splitlines() == [
        "SCORE ||| a dog runs ||| the dog ||| a dog",
        "SCORE ||| two cats ||| two cats",
        "EVAL ||| 4 ||| 3",
    ]
    words, place = (folder / "words").read_text().splitlines()
    assert words == "-jar -Xmx2G meteor-1.5.jar - - -stdio -l en -norm"
    assert place == str(package / "meteor")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("echo 'Error: no memory' >&2; exit 1", "its Java program failed: Error: no memory", id="at once"),
        pytest.param("read line; echo 4; echo broken >&2; exit 3", "its Java program failed: broken", id="half way"),
        pytest.param("exit 3", "its Java program failed: it ended with exit code 3", id="without a word"),
        pytest.param("while read line; do echo what; done", "could not convert string to float: 'what'", id="nonsense"),
    ],
)
def test_a_program_that_fails_is_a_warning_and_nothing_waits(package, tmp_path, monkeypatch, caplog, body, words):
    del package
    java(tmp_path, monkeypatch, body)
    assert java_scores(FOUND, RIGHT) == {}
    assert words in caplog.text


def test_spice_without_its_language_models_is_one_sentence(package, tmp_path, monkeypatch, caplog):
    java(tmp_path, monkeypatch, "exit 1")
    java_scores(FOUND, RIGHT)
    (said,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("SPICE")]
    assert said == (
        "SPICE is left out: expected stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar in the package "
        f"pycocoevalcap ({package}), found none: `python -m pycocoevalcap.spice.get_stanford_models` fetches SPICE's "
        "language models once"
    )
    assert not (package / "spice" / "lib").exists()


@pytest.mark.parametrize(
    ("score", "expected", "words"),
    [
        pytest.param("0.375", {"SPICE": 0.375}, "", id="a score"),
        pytest.param("float('nan')", {}, "SPICE is left out: .* no number for one of the captions", id="no number"),
        pytest.param("1 / 0", {}, "SPICE is left out: its Java program failed: division by zero", id="a fault"),
    ],
)
def test_spice_through_its_wrapper(package, tmp_path, monkeypatch, caplog, score, expected, words):
    java(tmp_path, monkeypatch, "exit 1")
    (package / "spice" / "lib").mkdir()
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (package / "spice" / "lib" / name).touch()
    (package / "spice" / "spice.py").write_text(
        "class Spice:\n"
        "    def compute_score(self, right, found):\n"
        "        assert found == {0: ['a dog'], 1: ['two cats']} and right[0] == ['a dog runs', 'the dog']\n"
        f"        return {score}, []\n"
    )
    assert java_scores(FOUND, RIGHT) == expected
    assert re.search(words, caplog.text)


def test_without_the_package(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    java(tmp_path, monkeypatch, "exit 1")
    assert java_scores(FOUND, RIGHT) == {}
    wanted = "is left out: expected the package pycocoevalcap, which is not installed: pip install pycocoevalcap"
    assert [record.getMessage() for record in caplog.records] == [f"METEOR {wanted}", f"SPICE {wanted}"]
