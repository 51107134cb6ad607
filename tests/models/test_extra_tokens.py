"""Checkpoints whose vocabulary has more tokens than the model has embeddings, or names ids that the model does not."""

import json
import logging

import numpy as np
import pytest
from backbones import make
from paligemma_vocabularies import IMAGE, entry, write

from mmtune.codecs.chat import template_of
from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, ModelError
from mmtune.files import write_json
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.load import load
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables
from mmtune.records import Record
from mmtune.tasks.captioning import Captioning, CaptioningOptions
from mmtune.training.examples import list_examples

PROMPT = "detect cat ; dog"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small random PaliGemma with an embedding for each of its tokens but that for pictures."""
    folder = write(tmp_path_factory.mktemp("whole"), "unregistered")
    tokenizer = read_tokenizer(folder)
    backbone = make("paligemma", vocabulary_size=tokenizer.find(IMAGE))
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32")
    return folder


def extended(whole, folder, *tokens, settings=None, config=None):
    """Writes the model again, its vocabulary with further tokens (content, special), and returns their ids."""
    content = json.loads((whole / "tokenizer.json").read_text(encoding="utf-8"))
    first = max(token["id"] for token in content["added_tokens"]) + 1
    content["added_tokens"] += [entry(at, token, special=special) for at, (token, special) in enumerate(tokens, first)]
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for name, changes in (("tokenizer_config.json", settings), ("config.json", config)):
        write_json(folder / name, json.loads((whole / name).read_text(encoding="utf-8")) | (changes or {}))
    (folder / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    return range(first, first + len(tokens))


def answers(model, prompts=(PROMPT,)):
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    return [(answer.tokens, answer.logprobs) for answer in model.generate(picture, prompts, max_tokens=8)]


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_it_answers_alike_and_says_so_once(whole, tmp_path, caplog):
    plain = load(whole)
    extended(whole, tmp_path, ("<mask>", True), ("<box>", False))
    rows = plain.spec.text.vocabulary_size
    caplog.clear()
    model, again = load(tmp_path), load(tmp_path)
    (said,) = warnings(caplog)
    assert str(tmp_path) in said
    assert f"has {rows + 3} tokens, the model embeddings for {rows}" in said
    assert model.tokenizer.vocabulary_size == rows
    assert answers(model) == answers(again) == answers(plain)
    # A control token in a text is the characters it is made of.
    assert model.tokenizer.encode("a <mask> b") == plain.tokenizer.encode("a <mask> b")
    model.tokenizer.save(tmp_path)
    assert read_tokenizer(tmp_path).find("<box>") == rows + 2, "what is saved is whole"


def test_a_text_that_uses_one_is_refused(whole, tmp_path):
    (token,) = extended(whole, tmp_path, ("<box>", False))
    model = load(tmp_path)
    message = rf"'two <box> here' uses the token <box>, id {token}, but the model has embeddings for {token - 1} tokens"
    picture = np.zeros((28, 28, 3), np.uint8)
    with pytest.raises(DataError, match=message):
        model.generate(picture, ["two <box> here"], max_tokens=2)
    with pytest.raises(DataError, match=message):
        model.score(picture, [PROMPT], ["two <box> here"])
    with pytest.raises(DataError, match="uses the token <box>"):
        model.predict(picture, task="detection", prompt="detect cat ; a <box>", max_tokens=9)


def test_a_record_that_uses_one_is_not_trained_on(whole, tmp_path):
    extended(whole, tmp_path, ("<box>", False))
    tokenizer = load(tmp_path).tokenizer
    records = [Record(id=name, texts=(text,), source="a.jsonl") for name, text in (("0", "a cat"), ("1", "a <box>"))]
    log = FaultLog()
    examples = list_examples(records, Captioning((), CaptioningOptions()), tokenizer, log)
    assert [example.record.id for example in examples] == ["0"]
    ((file, record, kind, problem),) = [(f.file, f.record, f.kind, f.problem) for f in log.faults]
    assert (file, record, kind) == ("a.jsonl", "1", "unusable for the model")
    assert "uses the token <box>" in problem


@pytest.mark.parametrize("settings", [{"pad_token": "[PAD]"}, {"pad_token": "[NOWHERE]"}, {"pad_token": None}])
def test_the_end_fills_rows_where_no_token_with_an_embedding_does(whole, tmp_path, settings):
    extended(whole, tmp_path, ("[PAD]", True), settings=settings)
    model = load(tmp_path)
    assert model.tokenizer.pad == model.tokenizer.eos
    prompts = [PROMPT, "cat"]  # of different lengths, so that a row is filled
    assert answers(model, prompts) == answers(load(whole), prompts)


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_the_begin_and_the_end_need_an_embedding(whole, tmp_path, name):
    (token,) = extended(whole, tmp_path, ("[NEW]", True), settings={f"{name}_token": "[NEW]"})
    with pytest.raises(ModelError, match=f"the tokenizer's {name} has the id {token}, the model embeddings for"):
        load(tmp_path)


def test_the_vocabulary_of_another_model_is_refused(whole, tmp_path):
    """Pieces that any text may need, and not merely added tokens, lie behind the table."""
    extended(whole, tmp_path)
    backbone = make("paligemma", vocabulary_size=300)
    write_checkpoint(tmp_path, read_spec(backbone), model_variables(backbone), "float32")
    with pytest.raises(ModelError, match="the model embeddings for 300: they do not belong together"):
        load(tmp_path)


def test_tokens_of_a_chat_without_an_embedding_make_no_template(whole, tmp_path):
    extended(whole, tmp_path, ("<start_of_turn>", True), ("<end_of_turn>", True))
    assert template_of(read_tokenizer(tmp_path)).name == "gemma"
    model = load(tmp_path)
    assert template_of(model.tokenizer).name == "plain"
    assert answers(model) == answers(load(whole))


@pytest.mark.parametrize("says", [None, True, False])
def test_bos_begins_each_prompt_of_a_paligemma(whole, tmp_path, says):
    """transformers' processor writes it itself, and saves a tokenizer that adds none."""
    extended(whole, tmp_path, settings={} if says is None else {"add_bos_token": says})
    model = load(tmp_path)
    assert model.tokenizer.prompt("cat")[0] == model.tokenizer.bos
    assert read_tokenizer(tmp_path).start == ([model.tokenizer.bos] if says else [])  # as a text model's are


@pytest.mark.parametrize("field", ["image_token_index", "image_token_id"])
def test_another_id_for_pictures_changes_no_answer(whole, tmp_path, field, caplog):
    found = read_tokenizer(whole).find(IMAGE)
    extended(whole, tmp_path / "equal", config={field: found})
    extended(whole, tmp_path / "other", config={field: 5})
    wanted = answers(load(whole))
    caplog.clear()
    assert answers(load(tmp_path / "equal")) == wanted
    assert not any("<image>" in said for said in warnings(caplog))
    assert answers(load(tmp_path / "other")) == wanted
    (said,) = [said for said in warnings(caplog) if "<image>" in said]
    assert f"its vocabulary gives <image> the id {found}, its config.json 5" in said
