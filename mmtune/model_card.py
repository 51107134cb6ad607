"""The page that goes with an exported model: what it is, what it was taught, how well it does, how it is used."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.models.hub import SCHEME
from mmtune.recipe import Recipe, read_recipe
from mmtune.run_files import METRICS, RECIPE

if TYPE_CHECKING:
    from mmtune.model import Model

CARD = "README.md"

_HF = """\
```python
from transformers import AutoTokenizer, {cls}

model = {cls}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""
_PEFT = """\
```python
from peft import PeftModel

model = PeftModel.from_pretrained(base, "{folder}")  # base: {base}, as transformers loads it
```
"""
_KERAS = """\
```python
import keras_hub

backbone = keras_hub.models.Backbone.from_preset("{folder}")
```
"""
_OURS = """\
```python
import mmtune

model = mmtune.load("{folder}")
```
"""
_LIBRARIES = {"hf": "transformers", "peft": "peft", "keras": "keras-hub"}


def model_card(model: "Model", form: str, folder: str) -> str:
    """Returns the card of a model, in Markdown with the hub's metadata in front.

    What is said of training and metrics comes from the run's folder, where the model is one.

    Args:
        model: The model.
        form: The format of the export.
        folder: Name of the folder that it lies in.
    """
    run = Path(model.name)
    recipe = read_recipe(run / RECIPE, {}, []) if (run / RECIPE).is_file() else None
    base = (model.base if recipe is None else recipe.model).removeprefix(SCHEME).partition("@")[0]
    parts = [_metadata(model, form, base), f"# {run.name or model.name}\n", _what(model, form, base)]
    if recipe is not None:
        parts.append(_training(recipe))
    if (run / METRICS).is_file():
        parts.append(_metrics(json.loads((run / METRICS).read_text(encoding="utf-8"))))
    return "\n".join([*parts, "## How to use it\n", _usage(model, form, base).replace("{folder}", folder)])


def _metadata(model: "Model", form: str, base: str) -> str:
    lines = {
        "library_name": _LIBRARIES.get(form, "mmtune"),
        "pipeline_tag": "image-text-to-text" if model.spec.vision else "text-generation",
        "base_model": base,
    }
    tags = ["mmtune", *([model.setup.task] if model.setup else [])]
    # JSON is YAML, and quotes what has to be.
    told = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items()]
    return "\n".join(["---", *told, f"tags: {json.dumps(tags)}", "---\n"])


def _what(model: "Model", form: str, base: str) -> str:
    family = {"paligemma": "PaliGemma", "gemma": "Gemma", "llama": "Llama"}[model.spec.family]
    kind = "An adapter for" if form == "peft" else "A"
    sees = f", pictures of {model.image_size} x {model.image_size} pixels" if model.image_size else ""
    bits = f", weights in {form}" if form.startswith("int") else ""
    return (
        f"{kind} {family} of {model.backbone.count_params():,} parameters{sees}{bits}; made with mmtune from `{base}`, "
        "whose licence it keeps.\n"
    )


def _training(recipe: Recipe) -> str:
    rows = {
        "task": recipe.task,
        "data": recipe.data,
        "classes": ", ".join(recipe.classes),
        "what was trained": "all weights" if recipe.full else f"an adapter of rank {recipe.lora.rank}",
        "steps": recipe.steps,
        "batch size": recipe.batch_size,
        "learning rate": recipe.optimizer.learning_rate,
        "precision": recipe.precision,
        "base weights": recipe.quantize,
        "seed": recipe.seed,
    }
    return "## Training\n\n" + _table({name: value for name, value in rows.items() if value not in (None, "")})


def _metrics(found: dict[str, Any]) -> str:
    numbers = {name: value for name, value in found["metrics"].items() if isinstance(value, int | float)}
    shown = {name: "-" if value == -1 else f"{value:.4g}" for name, value in numbers.items()}
    return f"## Results\n\nOn {found['n']} records of the validation data, by mmtune's metrics:\n\n{_table(shown)}"


def _table(rows: dict[str, Any]) -> str:
    lines = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _usage(model: "Model", form: str, base: str) -> str:
    ours = _OURS if form != "keras" else ""
    if form == "hf":
        sees = model.spec.vision is not None
        cls = "PaliGemmaForConditionalGeneration" if sees else "AutoModelForCausalLM"
        return f"{_HF.replace('{cls}', cls)}\n{ours}"
    return {"peft": _PEFT.replace("{base}", base) + "\n", "keras": _KERAS}.get(form, "") + ours
