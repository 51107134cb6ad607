"""The tokens of boxes and masks in every form in which a checkpoint's files hold them."""

import json

import pytest
from paligemma_vocabularies import JSON_FORMS, PIECE_FORMS, PLACES, gemma, with_places, write

from mmtune.codecs.boxes import LOCATION_TOKENS, NOISE_LABEL, SEGMENT_TOKENS
from mmtune.codecs.grammar import object_grammar
from mmtune.errors import ModelError
from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.json_tokenizer import JsonTokenizer

BOX, CODES = "<loc0000><loc0007><loc1023><loc0512>", "".join(SEGMENT_TOKENS[::8])


@pytest.fixture(scope="module", params=[*JSON_FORMS, *PIECE_FORMS])
def tokenizer(request, tmp_path_factory):
    return read_tokenizer(write(tmp_path_factory.mktemp(request.param), request.param))


def test_each_is_one_token(tokenizer):
    assert tokenizer.encode("".join(PLACES)) == [tokenizer.find(token) for token in PLACES]
    assert tokenizer.encode("".join(PLACES)) == list(range(tokenizer.loc, tokenizer.loc + len(PLACES)))
    assert tokenizer.seg == tokenizer.loc + len(LOCATION_TOKENS)
    noise = tokenizer.encode(f"{BOX} {NOISE_LABEL} ; {BOX} cat")
    assert noise.count(tokenizer.find(NOISE_LABEL)) == 1


@pytest.mark.parametrize("text", [f"{BOX} cat ; {BOX} red blood cell", f"{BOX}{CODES} don't {NOISE_LABEL}", "<loc12>"])
def test_texts_come_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == "".join(tokenizer.texts(ids)) == text


def test_what_is_beside_them_is_cut_as_it_is_alone(tokenizer):
    for text in (" cat", " ; ", " red blood cell ; "):
        assert tokenizer.encode(f"{BOX}{text}{BOX}")[4:-4] == tokenizer.encode(text)


def test_the_grammar_takes_targets(tokenizer):
    automaton = object_grammar(tokenizer, ["cat", "red blood cell"], segments=16)
    assert automaton.accepts([*tokenizer.encode(f"{BOX}{CODES} cat ; {BOX}{CODES} red blood cell"), tokenizer.eos])


def test_the_files_are_what_they_are_meant_to_be(tmp_path):
    """The library alone cuts what is not registered into its letters."""
    import tokenizers

    for form in JSON_FORMS:
        alone = tokenizers.Tokenizer.from_file(str(write(tmp_path / form, form) / "tokenizer.json"))
        assert (len(alone.encode("<loc0001>").ids) > 1) == (form == "unregistered"), form


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vocabulary: vocabulary.pop("<loc0700>"), "expected <loc0700> .* found none: .* in a row"),
        (
            lambda vocabulary: vocabulary.update({"<loc0003>": 9999}),
            "expected <loc0003> .* found 9999: .* in a row",
        ),
    ],
)
def test_tokens_with_scattered_ids_are_refused(change, message):
    content = with_places(gemma(), "unregistered")
    change(content["model"]["vocab"])
    tokenizer = JsonTokenizer(json.dumps(content), json.dumps({"bos_token": "<bos>", "eos_token": "<eos>"}))
    with pytest.raises(ModelError, match=message):
        object_grammar(tokenizer, ["cat"])
