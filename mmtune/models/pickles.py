"""Weights in pickles: never opened, since opening one runs whatever program is in it; what to run instead."""

import shlex
from pathlib import Path

# As transformers, PEFT and Meta name them.
_CHECKPOINT, _ADAPTER = ("pytorch_model*.bin", "*.pth", "*.ckpt"), ("adapter_model*.bin",)

# weights_only lets torch read tensors and nothing that could run; tensors that share memory are told apart.
_PROGRAM = (
    "import sys, torch; from pathlib import Path; from safetensors.torch import save_file; "
    "folder, weights = Path(sys.argv[1]), {{}}; "
    '[weights.update(torch.load(file, "cpu", weights_only=True)) for file in sorted(folder.glob("{pattern}"))]; '
    'save_file({{name: tensor.clone().contiguous() for name, tensor in weights.items()}}, folder / "{made}", '
    '{{"format": "pt"}})'
)


def pickle_sentence(folder: Path, made: str, *, adapter: bool = False) -> str | None:
    """Returns why a folder's pickle is not opened and what to run, None where the folder holds none.

    Args:
        folder: Of a checkpoint or an adapter.
        made: The safetensors file that is to take the pickle's place.
        adapter: Whether it is an adapter's.
    """
    for pattern in _ADAPTER if adapter else _CHECKPOINT:
        if found := sorted(folder.glob(pattern)):
            return f"{found[0]}: {_WHY}: {conversion(folder, pattern, made)}"
    return None


_WHY = (
    "a pickle, which is never opened here, as that would run whatever program is in it; where torch is installed, make "
    "a safetensors file of it"
)


def conversion(folder: Path, pattern: str, made: str) -> str:
    """Returns the command that makes a safetensors file of a folder's pickles without running anything in them."""
    program = _PROGRAM.format(pattern=pattern, made=made)
    return f"python -c {shlex.quote(program)} {shlex.quote(str(folder))}"
