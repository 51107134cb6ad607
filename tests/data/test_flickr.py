import pytest
from PIL import Image

from mmtune.data.read import read
from mmtune.errors import DataError

TOKENS = """a.jpg#0\tA dog , running .
a.jpg#1\tA brown dog, "Rex" .
b.jpg#0\tTwo cats .
"""


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 6)).save(folder / name)
    return folder


@pytest.fixture
def flickr8k(tmp_path):
    """The two archives of Flickr8k side by side."""
    pictures(tmp_path / "Flicker8k_Dataset", "a.jpg", "b.jpg", "c.jpg")
    texts = tmp_path / "Flickr8k_text"
    texts.mkdir()
    (texts / "Flickr8k.token.txt").write_text(TOKENS)
    (texts / "Flickr8k.lemma.token.txt").write_text("a.jpg#0\tdog run\n")
    (texts / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (texts / "Flickr_8k.devImages.txt").write_text("b.jpg\n")
    return tmp_path


def test_token_file(flickr8k):
    data = read(flickr8k)
    assert data.format == "flickr"
    assert [(record.id, record.texts) for record in data] == [
        ("a.jpg", ("A dog , running .", 'A brown dog, "Rex" .')),
        ("b.jpg", ("Two cats .",)),
    ]
    assert all(record.picture is not None for record in data)
    (fault,) = data.faults
    assert (fault.kind, fault.record) == ("picture without caption", "c.jpg")


@pytest.mark.parametrize(("split", "ids"), [("train", ["a.jpg"]), ("dev", ["b.jpg"]), ("val", ["b.jpg"])])
def test_lists_of_names_are_splits(flickr8k, split, ids):
    data = read(f"{flickr8k}:{split}")
    assert [record.id for record in data] == ids
    assert data.faults == ()


def test_an_unknown_split_is_named(flickr8k):
    with pytest.raises(DataError, match=r"unknown split 'test'.*Known: dev, train"):
        read(f"{flickr8k}:test")


def test_the_file_itself(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "results_20130124.token").write_text(TOKENS)
    assert len(read(tmp_path / "results_20130124.token")) == 2
    assert read(tmp_path).format == "flickr"


def test_lines_that_are_no_captions_and_lost_pictures_are_left_out(tmp_path):
    pictures(tmp_path, "a.jpg")
    (tmp_path / "x.token.txt").write_text(TOKENS + "a.jpg\tno number\n\na.jpg#2\t \nb.jpg.1#0\tlost\n")
    data = read(tmp_path)
    assert [record.id for record in data] == ["a.jpg"]
    assert data.fault_counts == {"malformed line": 2, "missing picture": 2}
    assert [fault.file.rpartition(":")[2] for fault in data.faults if fault.kind == "malformed line"] == ["4", "6"]


def test_marked_sentences(tmp_path):
    pictures(tmp_path / "flickr30k-images", "1.jpg", "2.jpg")
    sentences = tmp_path / "Sentences"
    sentences.mkdir()
    (sentences / "1.txt").write_text(
        "[/EN#1/people A girl] in [/EN#22/clothing/bodyparts a red hat] runs .\nShe runs .\n"
    )
    (sentences / "2.txt").write_text("[/EN#3/people A man waits .\n")
    (sentences / "3.txt").write_text("\n")
    (tmp_path / "train.txt").write_text("1\n")
    data = read(tmp_path)
    assert [(record.id, record.texts) for record in data] == [
        ("1.jpg", ("A girl in a red hat runs .", "She runs .")),
        ("2.jpg", ("A man waits .",)),
    ]
    assert data.fault_counts == {"broken markup": 1, "empty caption": 1}
    assert [record.id for record in read(f"{tmp_path}:train")] == ["1.jpg"]


def test_flickr30k(shared_data):
    """Three pictures are byte copies of a fourth and stay records of their own; six have no caption."""
    data = read(shared_data / "captions" / "flickr30k", task="captioning")
    assert [record.id for record in data] == ["1.jpg", "2.jpg", "3.jpg", "4945942737.jpg", "6338542128.jpg"]
    assert all(len(record.texts) == 5 for record in data)
    assert data[0].texts[1] == "A woman in black , seen from behind , sits next to a body of water ."
    assert not any("EN#" in text or "[" in text for record in data for text in record.texts)
    assert data.fault_counts == {"picture without caption": 6}


def test_flickr8k_as_a_table(shared_data):
    data = read(shared_data / "captions" / "flickr8k", task="captioning")
    assert data.format == "csv"
    assert [len(record.texts) for record in data] == [5, 5]
    assert data.faults == ()


def test_commas_and_bars_within_captions_of_tables(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    file = tmp_path / "captions.txt"
    file.write_text("image,caption\na.jpg,A dog, running, in grass .\nb.jpg,Two cats .\na.jpg,A dog\n")
    data = read(tmp_path, task="captioning")
    assert [record.texts for record in data] == [("A dog, running, in grass .", "A dog"), ("Two cats .",)]
    file.unlink()
    (tmp_path / "results.csv").write_text(
        "image_name| comment_number| comment\na.jpg| 0| Two men , one | grey .\nb.jpg| 0| A cat .\nb.jpg| 1   A cat\n"
    )
    data = read(tmp_path, task="captioning")
    assert [record.texts for record in data] == [("Two men , one | grey .",), ("A cat .",)]
    assert "wrong count of columns" in data.fault_counts
