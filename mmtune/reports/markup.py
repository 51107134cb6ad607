"""Text and tags of a page. Whatever comes from data or a model goes through `text`."""

import html
from collections.abc import Mapping, Sequence


def text(value: object) -> str:
    """Returns a value as HTML shows it: no tag, no attribute's end, no character that a page must not hold."""
    shown = "".join("\ufffd" if _forbidden(char) else char for char in str(value))
    return html.escape(shown, quote=True)


def data(value: object) -> str:
    """Returns a text of the data or of a model: one from right to left does not turn what stands beside it."""
    return f"<bdi>{text(value)}</bdi>"


def number(value: float, digits: int = 3) -> str:
    """Returns a number with so many decimals, or so many figures where it is large; a dash for none to measure.

    >>> number(0.12345), number(1234.56), number(-1), number(0.0000123)
    ('0.123', '1235', '-', '1.2e-05')
    """
    if value == -1 or value != value:
        return "-"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", kind: str = "") -> str:
    """Returns a table that scrolls by itself on a narrow screen. Cells are HTML, the first of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    name = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption) or "table"}"><table{name}>{title}'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(name: str, title: str, body: str) -> str:
    """Returns a part of the page with its heading; nothing without a body."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'
        * bool(body)
    )


def attributes(values: Mapping[str, object]) -> str:
    """Returns attributes of a tag, with a space before each."""
    return "".join(f' {name}="{text(value)}"' for name, value in values.items())


def _forbidden(char: str) -> bool:
    code = ord(char)
    return (code < 32 and char not in "\t\n") or 127 <= code < 160 or 0xD800 <= code < 0xE000
