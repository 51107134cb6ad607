"""The rules by which the tokenizer of captions cuts a text: what they match, what becomes of it.

At each place the rule that matches most wins, the first among equals. Where a rule looks ahead, what it looks at
counts for its length but stays in the text: such rules have one group, which is the token. The rules look at the
shapes of the characters (`mmtune.metrics.ptb_chars`), not at the characters themselves.

They were worked out by comparing tokens with those of the Java program on some millions of short texts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mmtune.metrics import ptb_words
from mmtune.metrics.ptb_chars import (
    APOSTROPHE,
    BACKQUOTE,
    CLOSING,
    DASH,
    DIGIT,
    EURO,
    HYPHEN,
    LETTER,
    MARK,
    NOTHING,
    OPENING,
    SMALL,
    WIDE_SPACE,
)

Rewrite = Callable[[str], tuple[str, ...]]
"""From the characters of a match to its tokens."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is matched, and what becomes of it."""

    pattern: re.Pattern[str]
    rewrite: Rewrite


def nothing(text: str) -> tuple[str, ...]:
    """Leaves the match out: white space, and punctuation that captions are scored without."""
    del text
    return ()


def _same(text: str) -> tuple[str, ...]:
    return (text.replace(_SOFT, ""),)


def _raw(text: str) -> tuple[str, ...]:
    return (text,)


def _as(token: str) -> Rewrite:
    return lambda _: (token,)


def _plain_apostrophe(text: str) -> tuple[str, ...]:
    for quote in "\u2019\x92":
        text = text.replace(quote, "'")
    for quote in "\u2018\u201b\x91":
        text = text.replace(quote, "`")
    return (text.replace("&apos;", "'"),)


def _named_brackets(text: str) -> tuple[str, ...]:
    return (text.replace("(", "-lrb-").replace(")", "-rrb-"),)


def _plain_ampersand(text: str) -> tuple[str, ...]:
    return (re.sub("&amp;", "&", text, flags=re.IGNORECASE),)


def _in_two(text: str) -> tuple[str, ...]:
    length = ptb_words.MERGED[text.lower()]
    return text[:length], text[length:]


def _quotes(text: str) -> tuple[str, ...]:
    return ("".join(_QUOTES[quote] for quote in text),)


def _single(text: str) -> tuple[str, ...]:
    return (_SINGLE.get(text, text),)


_SOFT = "\xad"  # a soft hyphen
_QUOTES = {
    **dict.fromkeys("`\u2018\u201b\x91\u2039", "`"),
    **dict.fromkeys("'\u2019\x92\u203a", "'"),
    **dict.fromkeys("\u201c\x93«", "``"),
    **dict.fromkeys("\u201d\x94»", "''"),
}
_SINGLE = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "¢": "cents",
    "£": "#",
    **dict.fromkeys("\x80¤₠€", "$"),
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
}


def _either(words: str) -> str:
    """Returns a pattern of words in any case; of a word and its beginning the longer is tried first."""
    return f"(?i:{'|'.join(sorted(words.split(), key=len, reverse=True))})"


def _capitalised(words: str) -> str:
    return "|".join(f"{word.capitalize()}|{word.upper()}" for word in words.split())


def _lower(words: str) -> str:
    return "|".join(f"[{word[0]}{word[0].upper()}]{word[1:]}" for word in words.split())


# Characters, to stand in brackets.
_LETTER = f"A-Za-z{LETTER}"
_NUMERAL = f"0-9{DIGIT}"
_ALNUM = f"{_LETTER}{_NUMERAL}"
_WORDLY = f"{_LETTER}{MARK}{_SOFT}"
_SPACE = f" \t\xa0{WIDE_SPACE}"
_SPACES = f"{_SPACE}\n"

# Apostrophes: the real ones, and with the backquotes that people write for them.
_ENTITY = "&(?i:apos);"
_APOSTROPHE = f"(?:['{APOSTROPHE}]|{_ENTITY})"
_ANY_APOSTROPHE = f"(?:['{APOSTROPHE}{BACKQUOTE}`]|{_ENTITY})"
_AUXILIARY = "(?i:[msd]|re|ve|ll)"

_WORD = f"[{_WORDLY}][{_WORDLY}{_NUMERAL}]*(?:[.!?][{_WORDLY}][{_WORDLY}{_NUMERAL}]*)*"
_PART = f"(?:[dDoOlL]{_ANY_APOSTROPHE}[{_ALNUM}])?[{_ALNUM}]+"
_COMPOUND = f"{_PART}(?:[-_{HYPHEN}]{_PART})*"
_INITIALS = r"(?:[A-Za-z]\.){2,}"
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,{_SOFT}]*(?:-(?:{_INITIALS}|[A-Za-z0-9{_SOFT}]+))+"
_DIGITS = f"[{_NUMERAL}](?:{_SOFT}?[{_NUMERAL}])*"

_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE = rf"{_NAME}(?: *= *(?:\"[^\"\n]*\"|'[^'\n]*'))?"
_TAG = rf"(?:<{_NAME}(?: +{_ATTRIBUTE})* *(?:/ *)?>|</{_NAME} *>|<[!?][A-Za-z-][^>\n]*>)"

_NO_URL = ' \t\n"<>|(){}'
_NO_HOST = ' \t\n"<>|.!?(){},'
_PATH = rf'(?:/[^ \t\n"<>|()]+[^{_NO_HOST}-])?'
_NO_MAIL = f"{_NO_URL}\xa0"

_LATE = (
    rf"(?:(?i:ph|ed)\.[dD]|{_either(ptb_words.LATE)}|{_capitalised(ptb_words.LATE_CAPITALISED)}"
    rf"|{_lower(ptb_words.LATE_LOWER)})\."
)
_STARTER = rf"(?:{_TAG}|{_capitalised(ptb_words.STARTERS)}|(?:Mr|MR|Ms|MS)\.)"
_CURLY = f"{APOSTROPHE}{BACKQUOTE}\u2039\u203a{OPENING}{CLOSING}"
_EYE = "'<=>^x~"

_RULES: tuple[tuple[str, Rewrite], ...] = (
    # Tags and entities
    (_TAG, _raw),
    ("&(?:#[0-9]+|(?i:ht|ur|lr|tl|qc|ql|qr|odq|cdq));", _raw),
    ("&(?i:nbsp);", nothing),
    ("&(?i:lt);", _as("<")),
    ("&(?i:gt);", _as(">")),
    ("&(?i:amp);", _as("&")),
    ("&(?:quot|apos|(?i:ndash|mdash|md));", nothing),
    ("&(?i:quot|apos);", _raw),
    (r"[cC]\+\+|[cCfF]#", _same),
    # Words, and what is cut off them
    (rf"({_either(' '.join(ptb_words.MERGED))})(?:[^{_ALNUM}{_SOFT}]|\Z)", _in_two),
    ("('[tT])(?i:is|was)", _same),
    (f"([A-Za-z{_SOFT}]*[A-MO-Za-mo-z]{_SOFT}*)[nN]{_ANY_APOSTROPHE}[tT]", _same),
    (f"[nN]{_ANY_APOSTROPHE}[tT]", _plain_apostrophe),
    (f"('{_AUXILIARY})[^A-Za-z]", _same),
    (r"'[msdMSD]\Z", _same),
    (f"(?:{APOSTROPHE}|{_ENTITY}){_AUXILIARY}", _plain_apostrophe),
    (f"({_WORD}){_APOSTROPHE}{_AUXILIARY}", _same),
    (_WORD, _same),
    ("(?i:anti|pro)-", _same),
    ("-(?i:[lr][rsc]b)-", _same),
    # A dot before one of these is that of an abbreviation
    *((rf"({pattern}\.)[,;:\u3001]", _same) for pattern in (_WORD, _COMPOUND, _HYPHENATED)),
    # Numbers
    (rf"[+-]?{_SOFT}?(?:(?:{_DIGITS})?(?:[.:,\u066b\u066c]{_DIGITS})+|{_DIGITS})", _same),
    (rf"(?:[{_NUMERAL}]{{1,4}}[- \xa0])?[{_NUMERAL}]{{1,4}}(?:\\?/|\u2044)[{_NUMERAL}]{{1,4}}", _same),
    (r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", _same),
    (r"[A-Z]+(?:(?:&(?i:amp;)?|\+)[A-Z]+)+", _plain_ampersand),
    # Words with apostrophes that are no auxiliaries
    (f"{_APOSTROPHE}(?:[nN]{_APOSTROPHE}|(?i:em|till?|cause)|[2-9]0[sS])|[lLdDjJ]{_APOSTROPHE}", _same),
    (f"({_APOSTROPHE}[0-9]{{2}})[{_SPACES}]", _same),
    (r"('[nN])(?:[ \t\xa0\n]|\Z)", _same),
    (f"(?:{APOSTROPHE}|{_ENTITY})[nN]", _same),
    (f"(?i:c'mon|e'er|nor'easter|li'l|nat'l|s'mores|(?:dunkin|somethin|ol){_APOSTROPHE}|cap{_APOSTROPHE}n)", _same),
    (f"(?i:o{_ANY_APOSTROPHE}clock|ma{_ANY_APOSTROPHE}am)", _same),
    (f"([yY]{_APOSTROPHE})[A-Za-z]", _same),
    (_COMPOUND, _same),
    (f"[A-HJ-XZn]{_ANY_APOSTROPHE}[{_LETTER}]{{2,}}", _same),
    (f"[{_LETTER}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{_LETTER}]*", _same),
    # Addresses
    (rf"(?i:https?)://[^{_NO_URL}]+[^{_NO_HOST}-]", _raw),
    (rf"(?i:www)\.(?:[^{_NO_HOST}]+\.)+[A-Za-z]{{2,4}}{_PATH}", _raw),
    (rf"(?:[^ \t\n\"`'<>|!?(){{}},-_$]+\.)+(?i:com|net|org|edu){_PATH}", _raw),
    (rf"(?:<|&(?i:lt);)?[A-Za-z0-9][^{_NO_MAIL}]*@(?:[^{_NO_MAIL}.]+\.)*[^{_NO_MAIL}.]+>?", _raw),
    ("@[A-Za-z_][A-Za-z0-9_]*", _raw),
    (f"#[{_WORDLY}]+", _raw),
    # Abbreviations
    (rf"({_LATE})[\s\S]{{2}}", _same),
    (_LATE, _same),
    (rf"(?:{_either(ptb_words.EARLY)}|{_lower(ptb_words.EARLY_LOWER)})\.", _same),
    (rf"({_either(ptb_words.BEFORE_NUMBER)}\.)[{_SPACES}]?[0-9]", _same),
    (r"(?:[A-Za-z]\.)+", _same),
    (rf"([A-Za-z])\.[{_SPACES}]+{_STARTER}[{_SPACES}]", _same),
    (_HYPHENATED, _same),
    # Telephone numbers, dates, currencies, files
    (
        r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
        r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}",
        _named_brackets,
    ),
    (r"\+\+[0-9]{2,4}\.[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", _same),
    ("[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}", _same),
    (r"[A-Z]+\$", _same),
    (rf"((?:[{_WORDLY}{_NUMERAL}]+\.)+{_either(ptb_words.FILE_ENDINGS)})[{_SPACES}.,?!]", _same),
    # Faces
    (r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", _named_brackets),
    (f"[{_EYE}-]_[{_EYE}-]", _same),
    (rf"\([{_EYE}-][._]?[{_EYE}-]\)|\([{_EYE}]-[{_EYE}]\)", _named_brackets),
    (f"[oO]{_ANY_APOSTROPHE}[oO]", _same),
    # Signs and punctuation
    (r"\\\*", _same),
    (rf"\.{{3,}}|\.(?:[ \xa0]\.){{2,}}|\u2026|-{{2,4}}|{DASH}", nothing),
    (rf"-{{5,}}|\*+|@@+|##+|__+|<<|>>|[!?]+|{SMALL}+", _same),
    (f"''|[`{_CURLY}]{{2}}", _quotes),
    (f"[{NOTHING}{_SPACE}{HYPHEN}{_SOFT}\u066b\u066c\"'`{_CURLY}]", nothing),
    (f"[{EURO}¢£½¼¾⅓⅔]", _single),
    (r"[\s\S]", _single),
)

RULES = tuple(Rule(re.compile(pattern), rewrite) for pattern, rewrite in _RULES)


def longest(shape: str, start: int) -> tuple[int, Rewrite]:
    """Returns the end of the token that begins at `start`, and what becomes of it.

    Args:
        shape: A text as `mmtune.metrics.ptb_chars.shape_of` gives it.
        start: Where no line ends.
    """
    reach, end, rewrite = start, start + 1, nothing
    for rule in RULES:
        found = rule.pattern.match(shape, start)
        if found is not None and found.end() > reach:
            reach, end, rewrite = found.end(), found.end(rule.pattern.groups), rule.rewrite
    return end, rewrite
