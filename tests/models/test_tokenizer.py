"""The tokenizer on the embedded model's vocabulary, and the vocabulary itself."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.data.scene_texts import ask, captions
from mmtune.data.scenes import make_scene, scene_rng
from mmtune.data.shape_kinds import COLOURS, KINDS, plural
from mmtune.errors import ModelError
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.tiny_vocabulary import FILE, build_vocabulary

TOKENIZER = tiny_tokenizer()
LOC = "<loc0010><loc0200><loc0999><loc1023>"
TEXTS = [
    "",
    "cat",
    " cat",
    "  two  spaces  ",
    "line\nline\n\nline",
    "tab\tand\r\nreturn",
    "Crème brûlée, naïve façade",
    "日本語 текст עברית",
    "😀👩‍👩‍👧 emoji",
    f"{LOC} cat ; {LOC} dog",
    f"{LOC} don't stop - (really)/what? ; {LOC} é",
    f"{LOC}<seg000><seg127> heart",
    "<loc0000>",
    "<loc9999> <seg128> <loc1> are no tokens",
    "<unused0> <pad> <eos>",
    "a" * 500,
]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_text_survives_the_way_to_ids_and_back(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert "".join(TOKENIZER.texts(ids)) == text
    assert len(TOKENIZER.texts(ids)) == len(ids)


@given(st.text().filter(lambda text: "▁" not in text))
def test_any_unicode_survives(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.integers(0, TOKENIZER.vocabulary_size - 1), max_size=30))
def test_any_ids_decode_to_the_join_of_their_texts(ids):
    texts = TOKENIZER.texts(ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == TOKENIZER.decode(ids)


@given(st.binary(max_size=12))
def test_bytes_decode_as_python_decodes_them(raw):
    first = TOKENIZER.find("<0x00>")
    assert TOKENIZER.decode([first + byte for byte in raw]) == raw.decode(errors="replace")


def test_a_character_of_several_bytes_stands_at_its_last_byte():
    ids = TOKENIZER.encode("é😀!")
    assert TOKENIZER.texts(ids) == ["", "é", "", "", "", "😀", "!"]
    assert TOKENIZER.texts(ids[:4]) == ["", "é", "", "\ufffd"]
    # A start byte that breaks off a character does not spoil the next one.
    assert TOKENIZER.texts([ids[2], *ids[2:6]]) == ["", "\ufffd", "", "", "😀"]


@pytest.mark.parametrize("text", ["a\ud800b", "\udcff", "\udcc3\udca9 cat"])
def test_bytes_that_are_no_text_are_marked(text):
    """Python hands them over as halves of characters, in what was typed or stands in a file's name."""
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == "".join("\ufffd" if c >= "\ud800" else c for c in text)


def test_control_tokens_have_no_text():
    cat = TOKENIZER.encode("cat")
    assert TOKENIZER.decode([TOKENIZER.bos, *cat, TOKENIZER.eos, TOKENIZER.pad]) == "cat"
    assert TOKENIZER.texts([TOKENIZER.eos]) == [""]
    assert TOKENIZER.texts([]) == []


@pytest.mark.parametrize("token", [TOKENIZER.vocabulary_size, 10**6, -1])
def test_ids_past_the_vocabulary_are_marked(token):
    assert TOKENIZER.texts([TOKENIZER.loc, token]) == ["<loc0000>", "\ufffd"]


def test_ids_may_be_numpy_integers():
    ids = TOKENIZER.encode(f"{LOC} cat é")
    assert TOKENIZER.texts(np.array(ids, np.int32)) == TOKENIZER.texts(ids)


def test_a_prompt_is_tokenised_apart_from_its_newline():
    assert TOKENIZER.prompt("detect cat") == [TOKENIZER.bos, *TOKENIZER.encode("detect cat"), 4]
    assert TOKENIZER.prompt("") == [TOKENIZER.bos, 4]


@pytest.mark.parametrize("proto", [b"", b"no model"])
def test_what_is_no_model_is_an_error(proto):
    with pytest.raises(ModelError, match="no SentencePiece model"):
        SentencePieceTokenizer(proto).encode("cat")


def changed(**normalizer):
    """The embedded vocabulary with other settings, and without some of its control tokens."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(TOKENIZER.proto)
    model.normalizer_spec.add_dummy_prefix = normalizer.get("space", False)
    for name in normalizer.get("without", ()):
        setattr(model.trainer_spec, f"{name}_id", -1)
        setattr(model.trainer_spec, f"{name}_piece", "<none>")
    return SentencePieceTokenizer(model.SerializeToString())


def test_a_space_that_is_put_before_texts_is_taken_off_again(tmp_path):
    ours = changed(space=True)
    assert ours.puts_space
    assert not TOKENIZER.puts_space
    for text in ("the cat", " cat", "\n", "é", ""):
        assert ours.encode(text) == (TOKENIZER.encode(f" {text}") if text else [])
        assert ours.decode(ours.encode(text)) == ours._model.decode(ours.encode(text)) == text
    ours.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "LlamaTokenizer"


def test_rows_are_filled_with_the_end_where_nothing_else_is_named():
    assert changed(without=["pad"]).pad == TOKENIZER.eos


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_vocabulary_without_begin_or_end_is_an_error(name):
    with pytest.raises(ModelError, match=f"no piece that it calls {name}"):
        getattr(changed(without=[name]), name)


# The vocabulary


def test_special_ids_are_gemmas():
    assert (TOKENIZER.pad, TOKENIZER.eos, TOKENIZER.bos, TOKENIZER.find("<unk>")) == (0, 1, 2, 3)
    assert TOKENIZER.encode("\n") == [4]
    assert TOKENIZER.encode("\n\n") == [4, 4]
    assert [TOKENIZER.encode(f"<unused{i}>") for i in range(4)] == [[5], [6], [7], [8]]


def test_control_tokens_come_last_with_consecutive_ids():
    assert TOKENIZER.vocabulary_size == 2176
    locs = [TOKENIZER.encode(f"<loc{i:04d}>") for i in range(1024)]
    segs = [TOKENIZER.encode(f"<seg{i:03d}>") for i in range(128)]
    assert locs == [[1024 + i] for i in range(1024)]
    assert segs == [[2048 + i] for i in range(128)]
    assert (TOKENIZER.loc, TOKENIZER.seg) == (1024, 2048)
    assert TOKENIZER.find("<loc1024>") is None


def test_pieces_around_control_tokens_equal_the_whole():
    rng = random.Random(0)
    labels = [*KINDS, "red circle", "don't (ever)", "stop-sign", "é", "a;b", "  x", "CAT", "100%"]
    for _ in range(100):
        parts = []
        for _ in range(rng.randrange(1, 5)):
            box = "".join(f"<loc{rng.randrange(1024):04d}>" for _ in range(4))
            seg = "".join(f"<seg{rng.randrange(128):03d}>" for _ in range(rng.choice((0, 16))))
            parts += [box + seg, f" {rng.choice(labels)} ; "]
        parts[-1] = parts[-1].removesuffix(" ; ")
        apart = [token for part in parts for token in TOKENIZER.encode(part)]
        assert apart == TOKENIZER.encode("".join(parts))


def test_a_separator_takes_two_tokens():
    ids = TOKENIZER.encode(f"{LOC} circle ; {LOC} star")
    assert TOKENIZER.texts(ids)[4:7] == [" circle", " ;", " "]
    assert len(ids) == 12


def test_words_of_scenes_are_single_pieces():
    for word in (*KINDS, *COLOURS, "yes", "no", "left", "right", "above", "below"):
        assert len(TOKENIZER.encode(word)) == len(TOKENIZER.encode(f" {word}")) == 1, word
    for kind in KINDS:
        assert len(TOKENIZER.encode(f" {plural(kind)}")) == 1


def test_capitals_are_spelled():
    assert TOKENIZER.texts(TOKENIZER.encode("STOP 42")) == ["S", "T", "O", "P", " ", "4", "2"]


def test_scene_texts_need_few_tokens():
    tokens = words = 0
    for index in range(60):
        scene = make_scene(0, index, 64)
        question = ask(scene, scene_rng(0, index, 2))
        for text in (captions(scene)[0].partition(" with the word")[0], f"answer en {question.text}"):
            tokens += len(TOKENIZER.encode(text))
            words += len(text.replace("?", " ?").replace(",", " ,").split())
    assert tokens < 1.05 * words


def test_the_packaged_file_is_what_its_script_makes():
    made, packaged = SentencePieceTokenizer(build_vocabulary()), SentencePieceTokenizer(FILE.read_bytes())
    pieces = [[t._model.id_to_piece(i) for i in range(t.vocabulary_size)] for t in (made, packaged)]
    assert pieces[0] == pieces[1]
    assert build_vocabulary() == build_vocabulary()
