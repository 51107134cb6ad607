"""A user's own program, which joins JAX' processes itself: `python api_program.py PORT INDEX SEED OUT`."""

import sys

import jax

import mmtune
from mmtune.errors import MmtuneError

port, index, seed, out = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(index))
try:
    run = mmtune.train(
        "tiny",
        task="detection",
        data="shapes:train?n=8&max_objects=2",
        steps=1,
        batch_size=4,
        seed=int(seed),
        out=out,
        verbose=False,
    )
    print("trained", run.folder)
except MmtuneError as error:
    print(error)
