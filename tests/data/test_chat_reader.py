"""Conversations and instructions: every form that is read, every fault that is named."""

import json

import pytest

from mmtune.data.chat import Chat
from mmtune.data.convert import convert
from mmtune.data.dataset import FaultLog
from mmtune.data.read import read
from mmtune.data.reader import Source
from mmtune.errors import DataError
from mmtune.records import Turn

ASK, ANSWER = Turn("user", "Hi"), Turn("assistant", "Hello")


def messages(*turns):
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def load(path, **options):
    log = FaultLog()
    return Chat().read(Source(path, **options), log).records, log.faults


CONVERSATIONS = {
    "openai": messages(("user", "Hi"), ("assistant", "Hello")),
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
            {"role": "assistant", "content": "Hello", "weight": 1},
        ]
    },
    "prompt and completion": {
        "prompt": [{"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Hello"}],
    },
}


@pytest.mark.parametrize("form", CONVERSATIONS)
def test_conversations(tmp_path, form):
    file = write(tmp_path / "data.jsonl", CONVERSATIONS[form])
    (record,), faults = load(file)
    assert record.turns == (ASK, ANSWER)
    assert (record.id, record.source) == ("data.jsonl:1", f"{file}:1")
    assert faults == []


INSTRUCTIONS = {
    "alpaca": ({"instruction": "Add.", "input": "1 2", "output": "3"}, "Add.\n\n1 2", ("3",)),
    "alpaca without input": ({"instruction": "Add.", "input": "", "output": "3"}, "Add.", ("3",)),
    "dolly": ({"instruction": "Add.", "context": "1 2", "response": "3", "category": "x"}, "Add.\n\n1 2", ("3",)),
    "completion": ({"prompt": "Add.", "completion": "3"}, "Add.", ("3",)),
    "question": ({"question": "Add.", "answer": "3"}, "Add.", ("3",)),
    "several answers": ({"question": "Add.", "answers": ["3", "three"]}, "Add.", ("3", "three")),
    "input alone": ({"input": "Add.", "output": "3"}, "Add.", ("3",)),
    "ours": ({"prefix": "Add.", "suffix": "3"}, "Add.", ("3",)),
}


@pytest.mark.parametrize("form", INSTRUCTIONS)
@pytest.mark.parametrize("listed", [False, True])
def test_instructions(tmp_path, form, listed):
    values, prefix, texts = INSTRUCTIONS[form]
    values = {**values, "id": 7}
    file = write(tmp_path / ("data.json" if listed else "data.jsonl"), [values] if listed else values)
    found = read(str(file), task="instruct")
    assert [(record.id, record.prefix, record.texts) for record in found] == [("7", prefix, texts)]
    assert found[0].source == (f"{file}, item 0" if listed else f"{file}:1")


def test_the_system(tmp_path):
    system = Turn("system", "Be brief.")
    file = write(
        tmp_path / "data.jsonl",
        messages(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")),
        {"system": "Be brief.", **CONVERSATIONS["sharegpt"]},
        {"system_prompt": "Be brief.", "question": "Hi", "response": "Hello"},
        {"system": "", "question": "Hi", "response": "Hello"},
    )
    records, faults = load(file)
    assert [record.turns for record in records] == [(system, ASK, ANSWER), (system, ASK, ANSWER), (system, ASK), ()]
    assert [record.texts for record in records] == [(), (), ("Hello",), ("Hello",)]
    assert faults == []


FAULTS = {
    "unknown role": (messages(("user", "Hi"), ("tool", "x"), ("assistant", "y")), "found 'tool' in turn 2"),
    "role order": (messages(("assistant", "Hello")), "expected turn 1 to be the user's"),
    "empty answer": (messages(("user", "Hi"), ("assistant", " ")), "expected a text in turn 2"),
    "empty question": ({"instruction": "", "output": "3"}, "expected a text in turn 1"),
    "no last answer": (messages(("user", "Hi")), "expected the last turn to be the assistant's"),
    "empty conversation": ({"messages": []}, "found neither"),
    "no weight": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a", "weight": 0}]},
        "weight above 0",
    ),
    "malformed value": (
        {"messages": [{"role": "user", "content": None}]},
        "expected role and content (texts) in turn 1",
    ),
    "missing key": ({"instruction": "Add."}, "found the keys instruction"),
    "picture beside a text": ({"image": "a.jpg", "question": "Hi", "answer": "x"}, "found a picture under image"),
    "malformed line": ("{nonsense", "expected one JSON object a line"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_line_is_named_and_the_rest_is_used(tmp_path, kind):
    bad, words = FAULTS[kind]
    file = write(tmp_path / "data.jsonl", CONVERSATIONS["openai"], bad, CONVERSATIONS["sharegpt"])
    records, faults = load(file)
    assert [record.id for record in records] == ["data.jsonl:1", "data.jsonl:3"]
    assert [(fault.file, fault.kind) for fault in faults] == [(f"{file}:2", kind)]
    assert words in faults[0].problem


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages": "Hi"}, "a list of messages as messages"),
        ({"messages": ["Hi"]}, "role and content (texts) in turn 1, found 'Hi'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "role and content (texts) in turn 1"),
        ({"messages": [{"role": "user", "content": "a", "weight": -1}]}, "a weight of 0 or more in turn 1, found -1"),
        ({"instruction": 3, "output": "a"}, "a string as instruction, found 3"),
        ({"instruction": "a", "input": ["b"], "output": "a"}, "a string as instruction, found ['b']"),
        ({"instruction": "a", "output": 4}, "a string or a list of strings as output, found 4"),
        ({"instruction": "a", "output": "b", "system": 1}, "a string as system, found 1"),
    ],
)
def test_malformed_values(tmp_path, values, words):
    _, faults = load(write(tmp_path / "data.jsonl", values))
    assert [fault.kind for fault in faults] == ["malformed value"]
    assert words in faults[0].problem


def test_items_of_a_list_that_are_none(tmp_path):
    file = write(tmp_path / "data.json", [CONVERSATIONS["openai"], 3])
    records, faults = load(file)
    assert len(records) == 1
    assert [(fault.file, fault.kind) for fault in faults] == [(f"{file}, item 1", "malformed line")]


def test_nothing_usable(tmp_path):
    file = write(tmp_path / "data.jsonl", messages(("user", "Hi")))
    with pytest.raises(DataError, match=r"no record of this chat data can be used \(1 x no last answer\)"):
        read(str(file), task="instruct")


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("a.jsonl", [CONVERSATIONS["openai"]], "chat"),
        ("a.jsonl", ["{broken", CONVERSATIONS["sharegpt"]], "chat"),
        ("a.json", [[CONVERSATIONS["openai"]]], "chat"),
        ("a.json", [[{"instruction": "a", "output": "b"}]], "chat"),
        ("a.jsonl", [{"instruction": "a", "output": "b"}], "jsonl"),
        ("a.jsonl", [{"question": "a", "answer": "b"}], "jsonl"),
        ("a.csv", ["question,answer", "a,b"], "csv"),
    ],
)
def test_who_reads_it(tmp_path, name, lines, expected):
    assert read(str(write(tmp_path / name, *lines))).format == expected


@pytest.mark.parametrize(
    "content",
    [
        [{"image_id": 1, "question": "a", "answer": "b"}],
        [{"image": "a.jpg", "conversations": []}],
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}],
        [],
        [3],
        {"images": [], "annotations": []},
    ],
)
def test_what_is_not_claimed(tmp_path, content):
    assert not Chat().claims(write(tmp_path / "a.json", content))


def test_splits(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "talk" / f"{split}.jsonl", CONVERSATIONS["openai"])
    assert Chat().splits(tmp_path / "talk") == ("train", "test")
    both = read(str(tmp_path / "talk"), task="instruct")
    assert [record.id for record in both] == ["train.jsonl:1", "test.jsonl:1"]
    assert [record.id for record in read(f"{tmp_path / 'talk'}:test")] == ["test.jsonl:1"]
    with pytest.raises(DataError, match="unknown split 'val'"):
        read(f"{tmp_path / 'talk'}:val", task="instruct")


def test_columns_of_a_csv(tmp_path):
    file = write(tmp_path / "a.csv", "prompt,completion", '"Add, please",3')
    (record,) = read(str(file), task="instruct")
    assert (record.prefix, record.texts) == ("Add, please", ("3",))


@pytest.mark.parametrize("task", ["instruct", None])
def test_a_hub_table_of_conversations(tmp_path, task):
    from datasets import Dataset

    good, bad = CONVERSATIONS["openai"], messages(("user", "Hi"))
    Dataset.from_list([good, bad]).save_to_disk(str(tmp_path / "set"))
    found = read(str(tmp_path / "set"), task=task)
    assert [(record.id, record.turns) for record in found] == [("row 0", (ASK, ANSWER))]
    assert [(fault.kind, fault.record) for fault in found.faults] == [("no last answer", "row 1")]


def test_a_hub_table_of_instructions(tmp_path):
    from datasets import Dataset

    rows = [{"system_prompt": "Be brief.", "instruction": "Add.", "input": "1 2", "output": "3", "other": "x"}]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    (record,) = read(str(tmp_path / "set"), task="instruct")
    assert record.turns == (Turn("system", "Be brief."), Turn("user", "Add.\n\n1 2"))
    assert record.texts == ("3",)


def test_conversations_survive_conversion(tmp_path):
    file = write(
        tmp_path / "data.jsonl",
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "no", "weight": 0},
                {"role": "user", "content": "Hi\n"},
                {"role": "assistant", "content": "Hello"},
            ]
        },
        {"system": "Be brief.", "question": "Hi", "answers": ["Hello", "Hey"]},
        {"question": "Hi", "answer": "Hello"},
    )
    before = read(str(file), task="instruct")
    convert(before, tmp_path / "out.jsonl", "jsonl")
    after = read(str(tmp_path / "out.jsonl"), task="instruct")
    assert len(after) == 3
    assert [(one.turns, one.prefix, one.texts) for one in after] == [
        (one.turns, one.prefix, one.texts) for one in before
    ]
