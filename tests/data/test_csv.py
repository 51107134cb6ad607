from pathlib import Path

import pytest
from PIL import Image

from mmtune.data.csv import Csv
from mmtune.data.csv_rows import table_columns
from mmtune.data.dataset import FaultLog
from mmtune.data.read import read
from mmtune.data.reader import Source
from mmtune.errors import DataError
from mmtune.records import Box


def picture(file: Path, size=(100, 50)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(file)


def write(file: Path, *lines, ending="\n"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(ending.join([*lines, ""]).encode())
    return file


def load(path: Path, **options):
    log = FaultLog()
    content = Csv().read(Source(path, **options), log)
    return content.records, tuple(content.classes), log.faults


A, B = Box("cat", 10, 20, 40, 45), Box("dog, big", 1, 2, 3, 4)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(
            ["a.png,100,50,cat,10,20,40,45", "b.png,100,50,,,,,", 'a.png,100,50,"dog, big",1,2,3,4'],
            id="TensorFlow object detection",
        ),
        pytest.param(["a.png;cat;10;20;30;25", "b.png;;;;;", "a.png;dog, big;1;2;2;2"], id="sides, semicolons"),
        pytest.param(
            ["a.png\tcat\t10\t20\t40\t45", "b.png\t\t\t\t\t", "a.png\tdog, big\t1\t2\t3\t4"], id="x1 y1, tabs"
        ),
        pytest.param(["a.png,10,20,40,45,cat", "b.png,,,,,", 'a.png,1,2,3,4,"dog, big"'], id="RetinaNet"),
        pytest.param(["b.png,,,,,", "a.png,10,20,40,45,cat", 'a.png,1,2,3,4,"dog, big"'], id="RetinaNet, empty first"),
        pytest.param(
            ["a.png|cat|0.1|0.4|0.4|0.9", "b.png|||||", "a.png|dog, big|0.01|0.04|0.03|0.08"], id="fractions, bars"
        ),
        pytest.param(["a, 40 , cat, 10, 45, 20 ,x", "b,,,,,,", 'a,3,"dog, big",1,4,2,'], id="stems, any order"),
    ],
)
def test_boxes(tmp_path, lines, request):
    name = request.node.callspec.id
    header = {
        "TensorFlow object detection": "filename,width,height,class,xmin,ymin,xmax,ymax",
        "sides, semicolons": "image;label;x;y;w;h",
        "x1 y1, tabs": "Path\tClass Name\tX1\tY1\tX2\tY2",
        "fractions, bars": "image|label|x1|y1|x2|y2",
        "stems, any order": "ImageID,XMax,LabelName,XMin,YMax,YMin,Source",
    }.get(name)
    picture(tmp_path / "a.png")
    picture(tmp_path / "images" / "b.png")
    file = write(tmp_path / "boxes.csv", *([header] if header else []), *lines, ending="\r\n")
    assert Csv().claims(file)
    records, classes, faults = load(file)
    found = {Path(record.id).stem: record for record in records}
    assert [box.label for box in found["a"].boxes] == ["cat", "dog, big"]
    for box, meant in zip(found["a"].boxes, (A, B), strict=True):
        assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((meant.x0, meant.y0, meant.x1, meant.y1))
    assert found["b"].boxes == ()
    assert [record.size for record in records] == [(100, 50)] * 2
    assert classes == ("cat", "dog, big")
    assert faults == []


def test_values_up_to_one_are_pixels_where_others_are_larger(tmp_path):
    picture(tmp_path / "a.png")
    file = write(tmp_path / "a.csv", "image,class,xmin,ymin,xmax,ymax", "a.png,x,0,0,1,1", "a.png,x,0,0,1,1.5")
    assert load(file)[0][0].boxes == (Box("x", 0, 0, 1, 1), Box("x", 0, 0, 1, 1.5))


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("a.png,cat,10,20,40", "wrong count of columns"),
        ("a.png,cat,10,20,40,45,9", "wrong count of columns"),
        ('a.png,"cat,10,20,40,45', "wrong count of columns"),
        ("a.png,cat,10,20,forty,45", "broken box"),
        ("a.png,cat,10,20,nan,45", "broken box"),
        ("a.png,cat,10,20,,45", "broken box"),
        ("a.png,,10,20,40,45", "broken box"),
        ("a.png,cat,10,20,10,45", "box without area"),
        ("a.png,cat,10,20,140,45", "box beyond the picture"),
        ("no.png,cat,10,20,40,45", "missing picture"),
        ("broken.png,cat,10,20,40,45", "broken picture"),
        (",cat,10,20,40,45", "missing picture"),
    ],
)
def test_what_cannot_be_used_is_a_fault_and_the_rest_is_used(tmp_path, row, kind):
    picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    good = "a.png,cat,10,20,40,45"
    file = write(tmp_path / "a.csv", "image,class,xmin,ymin,xmax,ymax", good, row, good)
    records, _, faults = load(file)
    assert [fault.kind for fault in faults] == [kind]
    assert faults[0].file == f"{file}:3"
    boxes = [record.boxes for record in records if record.boxes]
    assert len(boxes) == 1
    assert (boxes[0][0], boxes[0][-1]) == (Box("cat", 10, 20, 40, 45),) * 2


def test_the_stated_size_is_compared_with_the_picture(tmp_path):
    picture(tmp_path / "a.png")
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    file = write(tmp_path / "a.csv", header, "a.png,99,50,cat,10,20,40,45")
    records, _, faults = load(file)
    assert records[0].size == (100, 50)
    assert [fault.kind for fault in faults] == ["size disagrees"]


def test_captions_with_commas_that_are_not_quoted(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    file = write(
        tmp_path / "captions.txt",
        "image,caption",
        "a.jpg,A dog , a cat .",
        'a.jpg,"Quoted, well"',
        "b.jpg,plain",
        'b.jpg,"Half a quote, open',
        "a.jpg,",
    )
    records, classes, faults = load(tmp_path, task="captioning")
    assert [(record.id, record.texts) for record in records] == [
        ("a.jpg", ("A dog , a cat .", "Quoted, well")),
        ("b.jpg", ("plain", '"Half a quote, open')),
    ]
    assert classes == ()
    lines = [(fault.kind, fault.file) for fault in faults]
    unquoted = [("unquoted text", f"{file}:2"), ("unquoted text", f"{file}:5")]
    assert lines == [*unquoted, ("empty text", f"{file}:6")]


def test_a_quoted_text_may_have_lines(tmp_path):
    picture(tmp_path / "a.jpg")
    file = write(tmp_path / "a.csv", "image,text", 'a.jpg,"one', 'two ""three"""', "a.jpg,\u2028four")
    records, _, faults = load(file)
    assert (records[0].texts, faults) == (('one\ntwo "three"', "four"), [])


def test_prefix_and_suffix(tmp_path):
    picture(tmp_path / "a.png", (1023, 1023))
    file = write(
        tmp_path / "a.csv",
        "image,prefix,suffix",
        "a.png,detect cat,<loc0001><loc0002><loc0003><loc0004> cat",
        "a.png,cap en,one",
        "a.png,cap en,two",
    )
    records, classes, faults = load(file)
    assert [record.id for record in records] == ["a.png#2", "a.png#3"]
    assert records[0].boxes == (Box("cat", 2, 1, 4, 3),)
    assert (records[1].prefix, records[1].texts) == ("cap en", ("one", "two"))
    assert (classes, faults) == (("cat",), [])


def test_labels_are_texts_and_classes(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    file = write(tmp_path / "a.csv", "filename,label", "a.png,owl", "b.png,bee", "b.png,owl")
    records, classes, faults = load(file)
    assert [record.texts for record in records] == [("owl",), ("bee", "owl")]
    assert (classes, faults) == (("owl", "bee"), [])


def test_texts_without_pictures(tmp_path):
    file = write(tmp_path / "a.csv", "prompt,response", "2+2?,4", "Hi,Hello")
    records, _, _ = load(file)
    assert [(record.prefix, record.texts, record.picture) for record in records] == [
        ("2+2?", ("4",), None),
        ("Hi", ("Hello",), None),
    ]


@pytest.mark.parametrize("names", [["train.csv", "test.csv"], ["train_labels.csv", "test_labels.csv"]])
def test_splits(tmp_path, names):
    for name in names:
        picture(tmp_path / "images" / Path(name).stem.removesuffix("_labels") / "a.png")
        write(tmp_path / name, "image,label", f"a.png,{name}")
    write(tmp_path / "classes.csv", "some,thing", "1,2")
    assert list(Csv().splits(tmp_path)) == ["train", "test"]
    assert load(tmp_path, split="test")[0][0].texts == (names[1],)
    records, _, _ = load(tmp_path)
    assert [record.id for record in records] == ["a.png#train:2", "a.png#test:2"]
    assert {Path(record.picture.name).parent.name for record in records if record.picture} == {"train", "test"}


def test_utf16_and_byte_order_marks(tmp_path):
    picture(tmp_path / "a.png")
    for encoding in ("utf-8-sig", "utf-16"):
        file = tmp_path / "a.csv"
        file.write_text("image,label\na.png,bœuf\n", encoding=encoding)
        assert load(file)[0][0].texts == ("bœuf",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a.csv:1: expected a header such as"),
        (b"alpha,beta\n1,2\n", "received 'alpha,beta'"),
        (b"image,label\na.png,b\xe9\n", "a.csv:2: expected text in UTF-8"),
    ],
)
def test_a_file_of_another_kind_ends_in_one_message(tmp_path, content, words):
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "known"),
    [
        ("image,caption", True),
        ("a.jpg,a word", True),
        ("a.jpg\tword", True),
        ("72,25,326,25,326,64,72,64,TAN WOON YANN", False),
        ("id,name", False),
        ("filename,width,height", False),
        ("0 0.5 0.5 0.1 0.1", False),
        ('{"image": "a.jpg", "suffix": "x"}', False),
    ],
)
def test_first_rows(tmp_path, first, known):
    file = write(tmp_path / "a.txt", first)
    assert (table_columns(file) is not None) is known
    assert Csv().claims(file) is known


def test_real_captions(shared_data):
    data = read(shared_data / "captions" / "flickr8k", task="captioning")
    assert data.format == "csv"
    assert [len(record.texts) for record in data] == [5, 5]
    assert data[0].texts[1] == "A girl going into a wooden building ."


def test_real_words(shared_data):
    data = read(shared_data / "words" / "photos", task="ocr", format="csv")
    assert data.format == "csv"
    assert len(data) == 10
    assert data[0].texts == ("available",)
