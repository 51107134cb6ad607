"""Tokens and scores of captions against pycocoevalcap's, Java and all."""

import random
import shutil

import pytest

pytest.importorskip("pycocoevalcap")
if shutil.which("java") is None:
    pytest.skip("there is no Java to run pycocoevalcap's tokenizer with", allow_module_level=True)

from caption_fuzz import composed, installed_texts, scrambled

from mmtune.data.read import read
from mmtune.metrics.caption import caption_scores
from mmtune.metrics.caption_java import java_scores
from mmtune.metrics.ptb import tokenize

pytestmark = pytest.mark.peers

NAMES = ("BLEU1", "BLEU2", "BLEU3", "BLEU4", "ROUGE_L", "CIDEr")

VERBS = ("rides", "holds", "sees", "eats", "wears", "watches", "is", "isn't", "can't")
NOUNS = ("dog's", "a cat", "two men", "the U.S. flag", "t-shirt", "No. 5", "1 1/2 cakes", "(some) birds", "$5", "x-ray")


def peer_tokens(captions):
    """Returns pycocoevalcap's tokens. It gives the last caption no end of line, and is given one more therefore."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    given = {number: [{"caption": caption}] for number, caption in enumerate([*captions, "the end"])}
    cut = PTBTokenizer().tokenize(given)
    return [cut[number][0] for number in range(len(captions))]


def assert_same_tokens(captions):
    ours = [" ".join(tokens) for tokens in tokenize([*captions, "the end"])[:-1]]
    theirs = peer_tokens(captions)
    differ = [
        (caption, expected, found)
        for caption, expected, found in zip(captions, theirs, ours, strict=True)
        # Tokens without text leave two spaces behind.
        if " ".join(word for word in expected.split(" ") if word) != found
    ]
    assert not differ, f"{len(differ)} of {len(captions)}, such as {differ[:5]}"


@pytest.mark.parametrize("seed", range(3))
def test_made_up_captions_are_cut_alike(seed):
    rng = random.Random(seed)
    assert_same_tokens([composed(rng) for _ in range(3000)] + [scrambled(rng) for _ in range(3000)])


def test_texts_of_installed_packages_are_cut_alike():
    assert_same_tokens(installed_texts(6000, seed=0))


def test_real_captions_are_cut_alike(shared_data):
    folders = [shared_data / "captions" / name for name in ("flickr8k", "flickr30k")]
    texts = [text for folder in folders for record in read(folder, task="captioning") for text in record.texts]
    assert len(texts) == 35
    assert_same_tokens(texts)


def peer_scores(captions, references):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    found = tokenizer.tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    right = tokenizer.tokenize({i: [{"caption": text} for text in texts] for i, texts in enumerate(references)})
    bleu, _ = Bleu(4).compute_score(right, found, verbose=0)
    scores = (*bleu, Rouge().compute_score(right, found)[0], Cider().compute_score(right, found)[0])
    return dict(zip(NAMES, scores, strict=True))


def sentence(rng):
    return " ".join(rng.choice(pool) for pool in [NOUNS, VERBS, NOUNS] * rng.randint(0, 3))


def assert_same_scores(captions, references):
    ours = caption_scores(captions, references)
    assert {name: ours[name] for name in NAMES} == pytest.approx(peer_scores(captions, references), abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_random_captions_score_alike(seed):
    rng = random.Random(seed)
    captions = [sentence(rng) for _ in range(100)]
    references = [[sentence(rng) for _ in range(rng.randint(1, 5))] for _ in captions]
    assert_same_scores(captions, references)


HAND_PICKED = [
    ("A man riding a wave.", ["a man rides a wave", "Surfer on a wave"]),
    ("", ["a man"]),
    ("", [""]),
    ("a man", ["", "a man"]),
    ("a", ["a"]),
    (".", ["."]),
    ("a a a a a a", ["a a"]),
    ("1 1/2 cups", ["1 1/2 cups of milk"]),
    ("gate B.", ["gate B.", "A gate"]),
    ("It's a dog's life", ["it 's a dog 's life"]),
    ("(two) dogs", ["-LRB- two -RRB- dogs"]),
    ("a red car", ["a red bus", "one red car", "A RED CAR!"]),
    ("x y z", ["a b c"]),
    ("\u65e5\u672c caf\u00e9", ["\u65e5\u672c cafe"]),
    ("the the the the", ["the cat the dog the the", "the"]),
    ("a\tb", ["a b"]),
    ("a man and a woman and a man", ["a woman and a man and a woman"]),
    ("dogs, cats; birds.", ["dogs cats birds"]),
    ("T-shirt", ["t-shirt", "T shirt"]),
    ("isn't", ["is n't", "is not"]),
]


def test_hand_picked_captions_score_alike_in_every_company():
    rng = random.Random(0)
    for count in (1, 2, 5, len(HAND_PICKED)):
        for _ in range(3):
            chosen = rng.sample(HAND_PICKED, count)
            assert_same_scores([caption for caption, _ in chosen], [references for _, references in chosen])


def test_each_hand_picked_caption_scores_alike_beside_another():
    rng = random.Random(1)
    for number in range(len(HAND_PICKED)):
        pairs = [HAND_PICKED[number], *rng.sample(HAND_PICKED, 9)]
        assert_same_scores([caption for caption, _ in pairs], [references for _, references in pairs])


@pytest.mark.parametrize("seed", range(2))
def test_meteor_is_that_of_its_wrapper(seed):
    """The wrapper takes bars out of captions only, which would break a line of references."""
    from pycocoevalcap.meteor.meteor import Meteor

    rng = random.Random(seed)
    found = [sentence(rng).split() for _ in range(40)]
    right = [[sentence(rng).split() for _ in range(rng.randint(1, 4))] for _ in found]
    given = {i: [" ".join(tokens) for tokens in one] for i, one in enumerate(right)}
    theirs, _ = Meteor().compute_score(given, {i: [" ".join(tokens)] for i, tokens in enumerate(found)})
    assert java_scores(found, right)["METEOR"] == pytest.approx(theirs, abs=1e-12)
    assert 0 < theirs < 1


def test_meteor_of_the_right_captions():
    scores = java_scores([["a", "dog", "runs"]], [[["a", "dog", "runs"], ["the", "dog"]]])
    assert scores["METEOR"] == pytest.approx(1.0, abs=1e-3)
