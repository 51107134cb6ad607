"""What a sampler refuses: numbers that comparisons let pass, or that no rule of sampling means."""

import math

import numpy as np
import pytest

from mmtune.decoding.sampling import Sampler
from mmtune.errors import UsageError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": math.nan}, "temperature: expected 0 .greedy. or more, got nan"),
        ({"temperature": math.inf}, "temperature: .*, got inf"),
        ({"temperature": -math.inf}, "temperature: .*, got -inf"),
        ({"temperature": -0.5}, "temperature: .*, got -0.5"),
        ({"top_p": math.nan}, "top_p: expected a probability above 0 and up to 1, got nan"),
        ({"top_p": math.inf}, "top_p: .*, got inf"),
        ({"top_p": 0.0}, "top_p: .*, got 0.0"),
        ({"top_p": 1.5}, "top_p: .*, got 1.5"),
        ({"top_k": -1}, "top_k: expected 0 .off. or more, got -1"),
        ({"top_k": math.nan}, "top_k: expected a whole number, got nan"),
        ({"top_k": 2.5}, "top_k: expected a whole number, got 2.5"),
        ({"beams": math.nan}, "beams: expected a whole number, got nan"),
        ({"beams": 0}, "beams: expected 1 or more, got 0"),
        ({"seed": math.nan}, "seed: expected a whole number, got nan"),
        ({"beams": 2, "temperature": 1.0}, "beam search takes no temperature"),
    ],
    ids=str,
)
def test_nonsense_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Sampler(**options)


def test_sound_numbers_are_taken():
    assert Sampler(temperature=np.float32(0.5), top_k=np.int64(3), top_p=1, seed=np.int32(4)).top_k == 3
