"""Questions of many at once: each gets its own answer, they share batches, and there is an end to what waits."""

import threading
import time

import numpy as np
import pytest
from backbones import make
from PIL import Image

import mmtune.demos.serving as serving
from mmtune.demos.serving import Batcher, BusyError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict
from mmtune.streaming import ask


@pytest.fixture(scope="module")
def model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")


@pytest.fixture
def batcher():
    held = Batcher(waiting=64, delay=0.5)
    yield held
    held.close()


def photo(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8))


def asked(model, seed):
    return ask(model, photo(seed), task="captioning", max_tokens=4 + seed % 5)


def in_threads(count, work):
    found = [None] * count

    def run(place):
        try:
            found[place] = work(place)
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found


def test_each_visitor_gets_their_own_answer_out_of_a_shared_batch(model, batcher):
    questions = [asked(model, seed) for seed in range(8)]
    found = in_threads(8, lambda place: batcher.ask(model, questions[place]).answer.text)
    wanted = [predict(model, [photo(s)], task="captioning", max_tokens=4 + s % 5)[0].text for s in range(8)]
    assert found == wanted
    assert len(set(wanted)) > 4
    assert max(batcher.sizes) > 1
    assert sum(batcher.sizes) == 8


class Slow:
    """In the place of decoding: says nothing until it is told to, and what it was asked."""

    def __init__(self):
        self.go = threading.Event()
        self.batches = []

    def __call__(self, model, asked, batch_size):
        del model, batch_size
        self.batches.append(list(asked))
        self.go.wait(30)
        if "bad" in asked:
            raise RuntimeError("bad")
        yield {place: f"answer to {one}" for place, one in enumerate(asked)}


@pytest.fixture
def slow(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(serving, "stream_answers", slow)
    yield slow
    slow.go.set()


def until(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_one_more_than_may_wait_is_told_so(slow):
    batcher = Batcher(waiting=3, delay=0.0, batch=1)
    results = []
    threads = [
        threading.Thread(target=lambda place=place: results.append(batcher.ask("model", f"q{place}")))
        for place in range(4)
    ]
    threads[0].start()
    assert until(lambda: slow.batches)  # it is being answered and waits no more
    for thread in threads[1:]:
        thread.start()
    assert until(lambda: len(batcher._jobs) == 3)
    with pytest.raises(BusyError, match="busy: 3 questions are waiting"):
        batcher.ask("model", "one more")
    slow.go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [f"answer to q{place}" for place in range(4)]
    batcher.close()


def test_models_do_not_share_batches(slow, batcher):
    slow.go.set()
    models = ["one", "other"]
    found = in_threads(6, lambda place: batcher.ask(models[place % 2], f"{models[place % 2]} {place}"))
    assert found == [f"answer to {models[place % 2]} {place}" for place in range(6)]
    assert all(len({one.split()[0] for one in batch}) == 1 for batch in slow.batches)


def test_one_question_that_fails_does_not_spoil_the_others(slow, batcher):
    slow.go.set()
    questions = ["a", "bad", "b", "c"]
    found = in_threads(4, lambda place: batcher.ask("model", questions[place]))
    assert [found[0], *found[2:]] == ["answer to a", "answer to b", "answer to c"]
    assert isinstance(found[1], RuntimeError)


def test_who_leaves_is_not_waited_for(slow):
    batcher = Batcher(delay=0.0, batch=1)
    first = threading.Thread(target=lambda: batcher.ask("model", "a"))
    first.start()
    assert until(lambda: slow.batches)
    stream = batcher.stream("model", "left")
    leaver = threading.Thread(target=lambda: next(stream), daemon=True)  # it waits for ever
    leaver.start()
    assert until(lambda: len(batcher._jobs) == 1)
    batcher._jobs[0].left.set()
    slow.go.set()
    first.join(30)
    assert batcher.ask("model", "b") == "answer to b"
    assert ["left"] not in slow.batches
    batcher.close()


def test_a_closed_batcher_refuses(slow):
    slow.go.set()
    batcher = Batcher()
    batcher.close()
    with pytest.raises(BusyError, match="shutting down"):
        batcher.ask("model", "a")
