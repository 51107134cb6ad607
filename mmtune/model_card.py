"""The page that goes with an exported model: what it is, what it was taught, how well it does, how it is used."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.models.hub import SCHEME
from mmtune.recipe import Recipe, read_recipe
from mmtune.records import Record
from mmtune.run_files import METRICS, RECIPE

if TYPE_CHECKING:
    from mmtune.model import Model

CARD = "README.md"

_HF_TEXT = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""
_HF_PICTURES = """\
```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{folder}")
processor = AutoProcessor.from_pretrained("{folder}")

image = Image.open("picture.jpg").convert("RGB")
inputs = processor(images=image, text={prompt}, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens={max_tokens}, do_sample=False)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
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
        return f"{_HF_TEXT if model.spec.vision is None else _with_pictures(model)}\n{ours}"
    return {"peft": _PEFT.replace("{base}", base) + "\n", "keras": _KERAS}.get(form, "") + ours


def _with_pictures(model: "Model") -> str:
    prompt, most = f"<image>{_prompt(model)}", model.setup and model.setup.max_tokens
    return _HF_PICTURES.replace("{max_tokens}", str(most or 128)).replace("{prompt}", json.dumps(prompt))


def _prompt(model: "Model") -> str:
    """Returns what to ask about a picture, as the model was taught to be asked."""
    from mmtune.predicting import task_for

    if model.setup is None:
        return "caption en"
    task = task_for(model, model.setup.task)
    queries = task.queries(Record("example", prefix="What is shown?" if task.needs_prompt else None))
    return queries[0].prompt if queries else "caption en"
