"""The loss of a conversation, against one computed by hand: KerasHub's own pass, token by token, and a naive mask."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make
from vocabularies import chat_tokenizer

from mmtune.data.augment import Augment
from mmtune.data.batch import collate
from mmtune.data.dataset import FaultLog
from mmtune.likelihood import truth_likelihoods
from mmtune.model import Model
from mmtune.models.scorer import target_logits
from mmtune.models.weights import model_variables, values
from mmtune.recipe import Optimizer
from mmtune.records import Record, Turn
from mmtune.tasks.instruct import Instruct, InstructOptions
from mmtune.training.examples import RowMaker, list_examples
from mmtune.training.loss import weighted_loss

# What stands between the borders of a text as the published template has it: (before an answer, behind it).
BORDERS = {
    "gemma": ("<start_of_turn>model\n", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
}
FAMILIES = {"gemma": "gemma2", "llama3": "llama3"}
RECORDS = [
    Record(
        "a",
        turns=(
            Turn("user", "two red circles?"),
            Turn("assistant", "yes, two circles"),
            Turn("user", "and a blue square?"),
            Turn("assistant", "no"),
            Turn("user", "what else?"),
            Turn("assistant", "nothing else"),
        ),
    ),
    Record("b", prefix="name a shape", texts=("triangle",)),
]


def whole_text(family, record):
    """The record written out with string operations alone."""
    turns = record.turns or (Turn("user", record.prefix), Turn("assistant", record.texts[0]))
    if family == "gemma":
        names = {"user": "user", "assistant": "model"}
        return "".join(f"<start_of_turn>{names[t.role]}\n{t.text}<end_of_turn>\n" for t in turns)
    return "".join(f"<|start_header_id|>{t.role}<|end_header_id|>\n\n{t.text}<|eot_id|>" for t in turns)


def by_hand(family, backbone, record, last=False):
    """Returns the log-probability of each taught token: pieces of the text are told apart by a regular expression."""
    tokenizer = chat_tokenizer(family)
    before, behind = (re.escape(border) for border in BORDERS[family])
    parts = re.split(f"(?<={before})(.*?{behind})", whole_text(family, record), flags=re.DOTALL)
    ids, taught = [tokenizer.bos], [False]
    answers = range(1, len(parts), 2)
    for place, part in enumerate(parts):
        piece = tokenizer.encode(part)
        ids += piece
        taught += [place in (answers[-1:] if last else answers)] * len(piece)
    assert ids == [tokenizer.bos, *tokenizer.encode(whole_text(family, record))]
    hidden = backbone({"token_ids": np.array([ids]), "padding_mask": np.ones((1, len(ids)), np.int32)})
    logits = np.asarray(backbone.token_embedding(hidden, reverse=True), np.float64)[0]  # with Gemma's cap
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.array([logprobs[at - 1, ids[at]] for at in range(1, len(ids)) if taught[at]])


def small(family):
    tokenizer = chat_tokenizer(family)
    return Model(make(FAMILIES[family], vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="small")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("last", [False, True])
def test_training_loss_and_perplexity_by_hand(family, last):
    model = small(family)
    task = Instruct((), InstructOptions(turns="last" if last else "all"))
    log = FaultLog()
    examples = list_examples(RECORDS, task, model.tokenizer, log)
    assert log.faults == []
    rows = RowMaker(examples, task, model.tokenizer, None, Augment(), seed=0)
    inputs, labels = collate([rows(index, 0) for index in range(len(examples))], 0, text_length=80, target_length=64)
    arrays = {name: jnp.asarray(array) for name, array in inputs.items()}
    predicted = target_logits(values(model_variables(model.backbone)), model.spec, arrays)
    loss = weighted_loss(predicted, {name: jnp.asarray(array) for name, array in labels.items()}, Optimizer())

    expected = [by_hand(family, model.backbone, record, last) for record in RECORDS]
    assert float(loss) == pytest.approx(np.mean([-one.mean() for one in expected]), rel=1e-5)
    other = [by_hand(family, model.backbone, record, not last) for record in RECORDS]
    assert float(loss) != pytest.approx(np.mean([-one.mean() for one in other]), rel=1e-4)

    adapted = task.for_tokenizer(model.tokenizer)
    seen = [(record, None) for record in RECORDS]
    found = truth_likelihoods(model.weights(), model.tokenizer, adapted, seen, 2)
    for one, logprobs in zip(found, expected, strict=True):
        assert one.tokens == len(logprobs)
        assert one.logprob == pytest.approx(logprobs.sum(), rel=1e-5)
