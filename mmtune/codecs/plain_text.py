"""Read text in one spelling: what targets are written in, and what is compared when answers are scored."""

import unicodedata

WHITE_SPACE = ("keep", "collapse")
"""What is done with white space within a text."""


def plain_text(text: str, *, white_space: str = "keep", lower_case: bool = False) -> str:
    r"""Returns a text in Unicode's composed form (NFC), in logical order, without white space at its ends.

    Logical order is the order of reading: the first letter of an Arabic or Syriac word is the first character, and
    nothing is ever reversed for display. Ends of lines are "\n", whatever the file had.

    >>> plain_text("Tu\u0308r \r\n zu\n")
    'Tür \n zu'

    Args:
        text: As a file or a model has it.
        white_space: "keep"; or "collapse": runs of white space, ends of lines included, become one space.
        lower_case: Whether capitals become small letters.
    """
    text = unicodedata.normalize("NFC", text)
    if lower_case:
        # Lower case of a composed character may be a decomposed one, as that of İ.
        text = unicodedata.normalize("NFC", text.lower())
    if white_space == "collapse":
        return " ".join(text.split())
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
