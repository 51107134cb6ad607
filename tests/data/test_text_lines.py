import unicodedata

import pytest
from annotation_files import photo

from mmtune.data.read import read, reader
from mmtune.errors import DataError


def line(folder, stem, text="text", ending=".gt.txt", picture=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (folder / f"{stem}{ending}").write_bytes(text if isinstance(text, bytes) else text.encode())
    if picture:
        photo(folder / f"{stem}{picture}")


def found(data):
    return [(one.id, one.texts) for one in data]


def test_lines_and_pages(tmp_path):
    line(tmp_path, "10", "ten\n")
    line(tmp_path, "2", "first\r\nsecond\r\n", picture=".JPG")
    data = read(tmp_path, task="ocr")
    assert (data.format, data.faults) == ("text_lines", ())
    assert found(data) == [("2", ("first\nsecond",)), ("10", ("ten",))]
    assert data[0].picture is not None
    assert data[0].picture.name.endswith("2.JPG")
    assert data[0].source.endswith("2.gt.txt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("Ah hodi; Ly9e\u0303\n", "Ah hodi; Ly9\u1ebd", id="decomposed"),
        pytest.param("x\u0303", "x\u0303", id="no composed form"),
        pytest.param("ܠܐ ܡܕܡ\n", "ܠܐ ܡܕܡ", id="right to left"),
        pytest.param("\ufeffabc", "abc", id="byte order mark"),
        pytest.param("a  b\t", "a  b", id="white space"),
        pytest.param('"quoted", text', '"quoted", text', id="quotes"),
    ],
)
def test_text(tmp_path, content, expected):
    line(tmp_path, "1", content)
    assert read(tmp_path, task="ocr")[0].texts == (expected,)


@pytest.mark.parametrize("picture", [".png", ".jpg", ".TIF", ".bin.png", ".nrm.png"])
def test_names_of_pictures(tmp_path, picture):
    line(tmp_path, "page.1", picture=picture)
    data = read(tmp_path, task="ocr")
    assert (found(data), data.faults) == ([("page.1", ("text",))], ())


@pytest.mark.parametrize(
    ("text", "picture", "kind", "words"),
    [
        pytest.param("text", "", "missing picture", "expected a picture such as 1.png", id="picture"),
        pytest.param(None, ".png", "picture without text", "expected its text in 1.gt.txt", id="text"),
        pytest.param(" \n", ".png", "empty text", "the file is empty", id="empty"),
        pytest.param(b"a\nb\xff", ".png", "unreadable text", "1.gt.txt:2: expected text in UTF-8", id="bytes"),
    ],
)
def test_faults(tmp_path, text, picture, kind, words):
    line(tmp_path, "0")
    line(tmp_path, "1", text, picture=picture)
    data = read(tmp_path, task="ocr")
    assert found(data) == [("0", ("text",))]
    assert data.fault_counts == {kind: 1}
    assert words in data.faults[0].problem
    assert (data.faults[0].record or "").startswith("1")


def test_folders_below_splits_and_pictures_apart(tmp_path):
    line(tmp_path / "train" / "book", "1", "one", picture="")
    photo(tmp_path / "train" / "book" / "images" / "1.png")
    line(tmp_path / "val", "1", "other")
    line(tmp_path / "val", "2", picture="")  # the picture of that name is another split's
    photo(tmp_path / "train" / "2.png")
    line(tmp_path, "3")
    data = read(tmp_path, task="ocr")
    assert found(data) == [("train/book/1", ("one",)), ("val/1", ("other",))]
    assert data.fault_counts == {"text outside the splits": 1, "missing picture": 1, "picture without text": 1}
    assert found(read(f"{tmp_path}:val", task="ocr")) == [("val/1", ("other",))]
    with pytest.raises(DataError, match="unknown split 'tst'"):
        read(f"{tmp_path}:tst", task="ocr")


def test_texts_beside_a_folder_of_pictures(tmp_path):
    line(tmp_path / "gt", "1", picture="")
    photo(tmp_path / "images" / "1.png")
    photo(tmp_path / "images" / "2.png")
    data = read(tmp_path, task="ocr")
    assert found(data) == [("gt/1", ("text",))]
    assert data.fault_counts == {"picture without text": 1}


def test_one_file_with_and_without_its_picture(tmp_path):
    line(tmp_path, "1")
    line(tmp_path, "2")
    assert found(read(tmp_path / "1.gt.txt", task="ocr")) == [("1", ("text",))]
    (tmp_path / "1.png").unlink()
    assert found(read(tmp_path, task="ocr", need_pictures=False)) == [("1", ("text",)), ("2", ("text",))]
    with pytest.raises(DataError, match="no record of this text_lines data can be used"):
        read(tmp_path / "1.gt.txt", task="ocr")


def test_plain_endings_where_the_format_is_named(tmp_path):
    line(tmp_path, "1", ending=".txt")
    (tmp_path / "readme.txt").write_text("about these pictures")
    assert not reader("text_lines").claims(tmp_path)
    assert found(read(tmp_path, task="ocr", format="text_lines")) == [("1", ("text",))]


def test_nothing_to_read_is_told(tmp_path):
    photo(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"expected a folder of pictures, each with a text file such as 0001.gt.txt"):
        read(tmp_path, task="ocr", format="text_lines")


def test_real_lines(shared_data):
    data = read(shared_data / "lines", task="ocr")
    assert found(data) == [
        ("0006", ("Ud; lib;",)),
        ("0007", ("ex~ Sĩ",)),
        ("0008", ("/Tngt",)),
        ("0021", ("Ah hodi; Ly9ẽ",)),
        ("000236", ("ܠܐ ܡܕܡ ܢܗܦܘܟ ܗܘܐ ܠܗ ܠܠܐ ܡܕܡ. ܝܬܝܪ ܕܐܣܗܕ",)),
    ]
    assert data.fault_counts == {"picture without text": 1}
    assert data.faults[0].record == "0014.jpg"
    assert all(unicodedata.is_normalized("NFC", one.texts[0]) for one in data)
    # The first letter that is read, at the right, is the first character.
    assert unicodedata.name(data[4].texts[0][0]) == "SYRIAC LETTER LAMADH"
    assert [one.picture.open().mode for one in data] == ["RGB"] * 5
