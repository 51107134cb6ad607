"""Strings in twenty scripts, made from a seed: words, marks, digits, white space, code, and what looks like a token."""

import random
import unicodedata

# Name: ranges of code points that its words are made of.
SCRIPTS = {
    "Latin": [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0x100, 0x17F), (0x1E00, 0x1EFF)],
    "Greek": [(0x391, 0x3A9), (0x3B1, 0x3C9), (0x1F00, 0x1FFF)],
    "Cyrillic": [(0x400, 0x4FF)],
    "Arabic": [(0x620, 0x65F), (0x671, 0x6D3)],
    "Hebrew": [(0x591, 0x5BD), (0x5D0, 0x5EA)],
    "Devanagari": [(0x900, 0x963), (0x966, 0x96F)],
    "Bengali": [(0x980, 0x9EF)],
    "Tamil": [(0xB82, 0xBEF)],
    "Thai": [(0xE01, 0xE3A), (0xE40, 0xE5B)],
    "Georgian": [(0x10A0, 0x10FF), (0x1C90, 0x1CBF)],
    "Armenian": [(0x531, 0x556), (0x561, 0x587)],
    "Ethiopic": [(0x1200, 0x137F)],
    "Hangul": [(0xAC00, 0xD7A3), (0x1100, 0x1112), (0x1161, 0x1175)],
    "Hiragana": [(0x3041, 0x3096), (0x3099, 0x309F)],
    "Katakana": [(0x30A0, 0x30FF), (0xFF66, 0xFF9D)],
    "Han": [(0x4E00, 0x9FFF), (0x20000, 0x2A6DF)],
    "Khmer": [(0x1780, 0x17E9)],
    "Tibetan": [(0xF00, 0xFD4)],
    "Emoji": [(0x1F300, 0x1F64F), (0x1F900, 0x1F9FF), (0x2600, 0x26FF)],
    "Mathematical": [(0x1D400, 0x1D7FF), (0x2200, 0x22FF)],
}
_JOINED = ("👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "👨🏿‍🚀", "1️⃣")
_BLANKS = (
    " ",
    " ",
    " ",
    "  ",
    "   ",
    " " * 17,
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\n\n\n\n",
    "\r\n",
    "\r",
    " \n ",
    "\u00a0",
    "\u3000",
)
_BLANKS += ("\u200b", "\u2003", "\u2028", "\x0b", "\x0c", "\ufeffx", "\u0085")
_CODE = (
    "def f(x):\n    return x + 1\n",
    "\tif (a && b) {\n\t\tfoo();\n\t}\n",
    "  - key: value\n    - [1, 2]\n",
    "x=1;y=22;z=3.1415e-9",
)
_DIGITS = ("0", "7", "42", "1234567890", "3.14", "1,000,000", "²³", "½", "Ⅻ")
_MARKS = (
    "!",
    "?",
    "...",
    "--",
    "don't",
    "we'LL",
    "«»",
    "“”",
    "(a)",
    "[/INST]",
    "$%&",
    "a/b\\c",
    "_x_",
    "\x00",
    "\x7f",
    "\ufffd",
)
_COMBINED = ("e\u0301", "a\u0308\u0304", "n\u0303", "o\u0327\u0301\u0302", "\u0301", "Z\u0335\u0322\u0321\u0321\u0318")


def word(rng: random.Random, script: str, few: bool = False) -> str:
    """Returns a word in a script; of few different characters, so that pieces of several can be learned."""
    found = ""
    while len(found) < rng.randrange(1, 9):
        first, last = rng.choice(SCRIPTS[script])
        char = chr(rng.randint(first, min(last, first + 11) if few else last))
        if unicodedata.category(char) not in ("Cn", "Cs", "Co"):
            found += char
    return found


def strings(count: int, looks: tuple[str, ...], seed: int = 0) -> list[tuple[str, str]]:
    """Returns (script, string) as often as asked, scripts in turn.

    Args:
        count: How many.
        looks: What looks like a token, to be put in between.
        seed: The same seed gives the same strings.
    """
    rng = random.Random(seed)
    made = []
    for number in range(count):
        script = list(SCRIPTS)[number % len(SCRIPTS)]
        text = rng.choice(("", "", "", " ", "\n"))
        for _ in range(rng.randrange(1, 12)):
            kind = rng.random()
            if kind < 0.55:
                text += word(rng, script, few=rng.random() < 0.6) + rng.choice(("", " ", " "))
            elif kind < 0.6:
                text += word(rng, rng.choice(list(SCRIPTS)))
            elif kind < 0.72:
                text += rng.choice(_BLANKS)
            else:
                text += rng.choice(rng.choice((_CODE, _DIGITS, _MARKS, _COMBINED, _JOINED, looks, looks)))
        made.append((script, text))
    return made


def corpus(seed: int = 1) -> list[str]:
    """Returns sentences that a vocabulary is trained on: each script's commoner characters, and code."""
    rng = random.Random(seed)
    lines = []
    for _ in range(60):
        for script in SCRIPTS:
            words = [word(rng, script, few=True) for _ in range(4)]
            lines.append(" ".join(words * 2))
    return lines + [*_CODE, *_DIGITS, "the cat sat on the mat, the dog did not"] * 20
