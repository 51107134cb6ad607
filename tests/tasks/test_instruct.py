"""Instruction tuning without a model: which template, which tokens, which of them are taught."""

from pathlib import Path

import pytest
from vocabularies import chat_tokenizer, with_pieces

from mmtune.data.images import FilePicture
from mmtune.errors import RecipeError, UsageError
from mmtune.metrics.instruct import right_answers
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Likelihood, Output, Prediction, Query, Record, Span, Turn
from mmtune.registry import task_class
from mmtune.tasks.instruct import Instruct, InstructOptions
from mmtune.training.examples import tokenise

TALK = (
    Turn("system", "be brief"),
    Turn("user", "two red circles?"),
    Turn("assistant", "yes, two"),
    Turn("user", "and blue?"),
    Turn("assistant", "none of them"),
)
RECORD = Record("r", turns=TALK, source="data.jsonl:1")
FAMILIES = ("gemma", "llama3", "plain")


def task_of(family, **options):
    return Instruct((), InstructOptions(**options)).for_tokenizer(chat_tokenizer(family))


def ids_of(task, tokenizer, record):
    """Returns the ids of a training row, and which are taught."""
    (query,) = task.lessons(record)
    (target,) = task.targets(record, query)
    prompt = tokenizer.prompt(query.prompt, query.closed)
    ids, weights, _ = tokenise(target, tokenizer, task.ends(tokenizer)[0])
    return prompt + ids, [0.0] * len(prompt) + weights


def test_registered():
    assert task_class("instruct") is Instruct


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vocabulary_chooses_the_template(family):
    assert task_of(family).options.template == family


@pytest.mark.parametrize(
    ("template", "family", "lacking"),
    [("gemma", "plain", "<start_of_turn>"), ("llama3", "gemma", "<|start_header_id|>")],
)
def test_a_template_that_the_vocabulary_cannot_write(template, family, lacking):
    with pytest.raises(UsageError, match=rf"no control token {lacking.replace('|', '.')}.* {template} needs"):
        task_of(family, template=template)


def test_a_vocabulary_with_some_of_the_tokens_is_plain():
    tokenizer = with_pieces(("<start_of_turn>",))
    assert Instruct().for_tokenizer(tokenizer).options.template == "plain"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_gone_on_with_as_it_stands(family):
    """Nothing before it but what begins every text, no newline behind it, and its own white space kept."""
    tokenizer = chat_tokenizer(family)
    task = Instruct((), InstructOptions(template="text")).for_tokenizer(tokenizer)
    record = Record("r", turns=(Turn("user", " a red "), Turn("assistant", " circle")))
    expected = [*tokenizer.start, *tokenizer.encode(" a red "), *tokenizer.encode(" circle")]
    assert ids_of(task, tokenizer, record)[0] == [*expected, tokenizer.eos]
    assert tokenizer.encode("\n")[0] in ids_of(task_of(family, template="plain"), tokenizer, record)[0]


@pytest.mark.parametrize("family", ["gemma", "llama3"])
def test_control_tokens_are_single_ids_and_spans_tokenise_as_the_whole(family):
    """Prompt and spans are tokenised apart. All ids must be those of the whole text tokenised at once."""
    task, tokenizer = task_of(family), chat_tokenizer(family)
    ids, _ = ids_of(task, tokenizer, RECORD)
    texts = {
        "gemma": "<start_of_turn>user\nbe brief\n\ntwo red circles?<end_of_turn>\n<start_of_turn>model\nyes, two"
        "<end_of_turn>\n<start_of_turn>user\nand blue?<end_of_turn>\n<start_of_turn>model\nnone of them<end_of_turn>",
        "llama3": "<|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\ntwo red circles?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nyes, two<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nand blue?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nnone of them<|eot_id|>",
    }
    assert ids == [tokenizer.bos, *tokenizer.encode(texts[family])]
    assert ids.count(tokenizer.bos) == 1
    for piece in task._template.pieces:
        assert ids.count(tokenizer.find(piece)) == texts[family].count(piece)


@pytest.mark.parametrize(
    ("family", "turns", "taught"),
    [
        ("gemma", "all", ["yes, two<end_of_turn>", "none of them<end_of_turn>"]),
        ("gemma", "last", ["none of them<end_of_turn>"]),
        ("llama3", "all", ["yes, two<|eot_id|>", "none of them<|eot_id|>"]),
        ("llama3", "last", ["none of them<|eot_id|>"]),
    ],
)
def test_the_answers_alone_are_taught_and_their_ends(family, turns, taught):
    tokenizer = chat_tokenizer(family)
    ids, weights = ids_of(task_of(family, turns=turns), tokenizer, RECORD)
    runs, run = [], []
    for token, weight in zip([*ids, -1], [*weights, 0.0], strict=True):
        if weight:
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    assert runs == taught


def test_without_an_end_of_turn_each_answer_is_a_lesson_of_its_own():
    task = task_of("plain")
    lessons = task.lessons(RECORD)
    assert [query.prompt for query in lessons] == [
        "be brief\ntwo red circles?\n",
        "be brief\ntwo red circles?\nyes, two\nand blue?\n",
    ]
    assert [task.targets(RECORD, query) for query in lessons] == [((Span("yes, two"),),), ((Span("none of them"),),)]
    assert task.ends(tiny_tokenizer()) == (tiny_tokenizer().eos,)
    assert task_of("plain", turns="last").lessons(RECORD) == lessons[1:]


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_asks_for_the_last_answer_without_telling_it(family):
    task = task_of(family)
    (query,) = task.queries(RECORD)
    assert "yes, two" in query.prompt
    assert "none of them" not in query.prompt
    assert task.targets(RECORD, query) == ((Span("none of them"),),)


def test_an_answer_without_weight_is_read_and_not_taught():
    turns = (
        TALK[1],
        Turn("assistant", "yes, two", 0.0),
        TALK[3],
        TALK[4],
        Turn("user", "ok"),
        Turn("assistant", "?", 0),
    )
    task = task_of("gemma")
    (query,) = task.lessons(Record("r", turns=turns))
    assert "yes, two" in query.prompt
    assert task.targets(Record("r", turns=turns), query) == ((Span("none of them"),),)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_asked_is_what_is_scored(family):
    """The last answer that is taught, not one of weight 0 behind it."""
    turns = (*TALK, Turn("user", "ok"), Turn("assistant", "a long answer that nobody should learn from", 0.0))
    record, tokenizer = Record("r", turns=turns), chat_tokenizer(family)
    task = task_of(family)
    (query,) = task.queries(record)
    assert query == task.queries(RECORD)[0]
    assert right_answers(record) == ("none of them",)
    assert task.max_tokens([record], tokenizer) == task.max_tokens([RECORD], tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_budget_is_one_answer_and_not_a_conversation(family):
    task, tokenizer = task_of(family), chat_tokenizer(family)
    answers = [turn.text for turn in TALK if turn.role == "assistant"]
    longest = max(len(tokenizer.encode(answer)) + 1 for answer in answers)
    budget = task.budget([RECORD], tokenizer, taught=1000)
    assert budget == task.max_tokens([RECORD], tokenizer)
    assert longest <= budget < longest + 16
    unknown = Record("u", prefix="and yellow?")
    assert task.budget([RECORD, unknown], tokenizer, taught=1000) == 1000
    assert task.budget([unknown], tokenizer, taught=0) == 256
    assert task.budget([], tokenizer, taught=1000) == 1000


def test_several_right_answers_share_the_prompt():
    record = Record("r", prefix="name a colour", texts=("red", "blue"))
    task = task_of("llama3")
    (query,) = task.lessons(record)
    assert query in task.queries(record)
    assert task.targets(record, query) == ((Span("red"),), (Span("blue"),))


def test_a_prompt_alone_is_asked_and_not_taught():
    task = task_of("gemma")
    record = Record("0", prefix="Hello")
    assert task.queries(record) == (Query("<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"),)
    assert task.lessons(record) == ()
    assert task.queries(Record("0")) == ()
    assert task.max_tokens([record], chat_tokenizer("gemma")) == 256


def test_what_ends_an_answer():
    gemma, llama = chat_tokenizer("gemma"), chat_tokenizer("llama3")
    assert task_of("gemma").ends(gemma) == (gemma.find("<end_of_turn>"), gemma.eos)
    assert task_of("llama3").ends(llama) == (llama.find("<|eot_id|>"), llama.find("<|end_of_text|>"), llama.eos)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record("r", prefix="hi"), "expected the last turn to be the assistant's"),
        (Record("r", texts=("hi",)), "expected turn 1 to be the user's"),
        (Record("r"), "found neither"),
        (Record("r", prefix="hi", texts=("",)), "expected a text in turn 2"),
        (Record("r", prefix="hi", texts=("a<end_of_turn>b",)), "found <end_of_turn>"),
        (Record("r", prefix="<start_of_turn>", texts=("a",)), "found <start_of_turn>"),
        (Record("r", prefix="hi", texts=("a",), picture=FilePicture(Path("a.png"))), "found a picture"),
    ],
)
def test_what_cannot_be_taught(record, words):
    problems = task_of("gemma").check(record)
    assert any(words in problem for problem in problems)


def test_what_can_be_taught():
    assert task_of("gemma").check(RECORD) == ()
    assert task_of("plain").check(Record("r", prefix="hi", texts=("a<end_of_turn>b",))) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_hold(family):
    task, tokenizer = task_of(family), chat_tokenizer(family)
    for query in task.lessons(RECORD):
        lengths = [len(tokenise(target, tokenizer)[0]) for target in task.targets(RECORD, query)]
        assert task.target_bound(RECORD, query, tokenizer) == max(lengths)
    last = len(tokenizer.encode("none of them")) + 1
    assert 0 <= task.max_tokens([RECORD], tokenizer) - last < 16


def test_parse_keeps_the_text_and_counts_an_empty_one():
    task = task_of("plain")
    prediction = task.parse(RECORD, [(Query("q\n"), Output("so", ("s", "o"), (-1.0, -2.0)))])
    assert (prediction.text, prediction.tokens, prediction.invalid) == ("so", (("s", -1.0), ("o", -2.0)), 0)
    assert task.parse(RECORD, [(Query("q\n"), Output(" \n"))]).invalid == 1
    assert task.parse(RECORD, []).text == ""


def test_json():
    task = task_of("plain")
    assert task.as_json(Prediction("r", "", "")) == {}
    found = task.as_json(Prediction("r", "", "", truth=Likelihood(-6.0, 3)))
    assert found == {"perplexity": pytest.approx(7.389056)}


def test_wrong_options():
    with pytest.raises(RecipeError) as error:
        InstructOptions(template="gema", turns="first")
    assert error.value.problems == (
        "options.template: expected one of auto, gemma, llama3, chatml, plain, text, got 'gema'",
        "options.turns: expected one of all, last, got 'first'",
    )
