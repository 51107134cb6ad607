"""Chat templates against their published form, written out; what is refused of a conversation."""

from dataclasses import replace

import pytest

from mmtune.codecs.chat import CHATML, GEMMA, LLAMA_3, PLAIN, conversations, history, turn_fault
from mmtune.records import Record, Span, Turn

SYSTEM, ASK, ANSWER = Turn("system", "Be brief."), Turn("user", " Hi!\n"), Turn("assistant", "Hello \n")
MORE, LAST = Turn("user", "Bye"), Turn("assistant", "So long")
LLAMA_HEAD = "<|start_header_id|>{}<|end_header_id|>\n\n"

PROMPTS = {
    "gemma": (GEMMA, [ASK], "<start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\n"),
    "gemma, several turns": (
        GEMMA,
        [ASK, ANSWER, MORE],
        "<start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    ),
    "gemma, system": (
        GEMMA,
        [SYSTEM, ASK],
        "<start_of_turn>user\nBe brief.\n\nHi!<end_of_turn>\n<start_of_turn>model\n",
    ),
    "llama3": (
        LLAMA_3,
        [ASK],
        "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "llama3, several turns": (
        LLAMA_3,
        [SYSTEM, ASK, ANSWER, MORE],
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "chatml": (CHATML, [ASK], "<|im_start|>user\n Hi!\n<|im_end|>\n<|im_start|>assistant\n"),
    "chatml, with an opening": (
        replace(CHATML, opening="Help."),
        [ASK],
        "<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\n Hi!\n<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml, system": (
        replace(CHATML, opening="Help."),
        [SYSTEM, ASK],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi!\n<|im_end|>\n<|im_start|>assistant\n",
    ),
    "plain": (PLAIN, [ASK], "Hi!\n"),
    "plain, several turns": (PLAIN, [SYSTEM, ASK, ANSWER, MORE], "Be brief.\nHi!\nHello\nBye\n"),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts(case):
    template, turns, expected = PROMPTS[case]
    assert template.prompt(turns) == expected


@pytest.mark.parametrize("template", [GEMMA, LLAMA_3, CHATML], ids=lambda template: template.name)
@pytest.mark.parametrize("first", [1, 3])
def test_prompt_and_target_are_the_whole(template, first):
    """What is asked and what is to be written are, joined, what a longer prompt begins with."""
    turns = [ASK, ANSWER, MORE, LAST]
    target = "".join(span.text for span in template.target(turns, first)) + template.end
    whole = template.prompt([*turns, MORE])
    assert whole.startswith(template.prompt(turns[:first]) + target)


def test_targets():
    assert GEMMA.target([ASK, ANSWER], 1) == (Span("Hello", 1.0),)
    assert GEMMA.target([ASK, ANSWER, MORE, LAST], 1) == (
        Span("Hello<end_of_turn>", 1.0),
        Span("\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n", 0.0),
        Span("So long", 1.0),
    )
    unweighted = Turn("assistant", "Hello", 0.0)
    assert [span.weight for span in LLAMA_3.target([ASK, unweighted, MORE, LAST], 1)] == [0.0, 0.0, 1.0]
    assert LLAMA_3.target([SYSTEM, ASK, ANSWER, MORE, LAST], 2)[1].text == (
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize(
    ("turns", "kind", "words"),
    [
        ([], "empty conversation", "found neither"),
        ([SYSTEM], "empty conversation", "found neither"),
        ([Turn("tool", "x"), ANSWER], "unknown role", "found 'tool' in turn 1"),
        ([ANSWER], "role order", "expected turn 1 to be the user's, found the assistant's"),
        ([ASK, ASK, ANSWER], "role order", "expected turn 2 to be the assistant's, found the user's"),
        ([SYSTEM, ASK, ANSWER, LAST], "role order", "expected turn 4 to be the user's"),
        ([ASK, ANSWER, SYSTEM], "role order", "expected turn 3 to be the user's, found the system's"),
        ([ASK, Turn("assistant", " \n")], "empty answer", "expected a text in turn 2, the assistant's"),
        ([SYSTEM, Turn("user", ""), ANSWER], "empty question", "expected a text in turn 2, the user's"),
        ([ASK, ANSWER, MORE], "no last answer", "found the user's"),
        ([ASK, Turn("assistant", "a", 0)], "no weight", "weight above 0"),
    ],
)
def test_faults(turns, kind, words):
    found = turn_fault(turns)
    assert found is not None
    assert found[0] == kind
    assert words in found[1]


@pytest.mark.parametrize("turns", [[ASK, ANSWER], [SYSTEM, ASK, ANSWER], [ASK, ANSWER, MORE, LAST]])
def test_no_fault(turns):
    assert turn_fault(turns) is None


def test_what_a_record_says():
    question = Record("r", prefix="Hi", texts=("Hello", "Hey"))
    assert history(question) == (Turn("user", "Hi"),)
    assert conversations(question) == tuple((Turn("user", "Hi"), Turn("assistant", text)) for text in ("Hello", "Hey"))
    assert conversations(Record("r", turns=(SYSTEM, ASK), texts=("Hey",))) == ((SYSTEM, ASK, Turn("assistant", "Hey")),)
    assert conversations(Record("r", turns=(ASK, ANSWER))) == ((ASK, ANSWER),)
    assert conversations(Record("r", turns=(ASK,))) == ()
    assert conversations(Record("r")) == ()
    assert history(Record("r")) == ()
