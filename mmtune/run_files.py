"""Names of the files in a run's folder."""

RECIPE = "recipe.toml"
"""The whole recipe; a folder that holds it is a run."""

LOG = "log.csv"
WANDB = "wandb_id.txt"
"""The id of the run at Weights & Biases, where it is logged there."""

METRICS = "metrics.json"
PREDICTIONS = "predictions.jsonl"
REPORT = "report.html"
LAYOUT = "layout.txt"
"""Where each variable lies on a mesh; its picture stands beside it as .svg. Without a mesh there is neither."""

ADAPTER, TRAINED = "adapter.safetensors", "weights.safetensors"
"""What was trained: one of the two."""
