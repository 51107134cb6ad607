"""The cards of the error browser: an example each, with truth and prediction."""

from collections.abc import Sequence
from itertools import count

from mmtune.records import Record
from mmtune.reports.findings import Example, Findings
from mmtune.reports.markup import attributes, data, number, table, text
from mmtune.reports.mask_paths import mask_path
from mmtune.reports.object_faults import IGNORED, Judged, Thing
from mmtune.reports.text_faults import Difference, pieces
from mmtune.reports.thumbnails import Thumbnail, thumbnails

MOST_CARDS = 300
"""Examples with a picture: more than anybody looks through, in a file that mail still takes."""

MOST_ROWS = 2000
"""Further examples in a table."""

_MOST_BYTES = 8_000_000  # of all pictures
_MOST_CHARACTERS = 2000  # of a text on a card
_CHARACTER = 6.5  # pixels, of a name beside a box


def browser(findings: Findings) -> tuple[str, list[str]]:
    """Returns the cards and the table of the error browser, and sentences about what was left out."""
    examples = findings.worst_first
    cards, rest = examples[:MOST_CARDS], examples[MOST_CARDS:]
    places = {one.record.id: place for place, one in enumerate(findings.examples)}
    pictures, dropped = _pictures([one.record for one in cards])
    varied = len({one.prediction.prompt for one in findings.examples}) > 1
    made = [
        card(one, picture, places[one.record.id], place, varied)
        for place, (one, picture) in enumerate(zip(cards, pictures, strict=True))
    ]
    notes = []
    if rest:
        notes.append(
            f"The error browser shows the {len(cards)} worst of {len(examples)} examples; "
            f"{min(len(rest), MOST_ROWS)} more stand in a table without pictures"
            + (f", and {len(rest) - MOST_ROWS} are left out." if len(rest) > MOST_ROWS else ".")
        )
    if dropped:
        notes.append(f"The pictures of {dropped} examples are left out to bound the size of this file.")
    lost = sum(p is None and one.record.picture is not None for p, one in zip(pictures, cards, strict=True)) - dropped
    if lost:
        notes.append(f"{lost} pictures could not be opened; their examples are shown without.")
    rows = [[data(one.record.id), faults_text(one), number(one.quality)] for one in rest[:MOST_ROWS]]
    listed = table(("example", "faults", "quality"), rows, "Further examples", "numbers") if rows else ""
    return f'<div id="cards">{"".join(made)}</div>' + listed, notes


def card(example: Example, picture: Thumbnail | None, place: int, rank: int, prompt: bool) -> str:
    """Returns an example as HTML; its faults are attributes, by which the page's script sorts and filters.

    Args:
        example: The example.
        picture: Its picture, or None.
        place: Its place in the data.
        rank: Its place among the worst.
        prompt: Whether to show the prompt, where it differs from example to example.
    """
    kinds = "|".join(f"{kind}={times}" for kind, times in _kinds(example).items())
    head = {"data-place": place, "data-rank": rank, "data-kinds": f"|{kinds}|", "data-id": example.record.id}
    parts = [f"<h3>{data(example.record.id)}</h3>", f'<p class="faults">{chips(example)}</p>']
    if picture is not None:
        overlay = objects_svg(example.judged, picture) if example.judged is not None else ""
        parts.append(
            f'<div class="picture"><img loading="lazy" alt="" width="{picture.width}" height="{picture.height}" '
            f'src="{picture.source}">{overlay}</div>'
        )
    if prompt:
        parts.append(f'<p class="prompt">{data(_short(example.prediction.prompt))}</p>')
    if example.difference is not None:
        parts.append(texts(example, example.difference))
    else:
        parts.append(
            f"<details><summary>answer</summary><p class='text'>{data(_short(example.prediction.text))}</p></details>"
        )
    return f'<article class="card"{attributes(head)}>{"".join(parts)}</article>'


def chips(example: Example) -> str:
    """Returns the faults of an example as words with a square of their colour, and its quality."""
    made = "".join(
        f'<span class="chip {_name(kind)}">{f"{times} " if example.judged is not None else ""}{text(kind)}</span>'
        for kind, times in _kinds(example).items()
    )
    if example.prediction.invalid:
        made += f'<span class="chip invalid">{example.prediction.invalid} unreadable</span>'
    label = "F1" if example.judged is not None else "alike"
    sure = "" if example.score is None else f" · sure {number(example.score)}"
    return f'{made}<span class="quality">{label} {number(example.quality)}{sure}</span>'


def faults_text(example: Example) -> str:
    """Returns the faults of an example in words."""
    return text(", ".join(f"{times} {kind}" for kind, times in _kinds(example).items()))


def texts(example: Example, found: Difference) -> str:
    """Returns prediction and nearest right text, with what differs marked in both."""
    said = example.prediction.text.strip()
    if found.right is None:
        return f'<dl class="texts"><dt>found</dt><dd class="text">{data(_short(said))}</dd></dl>'
    said, right = _short(said), _short(found.right)
    parts = pieces(said, right)
    sides = []
    for name, own, tag in (("found", "extra", "del"), ("right", "lacking", "ins")):
        marked = "".join(
            f"<{tag}>{text(piece)}</{tag}>" if kind == own else text(piece)
            for kind, piece in parts
            if kind in ("same", own)
        )
        sides.append(f'<dt>{name}</dt><dd class="text"><bdi>{marked}</bdi></dd>')
    return f'<dl class="texts">{"".join(sides)}</dl>'


def objects_svg(judged: Judged, picture: Thumbnail) -> str:
    """Returns the outlines of true and found objects, in pixels of the reduced picture."""
    drawn = []
    for place, thing in enumerate(judged.truth):
        missed = place in judged.missed
        kind = "truth missed" if missed else "truth"
        told = f"truth: {thing.label}{' (missed)' if missed else '' if thing.counts else ' (need not be found)'}"
        drawn.append(_object(thing, picture, kind, told, thing.label if missed else ""))
    # Those of high score lie on top.
    for thing, verdict in reversed(list(zip(judged.found, judged.verdicts, strict=True))):
        told = f"found: {thing.label} {thing.score:.2f}, {verdict}"
        label = "" if verdict == IGNORED else f"{thing.label} {thing.score:.2f}"
        drawn.append(_object(thing, picture, f"found {_name(verdict)}", told, label))
    return (
        f'<svg viewBox="0 0 {picture.width} {picture.height}" role="img" '
        f'aria-label="{text(_told(judged))}">{"".join(drawn)}</svg>'
    )


def _object(thing: Thing, picture: Thumbnail, kind: str, told: str, label: str) -> str:
    across, along = picture.scale
    x, y = thing.box.x0 * across, thing.box.y0 * along
    width, height = max(thing.box.width * across, 0.5), max(thing.box.height * along, 0.5)
    if thing.mask is not None:
        shape = f'path class="{{}}" d="{mask_path(thing.mask, picture.width, picture.height)}"'
    else:
        shape = f'rect class="{{}}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    words = ""
    if label:
        at = y - 3 if y > 12 else y + 11
        # A name that would run out of the picture ends where its box does.
        beyond = x + _CHARACTER * len(label) > picture.width
        place, anchor = (min(x + width, picture.width - 1), ' text-anchor="end"') if beyond else (max(x, 1.0), "")
        words = f'<text x="{place:.1f}" y="{at:.1f}"{anchor}>{text(label)}</text>'
    return f"<g class='{kind}'><title>{text(told)}</title><{shape.format('halo')}/><{shape.format('edge')}/>{words}</g>"


def _told(judged: Judged) -> str:
    faults = ", ".join(f"{times} {kind}" for kind, times in judged.counts.items() if times) or "no faults"
    return f"{len(judged.truth)} true objects, {len(judged.found)} found: {faults}"


def _pictures(records: Sequence[Record]) -> tuple[list[Thumbnail | None], int]:
    """Returns the pictures of the first records, as many as there is room for, and how many are left out for size."""
    shown: list[Thumbnail | None] = []
    size, dropped = 0, 0
    for start in count(0, 16):
        part = records[start : start + 16]
        if not part:
            return shown, dropped
        full = size > _MOST_BYTES
        made: list[Thumbnail | None] = [None] * len(part) if full else thumbnails(part)
        dropped += sum(record.picture is not None for record in part) if full else 0
        size += sum(len(picture.source) for picture in made if picture is not None)
        shown += made
    raise AssertionError


def _kinds(example: Example) -> dict[str, int]:
    """Returns what is wrong with an example; of a text without fault, what it is."""
    if example.difference is not None:
        return {example.difference.kind: 1}
    return dict(example.counts) or {"right": 1}


def _name(kind: str) -> str:
    return kind.replace(" ", "-")


def _short(words: str) -> str:
    return words if len(words) <= _MOST_CHARACTERS else f"{words[:_MOST_CHARACTERS]} ... ({len(words):,} characters)"
