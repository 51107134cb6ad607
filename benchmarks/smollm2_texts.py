"""Texts on which vocabularies fall apart: code with its indentation, numbers, white space, other scripts."""

import random

_WORDS = (
    "the", "a", "Total", "value", "don't", "we'll", "IT'S", "naïve", "über", "x_1", "self.items", "def", "return",
    "HTTP404", "3rd", "v2", "mp3", "日本語", "Привет", "مرحبا", "😀", "e.g.", "C++", "#1", "$5", "100%", "a/b",
)  # fmt: skip
_NUMBERS = (
    "0",
    "7",
    "42",
    "1999",
    "2024-11-25",
    "3.14159",
    "1,000,000",
    "0x1F",
    "1e-05",
    "²",
    "½",
    "٣",
    "Ⅷ",
    "-12",
    "007",
)
_SPACES = (" ", " ", " ", "  ", "    ", "\t", "\n", "\n\n", "\n    ", "\n        ", "\r\n", " \n", "\u00a0", "\u3000")
_MARKS = (",", ".", "!", "?", ":", ";", "(", ")", "[", "]", "{", "}", "'", '"', "=", "==", "->", "...", "--", "")
_LINES = (
    "def f{n}(x, y={n}):",
    "    if x > {n}:",
    "        return x[{n}] + {n}.{n}",
    "\tfor i in range({n}, {n}):",
    "\t\tprint(f'{i:{n}d}')  # line {n}",
    "      {n}.  item {n}, page {n}-{n}",
    "| {n} | {n}.{n} |   {n} |",
    "",
    "  ",
    "const a{n} = [{n},{n}, {n}];",
    "{n}:{n}:{n} ERROR   [worker-{n}] took {n}ms",
)


def texts(count: int, seed: int = 0) -> list[str]:
    """Returns texts, half of them lines of code, tables and logs, half words, numbers and white space in any order."""
    rng = random.Random(seed)
    return [_code(rng) if place % 2 else _mixed(rng) for place in range(count)]


def _code(rng: random.Random) -> str:
    lines = [rng.choice(_LINES) for _ in range(rng.randint(1, 8))]
    return "\n".join(" " * rng.choice((0, 0, 0, 1, 3, 4, 7)) + _filled(line, rng) for line in lines)


def _filled(line: str, rng: random.Random) -> str:
    parts = line.split("{n}")
    return "".join(part + str(rng.randrange(10 ** rng.randint(1, 6))) for part in parts[:-1]) + parts[-1]


def _mixed(rng: random.Random) -> str:
    kinds = (_WORDS, _NUMBERS, _SPACES, _MARKS)
    return "".join(rng.choice(rng.choices(kinds, (4, 3, 4, 2))[0]) for _ in range(rng.randint(3, 60)))
