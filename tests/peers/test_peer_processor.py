"""PaliGemma in transformers' usual flow, processor and `generate`: our export there, and what it saves here."""

import json
import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from backbones import make
from peer_vocabularies import WRITERS
from PIL import Image

from mmtune.data.pixels import to_image, to_square
from mmtune.data.read import read
from mmtune.files import write_json
from mmtune.model import Model, Setup
from mmtune.models.folder_files import PREPROCESSOR, PROCESSOR, SETTINGS
from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.load import load
from mmtune.registry import task_class

pytestmark = pytest.mark.peers

TASKS = ("detection", "segmentation", "captioning", "vqa", "ocr")
LONGEST = 48


def scenes():
    """Returns twenty pictures and prompts, four of each task about pictures."""
    found = []
    for task in TASKS:
        data = read("shapes:test?n=4&seed=7", task=task)
        adapter = task_class(task)(data.classes)
        found += [(record.picture.open(), adapter.queries(record)[0].prompt) for record in data.records]
    return found


def loaded(folder):
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return transformers.AutoProcessor.from_pretrained(folder), model.eval()


def their_ids(processor, model, picture, prompt):
    """Returns the ids of the prompt and those of the greedy answer, without the token that ends it."""
    inputs = processor(images=picture, text=f"<image>{prompt}", return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    tokens = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)[0].tolist()
    ends = processor.tokenizer.eos_token_id
    return tokens[:length], [token for token in tokens[length:] if token != ends]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    model = load("tiny")
    folder = model.export(tmp_path_factory.mktemp("tiny") / "out")
    return model, folder, *loaded(folder)


@pytest.fixture(scope="module")
def answers(tiny):
    """Returns what `tiny` says about each scene."""
    pictures, prompts = zip(*scenes(), strict=True)
    return tiny[0].generate(list(pictures), list(prompts), max_tokens=LONGEST)


def test_greedy_answers(tiny, answers):
    """Twenty of twenty: the ids of prompts and answers, and the text that their processor makes of them."""
    ours, _, processor, model = tiny
    assert len(answers) == 20
    assert len({answer.text for answer in answers}) > 8, "answers must differ for this to say anything"
    assert processor.image_token_id == model.config.image_token_id
    equal = []
    for (picture, prompt), answer in zip(scenes(), answers, strict=True):
        asked, found = their_ids(processor, model, picture, prompt)
        image = [processor.image_token_id] * ours.spec.image_tokens
        assert asked == image + ours.tokenizer.prompt(prompt)
        texts = tuple(ours.tokenizer.texts(found))
        said = processor.decode(found, skip_special_tokens=True)
        equal.append(answer.tokens in (texts, (*texts, "")) and said == answer.text)  # "": the token that ends it
    assert equal == [True] * 20


def test_saved_again_there_and_loaded_here(tiny, answers, tmp_path):
    ours, _, processor, model = tiny
    processor.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert (tmp_path / PROCESSOR).exists()
    assert not (tmp_path / PREPROCESSOR).exists()
    again = load(tmp_path)
    assert again.spec == ours.spec
    pictures, prompts = zip(*scenes(), strict=True)
    assert again.generate(list(pictures), list(prompts), max_tokens=LONGEST) == answers


PREPARED = {
    "bicubic": (3, [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]),
    "bilinear": (2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


@pytest.mark.parametrize("former", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize("case", PREPARED)
def test_pictures_are_prepared_as_the_saved_processor_does(tiny, tmp_path, case, former, caplog):
    """With the file that transformers 5 writes; beside it the former one, which says otherwise."""
    folder = tmp_path / "model"
    shutil.copytree(tiny[1], folder)
    changed = transformers.AutoProcessor.from_pretrained(folder)
    images = changed.image_processor
    images.resample, images.image_mean, images.image_std = PREPARED[case]
    changed.save_pretrained(tmp_path / "saved")
    shutil.copy(tmp_path / "saved" / PROCESSOR, folder)
    if not former:
        (folder / PREPROCESSOR).unlink()
    caplog.clear()
    ours, (processor, model) = load(folder), loaded(folder)
    assert len([said for said in caplog.messages if f"differs from {PREPROCESSOR}" in said]) == former
    vision = ours.spec.vision
    chosen = scenes()[::7]
    for picture, _ in chosen:
        picture = picture.resize((150, 97))
        theirs = processor(images=picture, text="<image>a", return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        square = to_square(to_image(picture), vision.image_size, vision.resample)
        np.testing.assert_allclose((square / 255 - vision.mean) / vision.std, theirs, atol=1e-5)
        usual = to_square(to_image(picture), vision.image_size) / 127.5 - 1
        assert np.abs(usual - theirs).max() > 0.1
    answers = ours.generate([picture for picture, _ in chosen], [prompt for _, prompt in chosen], max_tokens=LONGEST)
    for (picture, prompt), answer in zip(chosen, answers, strict=True):
        _, found = their_ids(processor, model, picture, prompt)
        assert "".join(ours.tokenizer.texts(found)) == answer.text


def test_a_whole_number_as_size_keeps_the_aspect_there(tiny):
    """Which is why it is refused here."""
    side = tiny[0].image_size
    processor = transformers.SiglipImageProcessorPil(size=side)
    values = processor(images=Image.new("RGB", (2 * side, side)), return_tensors="np")["pixel_values"]
    assert values.shape == (1, 3, side, 2 * side)


@pytest.mark.parametrize(
    "setup", [None, Setup("detection", ("star", "ring", "moon"), max_tokens=30)], ids=["untaught", "detection"]
)
def test_the_card_of_an_export_is_a_program_that_runs(tiny, setup, tmp_path, monkeypatch, capsys):
    ours = tiny[0].copy()
    ours.setup = setup
    folder = ours.export(tmp_path / "out")
    scenes()[3][0].resize((300, 200)).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    program = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)[0]
    assert "AutoProcessor" in program
    capsys.readouterr()
    exec(program, {})
    prompt, most = ("caption en", 128) if setup is None else ("detect star ; ring ; moon", 30)
    (answer,) = ours.generate("picture.jpg", [prompt], max_tokens=most)
    assert capsys.readouterr().out == f"{answer.text}\n"
    assert answer.text


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "GemmaTokenizer"])
def test_an_image_token_that_tokenizer_json_lacks(kind, tmp_path):
    """The export names it, so that it has the id of the configuration there, not whatever is free."""
    WRITERS["gemma json"](tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    write_json(tmp_path / SETTINGS, settings | {"tokenizer_class": kind})
    tokenizer = read_tokenizer(tmp_path, starts=True)
    ours = Model(make("paligemma", vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="json")
    processor, model = loaded(ours.export(tmp_path / "out"))
    assert processor.image_token_id == model.config.image_token_id == tokenizer.vocabulary_size
    for number, (picture, _) in enumerate(scenes()[::6]):
        prompt = f"detect the cat ; {number} <loc0012>"
        asked, found = their_ids(processor, model, picture, prompt)
        assert asked[ours.spec.image_tokens :] == tokenizer.prompt(prompt)
        (answer,) = ours.generate([picture], [prompt], max_tokens=LONGEST)
        assert tokenizer.decode(found) == answer.text
