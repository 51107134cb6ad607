"""Answers of the embedded model when its vocabulary has one token where others have several."""

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from mmtune.codecs.grammar import object_grammar
from mmtune.data.scene_drawing import draw_scene
from mmtune.data.scenes import make_scene
from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request
from mmtune.decoding.sampling import Sampler
from mmtune.model import Model
from mmtune.models.load import load
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quick_compiles")

PROMPT, LABELS = "detect circle ; square", ("circle", "square")
ROOM = 64  # tokens: more than the answers need


@pytest.fixture(scope="module")
def model():
    return load("tiny")


def vocabulary(**pieces):
    """Returns the embedded vocabulary with other pieces for some control tokens; "": none."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(tiny_tokenizer().proto)
    for name, piece in pieces.items():
        setattr(proto.trainer_spec, f"{name}_piece", piece or "<none>")
        setattr(proto.trainer_spec, f"{name}_id", tiny_tokenizer().find(piece) if piece else -1)
    return SentencePieceTokenizer(proto.SerializeToString())


def answers(model, tokenizer, **options):
    grammar = object_grammar(tokenizer, LABELS)
    pictures = [draw_scene(make_scene(0, index, 120)) for index in (1, 2)]
    other = Model(model.backbone, tokenizer, name="tiny")
    return other.generate(pictures, [PROMPT] * 2, max_tokens=ROOM, grammars=[grammar] * 2, **options)


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(beams=2)], ids=["greedy", "beam"])
def test_answers_do_not_depend_on_what_fills_rows(model, sampler):
    wanted = answers(model, tiny_tokenizer(), sampler=sampler)
    assert max(answer.text.count(";") for answer in wanted) >= 2
    assert max(len(answer.tokens) for answer in wanted) < ROOM - 1, "lists are to end by themselves"
    for pad in ("<eos>", "", "<bos>"):
        found = answers(model, vocabulary(pad=pad), sampler=sampler)
        assert [answer.tokens for answer in found] == [answer.tokens for answer in wanted], pad
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


def test_a_text_may_begin_with_what_ends_it(model):
    """Against the prompt's tokens as they are to be; an end in a prompt ends nothing."""
    tokenizer = vocabulary(bos="<eos>", pad="<eos>")
    prompt = tokenizer.prompt(PROMPT)
    assert prompt == [tokenizer.eos, *tiny_tokenizer().encode(PROMPT), *tiny_tokenizer().encode("\n")]
    picture = model.pixels(draw_scene(make_scene(0, 2, 120)))
    grammar = object_grammar(tiny_tokenizer(), LABELS)
    (wanted,) = generate(model.weights(), [Request(prompt, picture, grammar)], max_tokens=ROOM)
    found = answers(model, tokenizer)[1]
    assert found.tokens == tuple(tiny_tokenizer().texts(wanted.ids[:-1]))
    assert wanted.ids[-1] == tokenizer.eos
    assert len(found.tokens) > 5
