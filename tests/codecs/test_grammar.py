import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.codecs.boxes import NOISE_LABEL, decode_boxes
from mmtune.codecs.grammar import object_grammar, unnamed_grammar
from mmtune.errors import DataError, ModelError, UsageError
from mmtune.models.spm_tokenizer import SentencePieceTokenizer

CORPUS = ["red blood cell ; white blood cell ; platelet ; cat ; dog ; dog house ; a b c d e f g h i j k"] * 20
LABELS = ("cat", "dog", "dog house", "red blood cell", "white blood cell", "st. john's ; wort", "細胞")
BOX = "<loc0010><loc0020><loc0500><loc0600>"


def train(symbols=(), **options):
    """A vocabulary with Gemma's conventions and a few hundred text pieces."""
    import sentencepiece

    locs, segs = [f"<loc{i:04d}>" for i in range(1024)], [f"<seg{i:03d}>" for i in range(128)]
    settings = {
        "vocab_size": 1600,
        "hard_vocab_limit": False,
        "model_type": "bpe",
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "user_defined_symbols": [*symbols, NOISE_LABEL, "\n", *locs, *segs],
        "minloglevel": 2,
    }
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=model, **(settings | options))
    return SentencePieceTokenizer(model.getvalue())


@pytest.fixture(scope="module")
def tokenizer():
    return train()


@pytest.fixture(scope="module")
def merging():
    """A vocabulary with a piece that reaches over the border between a label and the separator."""
    return train(symbols=["t▁;"])


@pytest.fixture(scope="module")
def padless():
    """A vocabulary in which nothing fills rows, so that the end does."""
    tokenizer = train(pad_id=-1)
    assert tokenizer.pad == tokenizer.eos
    return tokenizer


@pytest.fixture(scope="module")
def one_control(tokenizer):
    """A vocabulary whose texts begin and end with one token, which fills rows as well."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)
    for name in ("bos", "pad"):
        setattr(model.trainer_spec, f"{name}_piece", "</s>")
        setattr(model.trainer_spec, f"{name}_id", tokenizer.eos)
    found = SentencePieceTokenizer(model.SerializeToString())
    assert found.bos == found.pad == found.eos == tokenizer.eos
    return found


def sequence(tokenizer, text):
    return [*tokenizer.encode(text), tokenizer.eos]


def written(objects):
    return " ; ".join("".join(f"<loc{i:04d}>" for i in locs) + f" {label}" for locs, label in objects)


locs = st.lists(st.integers(0, 1023), min_size=4, max_size=4)


@settings(max_examples=50, deadline=None)
@given(objects=st.lists(st.tuples(locs, st.sampled_from(LABELS)), max_size=4))
@pytest.mark.parametrize("vocabulary", ["tokenizer", "merging", "padless", "one_control"])
def test_accepts_every_target(request, vocabulary, objects):
    tokenizer = request.getfixturevalue(vocabulary)
    automaton = object_grammar(tokenizer, LABELS)
    ids = sequence(tokenizer, written(objects))
    assert automaton.accepts(ids)
    assert automaton.accepts([*ids, tokenizer.pad, tokenizer.pad])
    assert not automaton.accepts(ids[:-1])
    assert automaton.accepts([*ids, *ids]) == (ids == [tokenizer.pad])


@pytest.mark.parametrize("vocabulary", ["padless", "one_control"])
@pytest.mark.parametrize("options", [{}, {"segments": 16}, {"fill": True}, {"allow_empty": False}])
def test_the_end_may_fill_rows(request, tokenizer, vocabulary, options):
    """But for what stands behind the end, the grammar is that of a vocabulary with a token for it."""
    other = request.getfixturevalue(vocabulary)
    first, second = object_grammar(tokenizer, LABELS, **options), object_grammar(other, LABELS, **options)
    alike = {token: other.find(tokenizer._model.id_to_piece(token)) for token in range(tokenizer.vocabulary_size)}
    pairs, known = [(first.start, second.start)], {(first.start, second.start)}
    while pairs:
        one, two = pairs.pop()
        assert first.distance[one] == second.distance[two]
        if first.distance[one] == 0:
            assert np.flatnonzero(second.allowed(two, 5)).tolist() == [other.eos]
            continue
        for remaining in (first.distance[one], 50):
            allowed = np.flatnonzero(first.allowed(one, remaining)).tolist()
            assert sorted(alike[token] for token in allowed) == np.flatnonzero(second.allowed(two, remaining)).tolist()
        for token in allowed:
            pair = first.advance(one, token), second.advance(two, alike[token])
            pairs += [] if pair in known else [pair]
            known.add(pair)
    assert len(known) > 20


@pytest.mark.parametrize("vocabulary", ["padless", "one_control"])
def test_an_unnamed_object_ends(request, vocabulary):
    tokenizer = request.getfixturevalue(vocabulary)
    automaton = unnamed_grammar(tokenizer, 16)
    ids = sequence(tokenizer, BOX + "<seg001>" * 16)
    assert automaton.distance[automaton.start] == len(ids)
    assert automaton.accepts(ids)
    assert automaton.accepts([*ids, tokenizer.pad])
    assert not automaton.accepts(ids[:-1])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{BOX} elk", id="unknown label"),
        pytest.param(f"{BOX} red", id="beginning of a label"),
        pytest.param(f"{BOX} cat house", id="end of another label"),
        pytest.param(f"{BOX} {NOISE_LABEL}", id="noise label"),
        pytest.param(f"{BOX}", id="no label"),
        pytest.param("<loc0010><loc0020><loc0500> cat", id="three location tokens"),
        pytest.param(f"{BOX}<loc0001> cat", id="five location tokens"),
        pytest.param(f"{BOX} cat{BOX} dog", id="no separator"),
        pytest.param(f"{BOX} cat ; ", id="separator at the end"),
        pytest.param(f" ; {BOX} cat", id="separator at the beginning"),
        pytest.param("cat", id="no box"),
        pytest.param(f"{BOX}" + "<seg001>" * 16 + " cat", id="segmentation tokens"),
    ],
)
def test_rejects(tokenizer, text):
    assert not object_grammar(tokenizer, LABELS).accepts(sequence(tokenizer, text))


def test_empty_list(tokenizer):
    assert object_grammar(tokenizer, LABELS).accepts([tokenizer.eos])
    assert not object_grammar(tokenizer, LABELS, allow_empty=False).accepts([tokenizer.eos])
    only_empty = object_grammar(tokenizer, [])
    assert np.flatnonzero(only_empty.allowed(only_empty.start, 5)).tolist() == [tokenizer.eos]


def test_segmentation_tokens(tokenizer):
    automaton = object_grammar(tokenizer, LABELS, segments=16)
    codes = "".join(f"<seg{i:03d}>" for i in range(0, 128, 8))
    assert automaton.accepts(sequence(tokenizer, f"{BOX}{codes} cat ; {BOX}{codes} dog house"))
    assert not automaton.accepts(sequence(tokenizer, f"{BOX}{codes[8:]} cat"))
    assert not automaton.accepts(sequence(tokenizer, f"{BOX} cat"))


@pytest.mark.parametrize("budget", range(1, 24))
@pytest.mark.parametrize("fill", [False, True])
def test_allowed_equals_enumeration(tokenizer, budget, fill):
    """What may come next is what comes next in some whole sequence that fits, read off a list of all of them."""
    labels = ["cat", "red blood cell", "platelet"]
    box = "<loc0000>" * 4
    sequences = [
        sequence(tokenizer, " ; ".join(f"{box} {label}" for label in chosen))
        for count in range(4)
        for chosen in itertools.product(labels, repeat=count)
    ]
    shortest = min(len(tokenizer.encode(f"{box} {label} ; {box}")) - 4 for label in labels)
    automaton = object_grammar(tokenizer, labels, fill=fill)
    alphabet = sorted({token for ids in sequences for token in ids})
    # Three objects of the shortest kind must not fit, else the enumeration is not complete.
    assert budget < 4 * shortest
    for prefix in {tuple(ids[:cut]) for ids in sequences for cut in range(len(ids))}:
        endings = [ids for ids in sequences if tuple(ids[: len(prefix)]) == prefix and len(ids) <= budget]
        expected = {ids[len(prefix)] for ids in endings}
        if fill and len(expected) > 1:
            expected.discard(tokenizer.eos)
        state = automaton.start
        for token in prefix:
            state = automaton.advance(state, token)
        allowed = automaton.allowed(state, budget - len(prefix))
        assert {token for token in alphabet if allowed[token]} == expected


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("vocabulary", ["tokenizer", "merging"])
def test_random_walks_end_in_time_and_read_back(request, vocabulary, fill):
    tokenizer = request.getfixturevalue(vocabulary)
    automaton = object_grammar(tokenizer, LABELS, fill=fill, allow_empty=False)
    rng = np.random.default_rng(0)
    for budget in range(int(automaton.distance[automaton.start]), 80):
        state, ids = automaton.start, []
        while automaton.distance[state]:
            options = np.flatnonzero(automaton.allowed(state, budget - len(ids)))
            ids.append(int(rng.choice(options)))
            state = automaton.advance(state, ids[-1])
        decoded = decode_boxes(tokenizer.decode(ids))
        assert len(ids) <= budget
        assert ids[-1] == tokenizer.eos
        assert automaton.accepts(ids)
        assert decoded.boxes
        assert decoded.invalid == 0
        assert {box.label for box in decoded.boxes} <= set(LABELS)
        # In the merging vocabulary a label's first token already says whether the list ends behind it.
        if fill and vocabulary == "tokenizer":
            # The shortest continuation of a finished list is " ; ", a box and " cat".
            another = len(tokenizer.encode(f"{BOX} cat ; {BOX} cat")) - len(tokenizer.encode(f"{BOX} cat"))
            assert budget - len(ids) < another


def test_too_small_a_budget_allows_nothing(tokenizer):
    automaton = object_grammar(tokenizer, LABELS, allow_empty=False)
    shortest = min(len(sequence(tokenizer, f"{BOX} {label}")) for label in LABELS)
    assert automaton.distance[automaton.start] == shortest
    assert not automaton.allowed(automaton.start, shortest - 1).any()
    assert np.flatnonzero(automaton.allowed(automaton.start, shortest)).tolist() == [
        tokenizer.loc + number for number in range(1024)
    ]


def test_only_padding_follows_the_end(tokenizer):
    automaton = object_grammar(tokenizer, LABELS)
    end = automaton.advance(automaton.start, tokenizer.eos)
    assert automaton.distance[end] == 0
    assert np.flatnonzero(automaton.allowed(end, 3)).tolist() == [tokenizer.pad]


def test_labels_that_merge_with_the_separator(merging):
    """Tokenised alone, " cat" has other ids than in " cat ; "."""
    alone = merging.encode(" cat")
    assert merging.encode(f"{BOX} cat ; {BOX}")[4 : 4 + len(alone)] != alone
    assert object_grammar(merging, ["cat"]).accepts(sequence(merging, f"{BOX} cat ; {BOX} cat"))


def test_tables_stay_small(tokenizer):
    letters = "abcdefghij"
    labels = [f"{a}{b} {c}" for a, b, c in itertools.product(letters, letters, "abc")]
    automaton = object_grammar(tokenizer, labels)
    states, classes = automaton.next_state.shape
    assert len(labels) == 300
    assert states < 100
    assert classes < 60
    assert automaton.token_class.shape == (tokenizer.vocabulary_size,)
    assert {array.dtype for array in (automaton.token_class, automaton.next_state, automaton.distance)} == {
        np.dtype(np.int32)
    }


def test_distances_match_a_breadth_first_search(tokenizer):
    automaton = object_grammar(tokenizer, LABELS, segments=16)
    for state in range(len(automaton.next_state)):
        layer, steps = {state}, 0
        while not any(automaton.distance[s] == 0 for s in layer):
            layer = {int(to) for s in layer for to in automaton.next_state[s] if to >= 0}
            steps += 1
        assert automaton.distance[state] == steps


@pytest.mark.parametrize(
    ("options", "labels", "error", "words"),
    [
        pytest.param({}, ["cat\n"], DataError, "control character", id="unusable label"),
        pytest.param({}, [NOISE_LABEL], DataError, "meaning of its own", id="noise label"),
        pytest.param({"byte_fallback": False}, ["Ω"], DataError, "cannot be written", id="letter the vocabulary lacks"),
        pytest.param(
            {"user_defined_symbols": ["\n"], "vocab_size": 320}, ["cat"], ModelError, "PaliGemma", id="no loc"
        ),
    ],
)
def test_unusable_input(options, labels, error, words):
    with pytest.raises(error, match=words):
        object_grammar(train(**options), labels)


def test_no_label_and_no_empty_list(tokenizer):
    with pytest.raises(UsageError, match="at least one label"):
        object_grammar(tokenizer, [], allow_empty=False)
