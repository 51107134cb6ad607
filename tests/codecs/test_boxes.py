import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.codecs.boxes import (
    NOISE_LABEL,
    DecodedBox,
    box_spans,
    decode_boxes,
    encode_boxes,
    from_bins,
    label_problem,
    split_objects,
    to_bins,
)
from mmtune.records import Box, Span

BOX = "<loc0010><loc0020><loc0500><loc0600>"

# Pieces that are likely to break a parser, mixed with any text.
awkward = st.sampled_from(
    [" ; ", ";", " ", "<", ">", "<loc", "0001", "<loc0001", "é", "日本", "🐈", "a", "-", "'", "  "]
)
labels = st.one_of(st.text(max_size=12), st.lists(awkward, max_size=6).map("".join)).filter(
    lambda text: label_problem(text) is None
)
sides = st.integers(1, 5000)


def text_of(objects):
    return " ; ".join("".join(f"<loc{number:04d}>" for number in bins) + f" {label}" for bins, label in objects)


@st.composite
def bins(draw):
    y = sorted(draw(st.lists(st.integers(0, 1023), min_size=2, max_size=2)))
    x = sorted(draw(st.lists(st.integers(0, 1023), min_size=2, max_size=2)))
    return y[0], x[0], y[1], x[1]


def test_encode_puts_y_first_and_rounds_to_1023():
    boxes = [Box("cat", 0, 0, 50, 100), Box("red dog", 10, 20, 100, 200)]
    assert encode_boxes(boxes, (100, 200)) == (
        "<loc0000><loc0000><loc0512><loc0512> cat ; <loc0102><loc0102><loc1023><loc1023> red dog"
    )


@pytest.mark.parametrize(
    ("edge", "width", "number"),
    [
        pytest.param(0.0, 640, 0, id="left border"),
        pytest.param(640.0, 640, 1023, id="right border"),
        pytest.param(700.0, 640, 1023, id="beyond the right border"),
        pytest.param(-5.0, 640, 0, id="beyond the left border"),
        pytest.param(0.49, 1023, 0, id="just under half a bin"),
        pytest.param(0.51, 1023, 1, id="just over half a bin"),
        pytest.param(320.0, 640, 512, id="the middle"),
    ],
)
def test_to_bins(edge, width, number):
    assert to_bins(Box("x", edge, 0, width, 1), (width, 1))[1] == number


@given(labels=st.lists(labels, max_size=5), data=st.data())
def test_decode_inverts_encode_for_every_accepted_label(labels, data):
    objects = [(data.draw(bins()), label) for label in labels]
    # A picture of 1023 x 1023 pixels has a bin a pixel, so that the boxes are exact.
    boxes = [Box(label, b[1], b[0], b[3], b[2]) for b, label in objects]
    text = encode_boxes(boxes, (1023, 1023))
    decoded = decode_boxes(text)
    assert text == text_of(objects)
    assert [(box.bins, box.label) for box in decoded.boxes] == objects
    assert decoded.invalid == 0
    assert [text[slice(*box.span)] for box in decoded.boxes] == labels


@given(width=sides, height=sides, fractions=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_box_moves_at_most_half_a_bin(width, height, fractions):
    x0, y0, x1, y1 = fractions[0] * width, fractions[1] * height, fractions[2] * width, fractions[3] * height
    found = from_bins(to_bins(Box("x", x0, y0, x1, y1), (width, height)), (width, height))
    for value, back, side in zip((x0, y0, x1, y1), found, (width, height, width, height), strict=True):
        assert abs(value - back) <= side * (0.5 / 1023) * (1 + 1e-9)


@given(st.one_of(st.text(), st.lists(st.one_of(awkward, st.just(BOX), st.just("<loc1024>"), labels)).map("".join)))
def test_decode_never_raises_and_what_it_reads_can_be_written(text):
    objects = [(box.bins, box.label) for box in decode_boxes(text).boxes]
    again = decode_boxes(text_of(objects))
    assert [(box.bins, box.label) for box in again.boxes] == objects
    assert again.invalid == 0


@pytest.mark.parametrize(
    ("text", "kept", "invalid"),
    [
        pytest.param("", [], 0, id="empty text"),
        pytest.param("there is nothing", [], 1, id="no group at all"),
        pytest.param(f"{BOX} cat", ["cat"], 0, id="single box"),
        pytest.param(f"{BOX} a ; b ; {BOX} c", ["a ; b", "c"], 0, id="separator inside a label"),
        pytest.param(f"sure: {BOX} cat", ["cat"], 1, id="text before the first group"),
        pytest.param(f" {BOX} cat", ["cat"], 0, id="white space before the first group"),
        pytest.param(f"{BOX}", [], 1, id="no label"),
        pytest.param(f"{BOX} ; {BOX} cat", ["cat"], 1, id="empty label"),
        pytest.param(f"{BOX}  ; {BOX} cat", ["cat"], 1, id="label of white space"),
        pytest.param(f"{BOX} cat ; <loc0001><loc0002><loc0003> dog", ["cat"], 1, id="three location tokens"),
        pytest.param(f"{BOX}<loc0001> cat ; {BOX} dog", ["dog"], 1, id="five location tokens"),
        pytest.param("<loc0000><loc0000><loc1024><loc0001> cat", [], 1, id="location above 1023"),
        pytest.param("<loc0000><loc0000><loc0000><loc001> cat", [], 1, id="three digits are no location token"),
        pytest.param(
            "<loc0000><loc0000><loc0000><loc\u0660\u0660\u0660\u0661> cat", [], 1, id="other scripts' digits are none"
        ),
        pytest.param(f"{BOX}<seg001> cat", [], 1, id="segmentation tokens"),
        pytest.param(f"{BOX} cat ; ", ["cat"], 1, id="cut off after a separator"),
        pytest.param(f"{BOX} cat ;", ["cat"], 1, id="cut off within a separator"),
        pytest.param(f"{BOX} cat\n", [], 1, id="newline in a label"),
        pytest.param(f"{BOX} cat {BOX} dog", ["dog"], 1, id="separator missing"),
        pytest.param(f"{BOX} {NOISE_LABEL}", [NOISE_LABEL], 0, id="noise label"),
    ],
)
def test_decode_counts_what_it_cannot_read(text, kept, invalid):
    decoded = decode_boxes(text)
    assert [box.label for box in decoded.boxes] == kept
    assert decoded.invalid == invalid


def test_decode_puts_corners_in_order():
    decoded = decode_boxes("<loc0500><loc0020><loc0010><loc0600> cat")
    assert decoded.boxes == (DecodedBox((10, 20, 500, 600), "cat", (37, 40)),)


def test_split_keeps_segmentation_tokens():
    objects, strays = split_objects(f"{BOX}<seg001><seg127> cat ; {BOX} dog")
    assert strays == 0
    assert [(item.locs, item.segs, item.label) for item in objects] == [
        ((10, 20, 500, 600), (1, 127), "cat"),
        ((10, 20, 500, 600), (), "dog"),
    ]


def test_noise_boxes_have_no_loss_on_their_coordinates():
    boxes = [Box("cat", 0, 0, 1, 1), Box(NOISE_LABEL, 0, 0, 1, 1), Box(NOISE_LABEL, 1, 1, 1, 1)]
    assert box_spans(boxes, (1, 1)) == (
        Span("<loc0000><loc0000><loc1023><loc1023> cat ; "),
        Span("<loc0000><loc0000><loc1023><loc1023>", 0.0),
        Span(" <unused0> ; "),
        Span("<loc1023><loc1023><loc1023><loc1023>", 0.0),
        Span(" <unused0>"),
    )
    assert box_spans([], (1, 1)) == ()
    assert box_spans(boxes[1:], (1, 1), shown=["cat", None]) == (
        Span("<loc0000><loc0000><loc1023><loc1023>", 0.0),
        Span(" <unused0> ; ", shown=" cat ; "),
        Span("<loc1023><loc1023><loc1023><loc1023>", 0.0),
        Span(" <unused0>"),
    )
    assert box_spans(boxes[:2], (1, 1), segments=[[1, 2], [3, 4]], segment_weight=0.5) == (
        Span("<loc0000><loc0000><loc1023><loc1023>"),
        Span("<seg001><seg002>", 0.5),
        Span(" cat ; "),
        Span("<loc0000><loc0000><loc1023><loc1023><seg003><seg004>", 0.0),
        Span(" <unused0>"),
    )


@pytest.mark.parametrize(
    "label", ["cat", "a ; b", ";", "; x", "x;", "mother-in-law's (2)", "<b>", "細胞", "ß 🐈", "<loc12>"]
)
def test_usable_labels(label):
    assert label_problem(label) is None


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\nb", "control character '\\n'"),
        ("a\tb", "control character '\\t'"),
        ("a\ud800", "control character"),
        (" cat", "white space"),
        ("cat\u00a0", "white space"),
        ("<loc0001>", "<loc0001>"),
        ("x<seg001>", "<seg001>"),
        ("<bos>", "<bos>"),
        (NOISE_LABEL, NOISE_LABEL),
        ("a▁b", "U+2581"),
        ("cat ;", "separates objects"),
    ],
)
def test_unusable_labels(label, words):
    problem = label_problem(label)
    assert problem is not None
    assert words in problem
    assert "\n" not in problem
