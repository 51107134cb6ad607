"""Opening pictures of every mode and orientation, and finding their files."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotation_files import photo
from PIL import Image

from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import BytesPicture, FilePicture, size_of, upright_rgb
from mmtune.errors import DataError
from mmtune.records import Picture

WIDTH, HEIGHT = 6, 4


def _corners(image: Image.Image) -> list[str]:
    """Names the colour at each corner: top left, top right, bottom left, bottom right."""
    names = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue", (0, 0, 0): "black"}
    w, h = image.size
    return [names[image.getpixel(at)] for at in ((0, 0), (w - 1, 0), (0, h - 1), (w - 1, h - 1))]


def _upright() -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "black")
    image.putpixel((0, 0), (255, 0, 0))
    image.putpixel((WIDTH - 1, 0), (0, 255, 0))
    image.putpixel((0, HEIGHT - 1), (0, 0, 255))
    return image


# What a camera stores for the upright scene under each orientation, after the EXIF standard's table of which stored
# row and column is the visual top and left.
_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", sorted(_STORED))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(_STORED[orientation](np.asarray(_upright()))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, lossless=True)  # which WebP alone takes note of
    picture = FilePicture(path)
    assert size_of(picture) == (WIDTH, HEIGHT)
    assert _corners(picture.open()) == ["red", "green", "blue", "black"]
    data = BytesPicture(path.read_bytes(), "row 3")
    assert size_of(data) == (WIDTH, HEIGHT)
    assert _corners(data.open()) == ["red", "green", "blue", "black"]


def test_stored_orientation_can_be_kept(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (30, 20), orientation=6)
    assert size_of(FilePicture(path)) == FilePicture(path).open().size == (20, 30)
    kept = FilePicture(path, upright=False)
    assert size_of(kept) == kept.open().size == (30, 20)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert size_of(FilePicture(path)) == FilePicture(path).open().size == (30, 20)


def _grey16(mode: str) -> Image.Image:
    return Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16 if mode == "I;16" else np.int32))


def _palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(Image.new("L", (1, 1), 77), [(77, 77, 77)], id="L"),
        pytest.param(Image.new("1", (1, 1), 1), [(255, 255, 255)], id="1"),
        pytest.param(Image.new("RGBA", (1, 1), (255, 0, 0, 0)), [(255, 255, 255)], id="RGBA transparent"),
        pytest.param(Image.new("RGBA", (1, 1), (255, 0, 0, 51)), [(255, 204, 204)], id="RGBA part"),
        pytest.param(Image.new("LA", (1, 1), (0, 0)), [(255, 255, 255)], id="LA"),
        pytest.param(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [(255, 0, 0)], id="CMYK"),
        pytest.param(_palette(), [(10, 20, 30), (255, 255, 255)], id="P transparent"),
        pytest.param(_grey16("I;16"), [(v,) * 3 for v in (0, 1, 128, 255)], id="I;16"),
        pytest.param(
            Image.fromarray(np.array([[100, 1000, 30000]], np.uint16)), [(v,) * 3 for v in (0, 4, 117)], id="I;16 dark"
        ),
        pytest.param(_grey16("I"), [(v,) * 3 for v in (0, 1, 128, 255)], id="I"),
        pytest.param(
            Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), [(v,) * 3 for v in (0, 128, 255)], id="F"
        ),
        pytest.param(
            Image.fromarray(np.array([[-100, 100000, 200100]], np.int32)),
            [(v,) * 3 for v in (0, 127, 255)],
            id="I wide",
        ),
        pytest.param(Image.fromarray(np.array([[5.0, 5.0]], np.float32)), [(0, 0, 0)] * 2, id="F flat"),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: list[tuple[int, ...]]) -> None:
    rgb = upright_rgb(image)
    assert rgb.mode == "RGB"
    found = np.asarray(rgb).reshape(-1, 3).astype(int)
    assert np.abs(found - np.array(expected)).max() <= 1


def test_sixteen_bit_png_keeps_its_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    grey = np.asarray(FilePicture(tmp_path / "a.png").open())[0, :, 0]
    assert grey.tolist() == list(range(256))


def test_pictures_are_pictures() -> None:
    assert isinstance(FilePicture(Path("a")), Picture)
    assert isinstance(BytesPicture(b"", "a"), Picture)
    assert "\\xff" not in repr(BytesPicture(b"\xff" * 100, "a"))


def _bytes(format: str = "PNG", size: tuple[int, int] = (64, 64)) -> bytes:  # noqa: A002
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"", "the file is none", id="empty"),
        pytest.param(b"no picture at all", "the file is none", id="text"),
        pytest.param(_bytes("PNG")[:3000], "truncated or broken", id="half a png"),
        pytest.param(_bytes("JPEG")[:900], "truncated or broken", id="half a jpeg"),
        pytest.param(_bytes("WEBP")[:500], "", id="half a webp"),
    ],
)
def test_undecodable_bytes_name_themselves(data: bytes, what: str) -> None:
    with pytest.raises(DataError) as caught:
        BytesPicture(data, "row 12 of train.parquet").open()
    message = str(caught.value)
    assert message.startswith("row 12 of train.parquet: expected a")
    assert what in message
    assert message.count("\n") == 0


@pytest.mark.parametrize("opened", [size_of, lambda picture: picture.open()], ids=["size", "open"])
def test_absent_and_unreadable_files(tmp_path: Path, opened: Callable[[FilePicture], object]) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: expected a picture, but there is no such file; check"):
        opened(FilePicture(tmp_path / "gone.jpg"))
    with pytest.raises(DataError, match="check what lies at that path"):
        opened(FilePicture(tmp_path))


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo(tmp_path / "a.png", (100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.png: expected a picture of at most 2000 pixels; scale it down"):
        FilePicture(path).open()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("odd_images/bird.JPEG", (403, 500)),
        ("odd_images/gray.jpg", (512, 288)),
        ("odd_images/arabic.webp", (1270, 2001)),
        ("odd_images/cat-dog.png", (600, 400)),
        ("odd_images/png_example.png", (224, 224)),
        ("aerial/terrain2.png", (1024, 682)),
        ("aerial/terrain2_gray.png", (1024, 682)),
    ],
)
def test_odd_real_pictures(shared_data: Path, name: str, size: tuple[int, int]) -> None:
    picture = FilePicture(shared_data / name)
    assert size_of(picture) == size
    image = picture.open()
    assert (image.mode, image.size) == ("RGB", size)
    assert np.asarray(image).std() > 10  # a picture, not a black or white area


def test_truncated_real_picture(shared_data: Path) -> None:
    with pytest.raises(DataError, match=r"truncated\.jpg: expected a whole picture, but it is truncated or broken"):
        FilePicture(shared_data / "odd_images" / "truncated.jpg").open()


@pytest.mark.parametrize(
    ("file", "name", "found"),
    [
        pytest.param("set/a.jpg", "a.jpg", True, id="beside"),
        pytest.param("set/images/a.jpg", "a.jpg", True, id="in images"),
        pytest.param("JPEGImages/a.jpg", "a.jpg", True, id="in ../JPEGImages"),
        pytest.param("images/val/a.jpg", "a.jpg", True, id="in ../images/split"),
        pytest.param("val/a.jpg", "a.jpg", True, id="in ../split"),
        pytest.param("set/A.JPG", "a.jpg", True, id="upper case"),
        pytest.param("set/images/sub/a.jpg", "sub/a.jpg", True, id="below"),
        pytest.param("set/Images/Sub/a.jpg", "images/sub/a.jpg", True, id="folder in other case"),
        pytest.param("set/a.jpg", "C:\\photos\\a.jpg", True, id="somebody's path"),
        pytest.param("set/a.jpg", "/home/x/images/a.jpg", True, id="absolute and gone"),
        pytest.param("elsewhere/a.jpg", "../elsewhere/a.jpg", True, id="upwards"),
        pytest.param("set/a.png", "a.jpg", False, id="other suffix"),
        pytest.param("set/a.jpg/x", "a.jpg", False, id="a folder"),
        pytest.param("set/a.jpg", "", False, id="no name"),
    ],
)
def test_finding_a_picture(tmp_path: Path, file: str, name: str, found: bool) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    (tmp_path / "set").mkdir(exist_ok=True)
    assert picture_index(tmp_path / "set", ["val"]).find(name) == (path if found else None)


def test_exact_case_wins(tmp_path: Path) -> None:
    for name in ("a.JPG", "a.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert FileIndex([tmp_path]).find("a.JPG") == tmp_path / "a.JPG"
    assert FileIndex([tmp_path]).find("a.jpg") == tmp_path / "a.jpg"


def test_a_file_is_not_given_to_two_names(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    index = FileIndex([tmp_path])
    assert index.find("train/1.jpg") == tmp_path / "1.jpg"
    assert index.find("train/1.jpg") == tmp_path / "1.jpg"
    assert index.find("val/1.jpg") is None


def test_folders_are_listed_once(tmp_path: Path) -> None:
    index = FileIndex([tmp_path])
    assert index.find("late.jpg") is None
    (tmp_path / "late.jpg").write_bytes(b"")
    assert index.find("late.jpg") is None


def test_finding_by_stem(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "sub" / "a.b.JPEG")
    (tmp_path / "images" / "sub" / "c.txt").write_text("")
    index = picture_index(tmp_path)
    assert index.find_stem("sub/a.b") == tmp_path / "images" / "sub" / "a.b.JPEG"
    assert index.find_stem("a.b") is None
    assert index.find_stem("sub/c") is None
