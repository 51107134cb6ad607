"""Referring expressions beside a COCO file."""

import json
import pickle

import pytest
from annotation_files import coco_box, coco_file, photo

from mmtune.codecs.boxes import UNNAMED
from mmtune.data.read import read
from mmtune.errors import DataError, UsageError

SQUARE = [[10, 20, 40, 20, 40, 60, 10, 60]]


class Harmful:
    """What a pickle that runs code holds."""

    def __reduce__(self):
        return (print, ("this must not run",))


def ref(**more):
    sentences = [{"sent": "left cat", "sent_id": 3}, {"raw": "The cat.", "sent_id": 4}]
    return {"ref_id": 5, "ann_id": 7, "image_id": 1, "split": "train", "sentences": sentences} | more


@pytest.fixture
def folder(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    coco_file(tmp_path / "instances.json", [coco_box(segmentation=SQUARE, area=1200)])
    return tmp_path


def write(folder, refs, form="json", name="refs(unc)"):
    if form == "json":
        (folder / f"{name}.json").write_text(json.dumps(refs))
    else:
        (folder / f"{name}.p").write_bytes(pickle.dumps(refs, protocol=int(form)))
    return folder


@pytest.mark.parametrize("form", ["json", "0", "2", "4"])
def test_each_sentence_is_a_record(folder, form):
    data = read(write(folder, [ref(), ref(ref_id=6, split="val")], form), task="segmentation")
    assert (data.format, data.classes, data.faults) == ("refcoco", (UNNAMED,), ())
    assert [(record.id, record.prefix) for record in data] == [
        ("5-3", "left cat"),
        ("5-4", "The cat."),
        ("6-3", "left cat"),
        ("6-4", "The cat."),
    ]
    record = data[0]
    assert record.size == (100, 80)
    assert record.image_id == 1
    (box,), (mask,) = record.boxes, record.masks
    assert (box.x0, box.y0, box.x1, box.y1, box.area, box.label) == (10, 20, 40, 60, 1200, UNNAMED)
    assert (mask.label, mask.size) == (UNNAMED, (80, 100))
    assert [record.id for record in read(f"{folder}:val", task="segmentation")] == ["6-3", "6-4"]
    assert not read(folder, task="detection")[0].masks


def test_unknown_split(folder):
    with pytest.raises(UsageError, match="unknown split 'tset': did you mean 'test'"):
        read(f"{write(folder, [ref(split='test')])}:tset", task="segmentation")


@pytest.mark.parametrize(
    ("names", "option", "taken"),
    [
        pytest.param(("google", "unc"), "", "unc", id="the usual one of RefCOCO"),
        pytest.param(("google", "umd"), "", "umd", id="the usual one of RefCOCOg"),
        pytest.param(("google", "unc"), "?split_by=google", "google", id="as asked"),
        pytest.param(("google", "unc"), "?split_by=unc", "unc", id="the usual one, asked for"),
        pytest.param(("b", "a"), "", "a", id="the first by name"),
    ],
)
def test_of_several_lists_one_is_taken_and_named(folder, names, option, taken):
    for number, name in enumerate(names):
        write(folder, [ref(ref_id=number, split=f"of {name}")], "2", f"refs({name})")
    data = read(f"{folder}{option}", task="segmentation")
    assert {record.source for record in data} == {str(folder / f"refs({taken}).p")}
    others = [name for name in names if name != taken]
    told = [(fault.kind, fault.file, f"?split_by={others[0]} " in fault.problem) for fault in data.faults]
    assert told == ([] if option else [("list chosen", str(folder / f"refs({taken}).p"), True)])
    with pytest.raises(UsageError, match=rf"refs\({taken}\).p: unknown split 'of {others[0]}'"):
        read(f"{folder}:of {others[0]}{option}", task="segmentation")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("split_by=umc", r"unknown list of references .split_by. 'umc': did you mean 'unc'\? Known: google, unc"),
        ("splitby=unc", "unknown option of refcoco 'splitby': did you mean 'split_by'"),
    ],
)
def test_wrong_options(folder, option, message):
    for name in ("google", "unc"):
        write(folder, [ref()], name=f"refs({name})")
    with pytest.raises(UsageError, match=message):
        read(f"{folder}?{option}", task="segmentation")


def test_json_goes_before_a_pickle_of_the_same_list(folder):
    write(folder, [ref(ref_id=1)], "2")
    write(folder, [ref(ref_id=2)])
    data = read(folder, task="segmentation")
    assert (data[0].id, data.faults) == ("2-3", ())


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        pytest.param(ref(ann_id=8), "unknown object", id="no such annotation"),
        pytest.param(ref(image_id=8), "unknown object", id="no such picture"),
        pytest.param(ref(sentences=[{"sent": " "}]), "no sentence", id="empty sentence"),
        pytest.param(ref(sentences=["left"]), "no sentence", id="odd sentence"),
    ],
)
def test_faults_are_named_and_the_rest_is_used(folder, bad, kind):
    data = read(write(folder, [bad, ref(ref_id=9)]), task="segmentation")
    assert [fault.kind for fault in data.faults] == [kind]
    assert [record.id for record in data] == ["9-3", "9-4"]


def test_absent_picture(folder):
    (folder / "images" / "a.jpg").unlink()
    write(folder, [ref()])
    with pytest.raises(DataError, match="missing picture"):
        read(folder, task="segmentation")
    assert len(read(folder, task="segmentation", need_pictures=False)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(pickle.dumps([Harmful()]), "builtins.print, not only plain values", id="code"),
        pytest.param(b"nothing", "cannot be read as a pickled list", id="no pickle"),
        pytest.param(pickle.dumps({"a": 1}), "expected a list of references", id="no list"),
    ],
)
def test_other_files(folder, content, words, capsys):
    (folder / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(folder, task="segmentation", format="refcoco")
    assert "must not run" not in capsys.readouterr().out
