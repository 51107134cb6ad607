"""Decoding against decoding alone, against re-scoring, and against naive loops."""

import functools
import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.codecs.grammar import Automaton
from mmtune.data.batch import collate
from mmtune.decoding import opening
from mmtune.decoding import score as scoring
from mmtune.decoding.buckets import bucket, table_size
from mmtune.decoding.engine import prefill
from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.sampling import Sampler, choose
from mmtune.decoding.score import score
from mmtune.errors import UsageError
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables, values

PAD, EOS = 0, 1


@functools.cache
def model(family="paligemma2"):
    backbone = make(family)
    return Weights(values(model_variables(backbone)), read_spec(backbone), NO_ADAPTER, jnp.float32, EOS, PAD)


@functools.cache
def requests(count=20, seed=3):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (28, 28, 3), np.uint8) for _ in range(count)]
    lengths = rng.integers(1, 16, count)
    assert len(set(lengths.tolist())) > 5
    return [
        Request(rng.integers(2, 256, n).tolist(), im, row=i)
        for i, (n, im) in enumerate(zip(lengths, images, strict=True))
    ]


@pytest.mark.parametrize("family", ["paligemma2", "gemma2", "llama3"])
def test_mixed_lengths_in_one_batch_equal_each_alone(family):
    together = generate(model(family), requests(), max_tokens=12, batch_size=20)
    alone = [generate(model(family), [request], max_tokens=12)[0] for request in requests()]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]
    # The check means something only if answers differ and do not repeat one token.
    assert len({answer.ids for answer in together}) > 10
    assert np.mean([len(set(answer.ids)) for answer in together]) > 3


def test_log_probabilities_equal_a_scoring_pass():
    answers = generate(model(), requests(), max_tokens=12)
    again = score(model(), requests(), [answer.ids for answer in answers])
    for answer, logprobs in zip(answers, again, strict=True):
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-5)


def test_greedy_takes_the_likeliest_token():
    """Against a loop that runs the whole sequence anew for every token and tries each candidate."""
    request = requests()[0]
    answer = generate(model(), [request], max_tokens=4)[0]
    for length in range(len(answer.ids)):
        candidates = [[*answer.ids[:length], token] for token in range(256)]
        scores = [s[-1] for s in score(model(), [request] * 256, candidates, batch_size=256)]
        assert int(np.argmax(scores)) == answer.ids[length]


def test_stops_at_eos():
    answers = generate(model(), requests(), max_tokens=40)
    ended = [a for a in answers if EOS in a.ids]
    for answer in ended:
        assert answer.ids.index(EOS) == len(answer.ids) - 1
    assert all(len(a.ids) == 40 for a in answers if EOS not in a.ids)


@pytest.mark.parametrize("max_tokens", [1, 6])
def test_beams_never_score_below_greedy_and_sometimes_above(max_tokens):
    greedy = [sum(a.logprobs) for a in generate(model(), requests(), max_tokens=max_tokens)]
    beam = [sum(a.logprobs) for a in generate(model(), requests(), max_tokens=max_tokens, sampler=Sampler(beams=4))]
    assert all(b >= g - 1e-6 for b, g in zip(beam, greedy, strict=True))
    assert max_tokens == 1 or any(b > g + 1e-3 for b, g in zip(beam, greedy, strict=True))


def test_a_full_beam_finds_the_likeliest_pair():
    """With as many beams as tokens, two steps are an exhaustive search."""
    request = requests()[4]
    answer = generate(model(), [request], max_tokens=2, sampler=Sampler(beams=256))[0]
    first = [s[0] for s in score(model(), [request] * 256, [[t] for t in range(256)], batch_size=256)]
    best = -np.inf
    for token in np.argsort(first)[::-1]:
        if first[token] < best:  # no pair is likelier than its first token
            break
        pairs = [[int(token)]] if token == EOS else [[int(token), other] for other in range(256)]
        best = max(best, *(s.sum() for s in score(model(), [request] * len(pairs), pairs, batch_size=256)))
    assert sum(answer.logprobs) == pytest.approx(best, abs=1e-4)


def test_sampling_does_not_depend_on_the_batch():
    sampler = Sampler(temperature=1.0, seed=5)
    together = generate(model(), requests(), max_tokens=8, sampler=sampler)
    alone = [generate(model(), [request], max_tokens=8, sampler=sampler)[0] for request in requests()[:6]]
    assert [a.ids for a in together[:6]] == [a.ids for a in alone]
    other = generate(model(), requests(), max_tokens=8, sampler=Sampler(temperature=1.0, seed=6))
    assert [a.ids for a in together] != [a.ids for a in other]


@pytest.mark.parametrize("family", ["paligemma2", "gemma2"])
def test_samples_of_one_prompt_share_its_opening(family, monkeypatch):
    """Three and five samples of two prompts: the prompts are read once each, the samples are those of each alone."""
    read = []

    def counted(weights, spec, features, token_ids, *rest, **options):
        read.append(len(token_ids))
        return prefill(weights, spec, features, token_ids, *rest, **options)

    monkeypatch.setattr(opening, "prefill", counted)
    sampler = Sampler(temperature=1.0, seed=5)
    one, other = requests()[:2]
    asked = [replace(one if row in (0, 2, 5) else other, row=row) for row in range(8)]
    together = generate(model(family), asked, max_tokens=8, sampler=sampler)
    assert read == [2]
    alone = [generate(model(family), [request], max_tokens=8, sampler=sampler)[0] for request in asked]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]
    assert len({answer.ids for answer in together}) > 4


@pytest.mark.parametrize(
    ("sampler", "possible"),
    [
        (Sampler(temperature=1.0, top_k=2), {0, 1}),
        (Sampler(temperature=1.0, top_p=0.6), {0, 1}),
        (Sampler(temperature=1.0, top_p=0.4), {0}),
        (Sampler(temperature=1.0), {0, 1, 2, 3}),
        (Sampler(), {0}),
    ],
)
def test_samplers_draw_from_the_right_tokens(sampler, possible):
    import jax

    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.15, 0.05]]))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(choose(jnp.repeat(logits, 4000, 0), sampler, keys, jnp.int32(0)))
    assert set(drawn.tolist()) == possible
    if sampler == Sampler(temperature=1.0):
        np.testing.assert_allclose(np.bincount(drawn) / 4000, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def automaton(fill=False):
    """Pairs of one of 10..19 and one of 20..29, then eos: states 0 start, 1 inside, 2 after a pair, 3 end."""
    token_class = np.zeros(256, np.int32)
    token_class[10:20], token_class[20:30], token_class[EOS], token_class[PAD] = 1, 2, 3, 4
    table = np.full((4, 5), -1, np.int32)
    table[0, 1], table[1, 2], table[2, 1], table[2, 3], table[3, 4] = 1, 2, 1, 3, 3
    return Automaton(token_class, table, 0, np.array([3, 2, 1, 0], np.int32), fill)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("fill", "max_tokens", "lengths"), [(False, 8, {3, 5, 7}), (True, 8, {7}), (True, 3, {3})])
def test_grammar_is_followed_within_the_budget(beams, fill, max_tokens, lengths):
    rule = automaton(fill)
    constrained = [Request(r.prompt, r.image, rule, r.row) for r in requests()]
    answers = generate(model(), constrained, max_tokens=max_tokens, sampler=Sampler(beams=beams))
    assert all(rule.accepts(answer.ids) for answer in answers)
    assert {len(answer.ids) for answer in answers} <= lengths
    again = score(model(), constrained, [answer.ids for answer in answers])
    for answer, logprobs in zip(answers, again, strict=True):
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-5)


def test_budget_below_the_shortest_answer_is_refused():
    request = Request(requests()[0].prompt, requests()[0].image, automaton())
    with pytest.raises(UsageError, match="shortest allowed answer has 3 tokens, got 2"):
        generate(model(), [request], max_tokens=2)


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": 2, "batch_size": 0}])
def test_numbers_below_one_are_refused(wrong):
    name = list(wrong)[-1]
    with pytest.raises(UsageError, match=f"{name}: expected 1 or more, got 0"):
        generate(model(), requests()[:1], **wrong)


def test_long_answers_are_scored_a_few_at_a_time(monkeypatch):
    targets = [request.prompt for request in requests()]
    together = score(model(), requests(), targets, batch_size=20)
    monkeypatch.setattr("mmtune.decoding.score._MOST_LOGITS", 3 * 16 * 256)
    widths = []
    collate = sys.modules["mmtune.decoding.score"].collate
    monkeypatch.setattr(
        "mmtune.decoding.score.collate", lambda rows, *others: widths.append(len(rows)) or collate(rows, *others)
    )
    apart = score(model(), requests(), targets, batch_size=20)
    assert widths == [4] * 6 + [2]  # three and a copy, to have few shapes
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_device_rule_equals_the_reference_rule():
    import jax.numpy as jnp

    from mmtune.decoding.constraint import allowed, on_device

    for fill in (False, True):
        rule = automaton(fill)
        device = on_device(rule, 256, EOS)
        for state in range(4):
            for remaining in range(1, 9):
                ours = np.asarray(allowed(device, jnp.asarray([state]), jnp.int32(remaining)))[0]
                np.testing.assert_array_equal(ours, rule.allowed(state, remaining))


def test_tokens_of_one_kind_are_weighed_together():
    import jax.numpy as jnp

    from mmtune.decoding.constraint import allowed, likeliest_kind, on_device
    from mmtune.decoding.sampling import FORBIDDEN

    device = on_device(automaton(), 256, EOS)
    rng = np.random.default_rng(5)
    ended = 0
    for _ in range(50):
        state = int(rng.integers(0, 4))
        logits = rng.normal(0, 1.5, 256).astype(np.float32)
        logits[EOS] += 2.5
        may = np.asarray(allowed(device, jnp.asarray([state]), jnp.int32(8)))[0]
        found = np.asarray(likeliest_kind(device, jnp.where(may, logits, FORBIDDEN)[None]))[0]
        token = int(np.argmax(found))
        share = np.exp(logits) * may
        kinds = {
            "first": slice(10, 20),
            "second": slice(20, 30),
            "end": slice(EOS, EOS + 1),
            "pad": slice(PAD, PAD + 1),
        }
        likeliest = max(kinds.values(), key=lambda kind: share[kind].sum())
        assert token == likeliest.start + int(np.argmax(share[likeliest]))
        ended += state == 2 and token != EOS and int(np.argmax(share)) == EOS
    assert ended >= 2  # the likeliest token alone would have ended these


def test_a_tolerant_location_is_the_middle_of_the_likeliest_stretch():
    import jax.numpy as jnp

    from mmtune.codecs.grammar import object_grammar
    from mmtune.decoding.constraint import allowed, likeliest_stretch, on_device
    from mmtune.decoding.sampling import FORBIDDEN

    tokenizer = tiny_tokenizer()
    assert tokenizer.loc is not None
    rng = np.random.default_rng(2)
    moved = 0
    for tolerance in (0, 3, 40):
        rule = object_grammar(tokenizer, ["cat"], tolerance=tolerance)
        device = on_device(rule, tokenizer.vocabulary_size, tokenizer.eos)
        behind = rule.advance(rule.start, tokenizer.loc)
        for _ in range(20):
            logits = rng.normal(0, 1, tokenizer.vocabulary_size).astype(np.float32)
            centre, peak = rng.integers(0, 1024, 2)
            logits[tokenizer.loc + np.clip(np.arange(centre - 15, centre + 16), 0, 1023)] += 3
            logits[tokenizer.loc + peak] += 6
            may = np.asarray(allowed(device, jnp.asarray([behind]), jnp.int32(30)))[0]
            open_logits = np.where(may, logits, FORBIDDEN)
            found = int(np.argmax(np.asarray(likeliest_stretch(device, jnp.asarray(open_logits)[None]))[0]))
            share = np.exp(logits[tokenizer.loc : tokenizer.loc + 1024].astype(np.float64))
            windows = [range(max(0, i - tolerance), min(1024, i + tolerance + 1)) for i in range(1024)]
            mass = np.array([share[window].sum() for window in windows]) * (1 + 1e-3 * share / share.max())
            assert mass[found - tokenizer.loc] >= mass.max() * (1 - 1e-5)
            moved += found != int(np.argmax(open_logits))
            # Where no location may stand, nothing is changed.
            start = np.where(np.arange(len(logits)) == tokenizer.eos, logits, FORBIDDEN).astype(np.float32)
            np.testing.assert_array_equal(likeliest_stretch(device, jnp.asarray(start)[None])[0], start)
    assert moved > 10


def test_a_picture_is_required():
    with pytest.raises(UsageError, match="give it one"):
        generate(model(), [Request([5, 6])], max_tokens=2)


def test_no_requests_no_answers():
    assert generate(model(), [], max_tokens=3) == []


@pytest.mark.parametrize(("n", "size"), [(1, 8), (9, 32), (128, 128), (129, 512), (513, 1024), (1025, 2048)])
def test_sizes_of_tables(n, size):
    assert table_size(n) == size


@pytest.mark.parametrize(("length", "size"), [(1, 16), (16, 16), (17, 32), (33, 64), (65, 128), (129, 192)])
def test_buckets(length, size):
    assert bucket(length) == size


@pytest.mark.parametrize("family", ["paligemma2", "gemma2", "llama3"])
def test_answers_to_one_prompt_share_a_row_and_score_as_alone(family, monkeypatch):
    rng = np.random.default_rng(9)
    asked = [request for request in requests()[:4] for _ in range(7)]
    targets = [rng.integers(2, 256, rng.integers(1, 37)).tolist() for _ in asked]
    alone = [score(model(family), [request], [target])[0] for request, target in zip(asked, targets, strict=True)]
    rows = []
    monkeypatch.setattr(scoring, "collate", lambda given, *more: rows.append(len(given)) or collate(given, *more))
    together = score(model(family), asked, targets)
    assert rows == [4]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    # Longer ones than a row takes go into several.
    rows.clear()
    longer = [target * 3 for target in targets]
    assert [len(found) for found in score(model(family), asked, longer)] == [len(target) for target in longer]
    assert sum(rows) > 4
