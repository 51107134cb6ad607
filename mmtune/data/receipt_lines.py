"""Lines of text with the four corners of each, as SROIE's and ICDAR's files have them, and their reading order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.codecs.plain_text import plain_text
from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.data.json_lines import short
from mmtune.data.objects import number
from mmtune.data.text_files import decoded_text

CORNERS = 8
DO_NOT_CARE = "###"
"""What ICDAR's files have for text that nobody can read."""

# Of the lower of two pieces: by less than that their middles are apart where they stand in one row.
_SAME_ROW = 0.5
# Of the narrower of two pieces: pieces of one row cover each other by less than that.
_COVERED = 0.25


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text on a page.

    Attributes:
        where: File and line.
        text: In the form of `plain_text`; empty where nobody can read it.
        x0, y0, x1, y1: The edges of the box around its corners, pixels.
    """

    where: str
    text: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_pieces(file: Path, record: str, log: FaultLog) -> list[Piece]:
    """Returns the pieces of a page in the order of the file.

    A line is `x1,y1,x2,y2,x3,y3,x4,y4,text`. It is no CSV: the text may have commas and quotes, and none are escaped.

    Args:
        file: The page's file.
        record: The record's id, for faults.
        log: Takes "broken line".

    Raises:
        DataError: When the file cannot be read.
    """
    pieces = []
    for count, line in enumerate(decoded_text(file).split("\n"), 1):
        if not line.strip():
            continue
        piece = parsed_piece(line, f"{file}:{count}")
        if piece is None:
            problem = f"expected x1,y1,x2,y2,x3,y3,x4,y4,text, found {short(line.strip())}; the line was left out"
            log.add(f"{file}:{count}", record, "broken line", problem)
        else:
            pieces.append(piece)
    return pieces


def parsed_piece(line: str, where: str) -> Piece | None:
    """Returns the piece on a line of a file, or None."""
    *corners, text = line.split(",", CORNERS)
    values = [value for value in map(_number, corners) if value is not None]
    if len(corners) != CORNERS or len(values) != CORNERS:
        return None
    text = plain_text(text, white_space="collapse")
    across, down = values[0::2], values[1::2]
    return Piece(where, "" if text == DO_NOT_CARE else text, min(across), min(down), max(across), max(down))


def page_text(pieces: Sequence[Piece]) -> str:
    r"""Returns the text of a page in reading order: rows from top to bottom, separated by "\n".

    Pieces that stand side by side, such as a name and its price, are a row; they are joined by spaces, from left to
    right. The order of the file does not matter.
    """
    return "\n".join(" ".join(piece.text for piece in row) for row in rows_of([p for p in pieces if p.text]))


def rows_of(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Returns the rows of a page from top to bottom, the pieces of each from left to right."""
    rows: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: (_middle(piece), piece.x0)):
        # Rows are begun from top to bottom: those far above have no room for it.
        fitting = (row for row in reversed(rows[-3:]) if all(_side_by_side(piece, other) for other in row))
        row = next(fitting, None)
        if row is None:
            rows.append([piece])
        else:
            row.append(piece)
    return [sorted(row, key=lambda piece: piece.x0) for row in rows]


def _side_by_side(one: Piece, other: Piece) -> bool:
    apart = abs(_middle(one) - _middle(other))
    if apart >= _SAME_ROW * min(one.y1 - one.y0, other.y1 - other.y0):
        return False
    shared = min(one.x1, other.x1) - max(one.x0, other.x0)
    return shared < _COVERED * min(one.x1 - one.x0, other.x1 - other.x0)


def _middle(piece: Piece) -> float:
    return (piece.y0 + piece.y1) / 2


def _number(text: str) -> float | None:
    try:
        return number(float(text))
    except ValueError:
        return None


def claims_page(file: Path) -> bool:
    """Whether the first line of a file is a piece of text with its corners."""
    return any(parsed_piece(line, "") for line in _first_line(file))


def _first_line(file: Path) -> Iterator[str]:
    try:
        with open_file(file) as stream:
            yield stream.readline(1 << 16).decode("utf-8-sig", errors="replace").strip("\r\n")
    except OSError:
        return
