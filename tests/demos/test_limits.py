"""What comes from strangers is bounded before it costs anything."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmtune.demos.asking import UploadedPicture
from mmtune.demos.limits import Limits, checked_share, checked_text, checked_tokens, opened_picture
from mmtune.errors import DataError, UsageError


def png_bomb(width, height):
    """A PNG of a few hundred kilobytes at most whose header promises so many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(min(width * height // 8, 2_000_000)), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_is_upright_and_rgb(tmp_path):
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.resize((8, 4)).save(tmp_path / "a.jpg", exif=exif)
    opened = opened_picture(tmp_path / "a.jpg")
    assert (opened.size, opened.mode) == ((4, 8), "RGB")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (30_000, 30_000), (2**20, 2**20)])
def test_a_huge_picture_is_refused_by_its_header(tmp_path, width, height):
    """The last two are beyond what Pillow itself opens."""
    file = tmp_path / "bomb.png"
    file.write_bytes(png_bomb(width, height))
    with pytest.raises(DataError, match="million pixels"):
        opened_picture(file)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_scanned_receipt_is_scaled_down_with_a_note(tmp_path, name):
    columns = np.linspace(0, 255, 4961).astype(np.uint8)
    Image.fromarray(np.broadcast_to(columns, (7016, 4961))).save(tmp_path / name)
    picture = UploadedPicture(tmp_path / name, Limits())
    image = picture.open()
    assert image.size == (4119, 5825)
    assert 23_990_000 < image.width * image.height <= 24_000_000
    row = np.asarray(image)[2000, :, 0].astype(int)
    assert np.abs(row - np.linspace(0, 255, 4119)).max() <= 3  # the whole picture, from its left to its right
    assert picture.note == (
        "the picture has 4961 x 7016 pixels and was scaled down to 4119 x 5825; boxes and masks are in pixels of that"
    )


def test_a_turned_picture_is_scaled_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg", exif=exif)
    assert opened_picture(tmp_path / "a.jpg", Limits(pixels=20_000)).size == (100, 200)


def test_a_picture_of_usual_size_is_left_as_it_is(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    picture = UploadedPicture(tmp_path / "a.png", Limits())
    assert (picture.open().size, picture.note) == ((60, 40), "")


def eps():
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "EPS")
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"\xff\xd8\xff\xe0",
        eps(),
    ],
    ids=["empty", "cut", "svg", "jpeg head", "eps"],
)
def test_what_is_no_picture_is_said_without_a_path(tmp_path, data):
    file = tmp_path / "x.png"
    file.write_bytes(data)
    with pytest.raises(DataError, match="picture") as caught:
        opened_picture(file)
    assert str(tmp_path) not in str(caught.value)


def test_a_cut_picture_is_said_without_a_path(tmp_path):
    file = tmp_path / "x.png"
    Image.effect_noise((60, 60), 90).save(file)
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(DataError, match="the picture") as caught:
        opened_picture(file)
    assert str(tmp_path) not in str(caught.value)


def test_a_large_file_and_a_missing_one_are_refused(tmp_path):
    file = tmp_path / "x.bmp"
    Image.new("RGB", (700, 700)).save(file)
    with pytest.raises(DataError, match="1 MB"):
        opened_picture(file, Limits(picture=2**20))
    with pytest.raises(DataError, match="gone"):
        opened_picture(tmp_path / "none.png")


def test_texts_are_bounded():
    assert checked_text("détecter\0 chat", "prompt") == "détecter chat"
    assert checked_text(None, "prompt") == ""
    assert checked_text("x" * 2000, "prompt") == "x" * 2000
    with pytest.raises(UsageError, match="2,001 characters, at most 2,000"):
        checked_text("x" * 2001, "prompt")
    with pytest.raises(UsageError, match="must be a text"):
        checked_text(["a"], "prompt")
    with pytest.raises(UsageError, match="surrogate"):
        checked_text("a\ud800", "prompt")


@pytest.mark.parametrize("count", [-1, 513, 1.5, float("nan"), float("inf"), "3", True, [1]])
def test_numbers_of_tokens_are_bounded(count):
    with pytest.raises(UsageError, match="from 0"):
        checked_tokens(count)


def test_no_number_of_tokens_is_the_tasks():
    assert [checked_tokens(count) for count in (None, 0, 1, 512.0)] == [None, None, 1, 512]


@pytest.mark.parametrize("share", [-0.1, 1.1, "x", None, True, float("nan")])
def test_shares_are_bounded(share):
    with pytest.raises(UsageError, match="from 0 to 1"):
        checked_share(share, "threshold")
