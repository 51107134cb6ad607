"""Vocabularies of tokenizer.json against the library that reads them, and the choice of a folder's vocabulary."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mmtune.errors import ModelError
from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import tiny_tokenizer

CORPUS = ["the cat sat on the mat, the dog did not", "zwölf Boxkämpfer jagen 日本語", "def f(x):\n    return x + 1\n"]
SPECIAL = ["<s>", "</s>", "<pad>"]
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def bytewise():
    """Byte pairs over bytes, in the manner of Llama 3."""
    built = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    built.train_from_iterator(CORPUS * 9, trainer)
    return built


def spaced():
    """Byte pairs over characters with spaces as letters and bytes for the rest, in the manner of Gemma."""
    built = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    built.normalizer = normalizers.Replace(" ", "▁")
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    built.train_from_iterator(CORPUS * 9, trainer)
    content = json.loads(built.to_str())
    # Bytes are no control tokens; the trainer can only make them as such.
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


MADE = {"bytewise": bytewise(), "spaced": spaced()}
for _built in MADE.values():
    _built.add_tokens([AddedToken("<loc0000>", normalized=False), AddedToken("<box>", normalized=False)])
NAMES = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": "<pad>"}
OURS = {name: JsonTokenizer(built.to_str(), json.dumps(NAMES)) for name, built in MADE.items()}
TEXTS = [
    "",
    "the cat",
    "  two  spaces   ",
    "line\n\nline\n",
    "\tdef g(y):\r\n\t\treturn 12345",
    "日本語 über תשע",
    "😀👩‍👩‍👧 é",
    "<loc0000> cat <box>",
    "<0x41> is a byte",
]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_ids_and_text_are_the_librarys(name, text):
    ours, theirs = OURS[name], MADE[name]
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids) == text
    assert len(ours.texts(ids)) == len(ids)


@pytest.mark.parametrize("name", MADE)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_any_text_survives(name, text):
    assert OURS[name].decode(OURS[name].encode(text)) == text


@pytest.mark.parametrize("name", MADE)
def test_bytes_that_are_no_text_are_marked(name):
    assert OURS[name].decode(OURS[name].encode("a\ud800 \udcff")) == "a\ufffd \ufffd"
    assert OURS[name].find("\ud800") is None


@pytest.mark.parametrize("name", MADE)
def test_control_tokens_have_ids_and_no_text(name):
    ours, theirs = OURS[name], MADE[name]
    assert [ours.bos, ours.eos, ours.pad] == [theirs.token_to_id(piece) for piece in SPECIAL]
    assert ours.decode([ours.bos, *ours.encode("cat"), ours.eos]) == "cat"
    assert ours.vocabulary_size == theirs.get_vocab_size()
    assert ours.find("<loc0000>") == theirs.token_to_id("<loc0000>")
    assert ours.seg is None
    assert ours.texts([ours.vocabulary_size, 10**9, -1]) == ["\ufffd"] * 3


@pytest.mark.parametrize("name", MADE)
def test_what_users_write_is_no_control_token(name):
    """transformers does so with split_special_tokens; the tokens of a chat are the template's to write."""
    built = tokenizers.Tokenizer.from_str(MADE[name].to_str())
    built.add_special_tokens([AddedToken(piece, special=True) for piece in ("<start_of_turn>", "<end_of_turn>")])
    ours = JsonTokenizer(built.to_str(), json.dumps(NAMES))
    text = "the cat</s> sat <s>on"
    ids = ours.encode(text)
    assert not {ours.bos, ours.eos} & set(ids)
    assert ours.decode(ids) == text
    assert {ours.bos, ours.eos} <= set(built.encode(text, add_special_tokens=False).ids)
    turn = "<start_of_turn>the cat<end_of_turn>"
    assert ours.encode(turn) == built.encode(turn, add_special_tokens=False).ids
    assert ours.encode(turn)[0] == built.token_to_id("<start_of_turn>")


@pytest.mark.parametrize("front", ["each", "first"])
def test_a_space_that_is_put_before_texts_is_taken_off_again(front):
    """Llama 2's way; with "first", what follows a token of a chat gets none."""
    content = json.loads(MADE["spaced"].to_str())
    built = tokenizers.Tokenizer.from_str(json.dumps(content))
    if front == "each":
        built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        built.normalizer = None
        built.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    built.decoder = decoders.Sequence(back)
    built.add_special_tokens([AddedToken("<|im_start|>", special=True, normalized=False)])
    ours = JsonTokenizer(built.to_str(), json.dumps(NAMES))
    assert ours.puts_space
    assert not OURS["spaced"].puts_space
    for text in ("the cat", "cat\n", "é", ""):
        ids = ours.encode(text)
        assert ids == built.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == built.decode(ids) == text
    turn = "the cat<|im_start|>sat"
    ids = ours.encode(turn)
    assert ids == built.encode(turn, add_special_tokens=False).ids
    assert ours.texts(ids)[ids.index(ours.find("<|im_start|>"))] == ""
    assert ours.decode(ids) == built.decode(ids) == ("the catsat" if front == "first" else "the cat sat")


def test_what_begins_a_prompt():
    built = tokenizers.Tokenizer.from_str(MADE["spaced"].to_str())
    assert JsonTokenizer(built.to_str(), json.dumps(NAMES)).start == []
    bos = built.token_to_id("<s>")
    assert JsonTokenizer(built.to_str(), json.dumps(NAMES | {"add_bos_token": True})).start == [bos]
    built.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", 1)]
    )
    ours = JsonTokenizer(built.to_str(), json.dumps(NAMES))
    assert ours.start == [bos]
    assert ours.prompt("cat") == [bos, *ours.encode("cat"), *ours.encode("\n")]
    assert JsonTokenizer(built.to_str(), json.dumps(NAMES | {"add_bos_token": False})).start == []


def test_a_character_of_several_tokens_stands_at_its_last():
    ours = OURS["bytewise"]
    ids = ours.encode("😀")
    assert len(ids) > 1
    assert ours.texts(ids) == [*[""] * (len(ids) - 1), "😀"]


def folder_of(tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / {"model": "tokenizer.model"}.get(name, f"{name}.json")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return tmp_path


def settings(**changes):
    return NAMES | changes


def test_a_folder_of_either_form(tmp_path):
    content = json.loads(MADE["spaced"].to_str())
    folder = folder_of(tmp_path, tokenizer=content, tokenizer_config=settings(), model=tiny_tokenizer().proto)
    found = read_tokenizer(folder)
    assert isinstance(found, JsonTokenizer)
    assert found.encode("the cat") == OURS["spaced"].encode("the cat")
    assert (found.bos, found.eos, found.pad) == (OURS["spaced"].bos, OURS["spaced"].eos, OURS["spaced"].pad)
    (folder / "tokenizer.json").unlink()
    assert isinstance(read_tokenizer(folder), SentencePieceTokenizer)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match=r"expected tokenizer\.json or tokenizer\.model, found neither"):
        read_tokenizer(folder)


@pytest.mark.parametrize("tokenizer", [OURS["bytewise"], tiny_tokenizer()], ids=["json", "spm"])
def test_a_vocabulary_comes_back_from_its_folder(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    found = read_tokenizer(tmp_path)
    assert (found.bos, found.eos, found.pad) == (tokenizer.bos, tokenizer.eos, tokenizer.pad)
    assert found.encode("the cat  sat é") == tokenizer.encode("the cat  sat é")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert tokenizer.find(config["bos_token"]) == tokenizer.bos


def test_names_of_control_tokens_may_stand_in_the_older_file(tmp_path):
    content = json.loads(MADE["spaced"].to_str())
    found = read_tokenizer(folder_of(tmp_path, tokenizer=content, special_tokens_map=settings(pad_token=None)))
    assert found.pad == found.eos == MADE["spaced"].token_to_id("</s>")


def test_a_chat_template_of_its_own_file_is_kept(tmp_path):
    """Where transformers has written it since version 4.51; an export must not lose it."""
    content = json.loads(MADE["spaced"].to_str())
    folder = folder_of(tmp_path, tokenizer=content, tokenizer_config=settings())
    (folder / "chat_template.jinja").write_text("{{ messages }} é", encoding="utf-8")
    found = read_tokenizer(folder)
    assert found.chat_template == "{{ messages }} é"
    (tmp_path / "again").mkdir()
    found.save(tmp_path / "again")
    assert read_tokenizer(tmp_path / "again").chat_template == "{{ messages }} é"


@pytest.mark.parametrize("said", [{"add_bos_token": False}, {}])
def test_a_prompt_starts_with_bos_where_the_family_says_so(tmp_path, said):
    """transformers saves PaliGemma's vocabulary as one that adds no bos: its processor writes it into the text."""
    content = json.loads(MADE["spaced"].to_str())
    assert content["post_processor"] is None
    folder = folder_of(tmp_path, tokenizer=content, tokenizer_config=settings() | said)
    assert read_tokenizer(folder).start == []
    found = read_tokenizer(folder, starts=True)
    assert found.start == [found.bos]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer": {"version": "1.0"}, "tokenizer_config": settings()}, r"tokenizer\.json: .*no tokenizer\.json"),
        ({"tokenizer": b"\xff\xfe", "tokenizer_config": settings()}, "expected UTF-8, but byte 0 is none"),
        ({"tokenizer": {}, "tokenizer_config": b"{"}, r"tokenizer_config\.json:1: expected JSON"),
        ({"tokenizer": {}, "tokenizer_config": [1]}, "expected a JSON object, found list"),
        (
            {"tokenizer": json.loads(MADE["spaced"].to_str()), "tokenizer_config": {"bos_token": "<s>"}},
            "expected eos_token in tokenizer_config.json",
        ),
        (
            {"tokenizer": json.loads(MADE["spaced"].to_str()), "tokenizer_config": settings(eos_token="<x>")},
            "has no token <x>",
        ),
    ],
)
def test_broken_files_are_one_sentence(tmp_path, files, message):
    with pytest.raises(ModelError, match=message):
        read_tokenizer(folder_of(tmp_path, **files))


def test_of_several_chat_templates_the_default_one_counts():
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ messages }}"}]
    found = JsonTokenizer(MADE["bytewise"].to_str(), json.dumps(NAMES | {"chat_template": named}))
    assert found.chat_template == "{{ messages }}"
    for other in (named[:1], [None, "x"], [{"name": "default"}], {"default": "x"}):
        without = JsonTokenizer(MADE["bytewise"].to_str(), json.dumps(NAMES | {"chat_template": other}))
        assert without.chat_template == ""
