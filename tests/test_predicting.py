"""Asking about pictures and prompts: how often pictures are opened, which are left out, what cannot be asked."""

import json
from collections import Counter

import pytest
from backbones import make
from PIL import Image

import mmtune
from mmtune.cli import main
from mmtune.data.images import FilePicture
from mmtune.errors import DataError, UsageError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict
from mmtune.records import Record

ASK = {"task": "detection", "prompt": "detect cat", "max_tokens": 9}


@pytest.fixture(scope="module")
def model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")


@pytest.fixture
def photos(tmp_path):
    """Two pictures, and one whose header is whole and whose pixels are not."""
    files = [tmp_path / name for name in ("a.png", "b.png", "cut.png")]
    for file in files:
        Image.effect_noise((90, 60), 90).convert("RGB").save(file)
    files[2].write_bytes(files[2].read_bytes()[:2000])
    return files


@pytest.fixture
def opened(monkeypatch):
    """How often each picture is decoded."""
    count = Counter()
    whole = FilePicture.open

    def counted(self):
        count[self.path.name] += 1
        return whole(self)

    monkeypatch.setattr(FilePicture, "open", counted)
    return count


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code or 0


def test_the_command_decodes_each_picture_once(photos, opened, capsys):
    words = ("predict", "tiny", "--task", "detection", "--prompt", "detect cat", "--max-tokens", 9, "--json", "-")
    assert run(*words, "--image", *photos) == 0
    said = capsys.readouterr()
    assert [item["image"] for item in json.loads(said.out)] == [str(file) for file in photos[:2]]
    assert said.err.count("left out: ") == 1
    assert "cut.png" in said.err
    assert opened == {"a.png": 1, "b.png": 1, "cut.png": 1}


def test_pictures_without_a_picture_are_said_before_a_model_is_loaded(photos, monkeypatch, capsys):
    monkeypatch.setattr("mmtune.models.load.load", lambda _: pytest.fail("the model was loaded"))
    words = ("predict", "tiny", "--task", "detection", "--prompt", "detect cat")
    assert run(*words, "--image", photos[0].with_name("no.png")) == 2
    assert "no.png" in capsys.readouterr().err


def test_faults_are_an_error_or_the_callers(model, photos):
    with pytest.raises(DataError, match=r"cut\.png"):
        predict(model, photos, **ASK)
    faults = []
    answers = predict(model, photos, **ASK, on_fault=faults.append)
    assert [answer.as_json()["image"] for answer in answers] == [str(file) for file in photos[:2]]
    assert [fault.kind for fault in faults] == ["unreadable picture"]
    assert predict(model, photos[2:], **ASK, on_fault=faults.append) == []


def test_drawing_needs_a_picture(capsys):
    words = ("predict", "tiny", "--task", "instruct", "--prompt", "hi", "--draw", "drawn")
    assert run(*words) == 2
    assert "leave --draw out" in capsys.readouterr().err


def test_a_text_model_is_not_asked_about_pictures(photos):
    blind = Model(make("gemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="blind")
    with pytest.raises(UsageError, match="the task detection needs pictures, and blind is a text model"):
        predict(blind, photos[:1], **ASK)
    with pytest.raises(UsageError, match="blind is a text model"):
        mmtune.evaluate(blind, task="captioning", data=[Record("a", FilePicture(photos[0]))], verbose=False)


@pytest.mark.parametrize("wrong", ["max_tokens", "batch_size"])
def test_zero_is_no_default(model, photos, wrong):
    with pytest.raises(UsageError, match=f"{wrong}: expected 1 or more, got 0"):
        predict(model, photos[:1], **{**ASK, wrong: 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grammars": [None]}, "expected one grammar a prompt, got 1 grammars and 2 prompts"),
        ({"rows": [1, 2, 3]}, "expected one row a prompt, got 3 rows and 2 prompts"),
    ],
)
def test_there_is_one_of_everything_a_prompt(model, given, message):
    with pytest.raises(UsageError, match=message):
        model.generate(Image.new("RGB", (9, 9)), ["ocr", "detect cat"], 4, **given)


def test_texts_to_score(model):
    image = Image.new("RGB", (9, 9))
    assert model.score(image, "ocr", "CAT") == model.score([image], ["ocr"], ["CAT"])
    with pytest.raises(UsageError, match="expected one text a prompt, got 2 texts and 1 prompts"):
        model.score(image, "ocr", ["CAT", "DOG"])
