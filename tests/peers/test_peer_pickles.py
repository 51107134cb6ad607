"""The command that the message about a pickle names, run as it stands: the model is then the one that was pickled."""

import shlex
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmtune.errors import ModelError
from mmtune.models.folder_files import SINGLE
from mmtune.models.safetensor_files import TensorFiles

pytestmark = pytest.mark.peers


def command_of(folder):
    with pytest.raises(ModelError) as error:
        TensorFiles(folder)
    command = str(error.value)
    words = shlex.split(command[command.index("python -c ") :])
    return [sys.executable, *words[1:]]


def state():
    shared = torch.randn(6, 4)
    return {"a": shared, "tied": shared, "turned": torch.randn(3, 5).T, "half": torch.randn(7).to(torch.bfloat16)}


@pytest.mark.parametrize("shards", [1, 2])
def test_the_command_converts_what_was_pickled(tmp_path, shards):
    folder = tmp_path / "it's [a] folder"
    folder.mkdir()
    weights = state()
    for number in range(shards):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-0000{number + 1}-of-00002.bin"
        torch.save(dict(list(weights.items())[number::shards]), folder / name)
    subprocess.run(command_of(folder), check=True, capture_output=True)
    files = TensorFiles(folder)
    assert files.path / SINGLE == folder / SINGLE
    assert set(files) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(files.read(name).astype(np.float32), value.float().numpy(), err_msg=name)


class Trap:
    def __reduce__(self):
        return sys.exit, (7,)


def test_the_command_runs_nothing_that_a_pickle_holds(tmp_path):
    torch.save({"a": Trap()}, tmp_path / "pytorch_model.bin")
    done = subprocess.run(command_of(tmp_path), capture_output=True, text=True)
    assert done.returncode == 1
    assert "weights_only" in done.stderr.lower() or "Weights only" in done.stderr
    assert not (tmp_path / SINGLE).exists()
