"""The Penn Treebank tokenizer by which captions are scored, in Python.

pycocoevalcap writes all captions into one file, a line each, hands it to a Java program (`PTBTokenizer -preserveLines
-lowerCase` of Stanford CoreNLP 3.4.1), and drops punctuation from what comes back. The functions here give the same
tokens without Java. docs/captioning.md lists what differs.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from mmtune.metrics.ptb_chars import shape_of
from mmtune.metrics.ptb_rules import longest
from mmtune.metrics.ptb_words import BEFORE_NUMBER, EARLY, EARLY_LOWER, LATE, LATE_CAPITALISED, LATE_LOWER, MERGED

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that captions are scored without. pycocoevalcap's list has -LRB- and the like as well, but after lower-casing
its brackets are -lrb-, and stay."""

_LINE_ENDS = re.compile("[\n\r\v\f\x85\u2028\u2029]")

# Most of a caption can be cut without looking at what surrounds it: words between spaces, punctuation behind a word.
_WORD = re.compile(r" +|[.,](?=[ \n]|\Z)|([A-Za-z]+)(?:(?=[ \n]|\Z)|([.,])(?=[ \n]|\Z))")
_PIECE = re.compile("[A-Za-z'-]+(?=[ \n])")
_SPECIAL = frozenset(" ".join([LATE, LATE_CAPITALISED, LATE_LOWER, EARLY, EARLY_LOWER, BEFORE_NUMBER, *MERGED]).split())


def tokenize(captions: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the lower-case tokens of captions as pycocoevalcap's PTBTokenizer gives them.

    As there, a caption that ends with a single letter and a dot, or an abbreviation like "no.", is cut with an eye on
    the beginning of the next: the order of captions can matter, if rarely. Line ends within a caption count as spaces.

    >>> tokenize(["A man's dog can't swim.", "Two dogs, (tri-colored)"])
    [('a', 'man', "'s", 'dog', 'ca', "n't", 'swim'), ('two', 'dogs', '-lrb-', 'tri-colored', '-rrb-')]

    Args:
        captions: In the order in which they are scored.
    """
    text = "\n".join(_LINE_ENDS.sub(" ", caption) for caption in captions)
    shape = shape_of(text)
    lines: list[tuple[str, ...]] = []
    start = 0
    for caption in text.split("\n") if captions else ():
        lines.append(tuple(_tokens(text, shape, start, start + len(caption))))
        start += len(caption) + 1
    return lines


def ptb_tokens(text: str) -> tuple[str, ...]:
    """Returns the tokens of one text; see `tokenize`."""
    return tokenize([text])[0]


def _tokens(text: str, shape: str, start: int, stop: int) -> list[str]:
    """Returns the tokens of the line from `start` to `stop`."""
    tokens: list[str] = []
    while start < stop:
        found = _WORD.match(shape, start)
        if found is not None:
            word, dot = found.groups()
            if word is None:
                start = found.end()
                continue
            # A letter with a dot is an initial
            if word.lower() not in _SPECIAL and not (dot == "." and len(word) == 1):
                tokens.append(word.lower())
                start = found.end()
                continue
        piece = _PIECE.match(shape, start)
        if piece is not None:
            tokens.extend(_piece(text[start : piece.end()]))
            start = piece.end()
            continue
        end, rewrite = longest(shape, start)
        tokens.extend(_kept(rewrite(text[start:end])))
        start = end
    return tokens


@lru_cache(maxsize=1 << 16)
def _piece(text: str) -> tuple[str, ...]:
    """Returns the tokens of letters, hyphens and apostrophes with a space or the end of the line behind them."""
    shape, start, tokens = f"{text}\n", 0, []
    while start < len(text):
        end, rewrite = longest(shape, start)
        tokens.extend(_kept(rewrite(text[start:end])))
        start = end
    return tuple(tokens)


def _kept(tokens: Iterable[str]) -> Iterator[str]:
    for token in tokens:
        if token and token not in PUNCTUATION:
            yield token.replace(" ", "\xa0").lower()
