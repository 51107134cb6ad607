"""The page's second tab: data is checked, a run is started, watched, stopped and resumed, and its model is opened."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from mmtune.errors import MmtuneError
from mmtune.registry import task_class
from mmtune.reports.charts import line_chart
from mmtune.reports.log_curves import read_curves
from mmtune.reports.markup import number
from mmtune.run_files import LOG, RECIPE
from mmtune.training.log import metric_names

from .plan import Plan, suggested
from .prompts import TASKS, WITH_CLASSES
from .results import escaped, message_html
from .shelf import Shelf
from .theme import presence
from .training import Trainer, final_metrics
from .try_tab import TryTab
from .visitors import visitor_of

_MOST_LINES = 60
_EVERY = 1.5  # seconds between two looks at a run

_SETTINGS = ("val", "steps", "batch_size", "learning_rate", "lora_rank")


def build_tune_tab(page: gr.Blocks, trainer: Trainer, shelf: Shelf, tabs: gr.Tabs, first: TryTab, folder: Path) -> None:
    """Lays the tab out, inside a `gr.Blocks`. What belongs to a visitor is filled in when the page is loaded.

    Args:
        page: The page.
        trainer: Runs and data sets.
        shelf: The models; that of a run that has ended is added.
        tabs: Of the page, to turn to the first one.
        first: The first tab.
        folder: Where overlays are drawn; the server may show its files.
    """
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            gr.HTML("<h2>1. Data</h2>")
            task = gr.Radio([(title, name) for name, title in TASKS.items()], value="detection", label="Task")
            offered = trainer.datasets("")
            data = gr.Dropdown(list(offered), value=offered[0], label="Data set", elem_id="data")
            files = gr.File(
                label="or upload one: a zip of its folder, or its files",
                file_count="multiple",
                height=140,
                elem_id="files",
            )
            with gr.Row():
                check = gr.Button("Check the data", variant="primary", elem_id="check")
                cancel = gr.Button("Cancel the check", elem_id="cancel-check")
            gr.HTML("<h2>2. Recipe</h2>")
            model = gr.Dropdown(list(shelf.names), value=shelf.names[0], label="Model to start from", elem_id="base")
            plan = suggested("detection", "", shelf.names[0], 0)
            steps = gr.Number(plan.steps, label="Steps", precision=0, minimum=1, elem_id="steps")
            with gr.Accordion("More", open=False):
                batch_size = gr.Number(plan.batch_size, label="Batch size", precision=0, minimum=1)
                rate = gr.Number(plan.learning_rate, label="Learning rate (0: by the model's size)", minimum=0)
                rank = gr.Number(plan.lora_rank, label="Rank of the adapter (LoRA)", precision=0, minimum=1)
                val = gr.Slider(0, 0.5, value=plan.val, step=0.05, label="Share of the data held back to score it")
            command = gr.Textbox(
                label="The same on the command line", lines=3, interactive=False, buttons=["copy"], elem_id="command"
            )
        with gr.Column(scale=7, min_width=300):
            message = gr.HTML(
                message_html("Choose or upload a data set, then check it.", "note"), elem_id="tune-message"
            )
            report = gr.HTML(elem_id="report")
            overlays = gr.Gallery(
                label="What the model is taught, decoded back from its text",
                columns=4,
                height=280,
                visible=presence(False),
                elem_id="overlays",
                buttons=["download", "fullscreen"],
            )
            gr.HTML("<h2>3. Run</h2>")
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="start")
                stop = gr.Button("Stop", interactive=False, elem_id="stop-run")
                resume = gr.Button("Resume", interactive=False, elem_id="resume")
                use = gr.Button("Open beside the base", interactive=False, elem_id="open")
            run = gr.Dropdown(
                [],
                value=None,
                label="Run",
                elem_id="run",
                info="this one, or an earlier one to go on with",
            )
            progress = gr.HTML(elem_id="progress")
            curves = gr.HTML(elem_id="curves")
    timer = gr.Timer(_EVERY, active=False)
    settings = [val, steps, batch_size, rate, rank]
    about = [task, data, model, *settings]

    def said(error: MmtuneError) -> str:
        return message_html(trainer.names.hide(error))

    def planned(visitor: str, task: str, data: str, model: str, *values: Any) -> Plan:
        return Plan(
            task=task,
            data=trainer.address(visitor, data),
            data_name=trainer.data_name(visitor, data),
            model=shelf.place(shelf.checked(visitor, model)),
            model_name=model,
            **{name: value for name, value in zip(_SETTINGS, values, strict=True) if value is not None},
        )

    def loaded(request: gr.Request) -> list[Any]:
        """Shows a visitor who comes back the data set that was used last and the run that was started last."""
        visitor = visitor_of(request)
        datasets, latest = trainer.datasets(visitor), trainer.latest(visitor)
        own = [name for name in datasets if name not in offered]
        return [
            gr.update(choices=list(datasets), value=own[-1] if own else offered[0]),
            gr.update(choices=_choices(trainer, visitor, latest), value=latest),
            gr.update(choices=list(shelf.seen(visitor))),
            *watched(latest, request),
        ]

    def shown_command(request: gr.Request, *values: Any) -> str:
        try:
            return trainer.command(planned(visitor_of(request), *values))
        except MmtuneError as error:
            return trainer.names.hide(error)

    def uploaded(files: Sequence[str] | None, request: gr.Request) -> list[Any]:
        if not files:
            return [gr.skip(), gr.skip()]
        try:
            name = trainer.upload(visitor_of(request), files)
        except MmtuneError as error:
            return [gr.skip(), said(error)]
        return [
            gr.update(choices=list(trainer.datasets(visitor_of(request))), value=name),
            message_html(f"{name} was uploaded: check it next.", "note"),
        ]

    def checked(task: str, data: str, model: str, request: gr.Request) -> list[Any]:
        """Counts, names faults, draws what is taught, and fills the recipe in."""
        unknown: list[Any] = [gr.skip()] * len(settings)
        try:
            out = Path(tempfile.mkdtemp(dir=folder))
            visitor = visitor_of(request)
            found = trainer.check(visitor, data, task, out)
            plan = suggested(task, data, shelf.place(shelf.checked(visitor, model)), found.usable)
        except MmtuneError as error:
            return [said(error), "", gr.update(visible=presence(False)), *unknown]
        lines = found.lines
        more = [f"and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
        text = "\n".join([*lines[:_MOST_LINES], *more])
        pictures = [str(file) for file in found.overlays]
        values = asdict(plan)
        return [
            message_html(f"{found.usable} of {found.records} examples can be used. The recipe is filled in.", "note"),
            f'<pre class="report" tabindex="0">{escaped(text)}</pre>',
            gr.update(value=pictures, visible=presence(bool(pictures))),
            *[values[name] for name in _SETTINGS],
        ]

    def watched(name: str | None, request: gr.Request) -> list[Any]:
        """Returns what a run looks like now: progress, curves, buttons, timer, command."""
        if not name:
            return ["", "", *[gr.update(interactive=False)] * 3, gr.Timer(active=False)]
        try:
            status = trainer.status(visitor_of(request), name)
        except MmtuneError as error:
            return [said(error), "", *[gr.update(interactive=False)] * 3, gr.Timer(active=False)]
        running = status["state"] == "running"
        return [
            _progress_html(status, final_metrics(trainer.folder / name) if status["state"] == "done" else {}),
            _curves_html(trainer.folder / name),
            gr.update(interactive=running),
            gr.update(interactive=status["state"] in ("stopped", "failed")),
            gr.update(interactive=status["state"] == "done"),
            gr.Timer(active=running),
        ]

    def started(request: gr.Request, *values: Any) -> list[Any]:
        visitor = visitor_of(request)
        try:
            name = trainer.start(visitor, planned(visitor, *values))
        except MmtuneError as error:
            return [said(error), gr.skip(), gr.skip()]
        return [
            message_html(f"{name} is being trained.", "note"),
            gr.update(choices=_choices(trainer, visitor, name), value=name),
            gr.Timer(active=True),
        ]

    def stopped(name: str | None, request: gr.Request) -> list[Any]:
        try:
            trainer.stop(visitor_of(request), name or "")
        except MmtuneError as error:
            return [said(error), *watched(name, request)]
        return [
            message_html(f"{name} was stopped; it can be resumed from its last checkpoint.", "note"),
            *watched(name, request),
        ]

    def resumed(name: str | None, request: gr.Request) -> list[Any]:
        try:
            trainer.resume(visitor_of(request), name or "")
        except MmtuneError as error:
            return [said(error), *watched(name, request)]
        return [message_html(f"{name} goes on.", "note"), *watched(name, request)]

    def opened(name: str | None, request: gr.Request) -> list[Any]:
        """Adds the run's model to the first tab, beside its base, and turns to it."""
        try:
            visitor = visitor_of(request)
            label = shelf.open(visitor, str(trainer.ended(visitor, name or "")))
            model = shelf.get(visitor, label)
        except MmtuneError as error:
            return [said(error), *[gr.skip()] * (4 + len(first.asked_with))]
        setup, base = model.setup, shelf.name_of(model.base)
        seen = shelf.seen(visitor)
        pair = [one for one in (base, label) if one in seen]
        task = setup.task if setup is not None else "detection"
        classes = list(setup.classes) if setup is not None and task in WITH_CLASSES else None
        return [
            message_html(f"{label} was opened beside {base or trainer.names.hide(model.base)}.", "note"),
            gr.update(choices=list(seen), value=pair, visible=presence(True)),
            gr.update(value=task),
            gr.Tabs(selected="try"),
            gr.update(choices=list(seen)),
            *first.begun(task, pair, classes),
        ]

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    seen = [progress, curves, stop, resume, use, timer]
    files.upload(uploaded, files, [data, message], show_progress="minimal", api_visibility="private")
    check.click(
        checked,
        [task, data, model],
        [message, report, overlays, *settings],
        show_progress="minimal",
        api_visibility="private",
    )

    def cancelled(request: gr.Request) -> None:
        trainer.cancel_checks(visitor_of(request))

    cancel.click(cancelled, None, None, **quick)
    for part in about:
        part.change(shown_command, about, command, trigger_mode="always_last", **quick)
    start.click(started, about, [message, run, timer], **quick).then(watched, run, seen, **quick)
    run.change(watched, run, seen, **quick)
    timer.tick(watched, run, seen, **quick)
    stop.click(stopped, run, [message, *seen], **quick)
    resume.click(resumed, run, [message, *seen], **quick)
    page.load(loaded, None, [data, run, model, *seen], **quick)
    use.click(opened, run, [message, first.models, first.task, tabs, model, *first.asked_with], **quick)


def _choices(trainer: Trainer, visitor: str, name: str | None) -> list[str]:
    return list(dict.fromkeys((*([name] if name else []), *trainer.runs(visitor))))


def _progress_html(status: dict[str, Any], final: dict[str, float]) -> str:
    of = f" of {status['steps']}" if status["steps"] else ""
    loss = "" if status["loss"] is None else f" · loss {status['loss']:.4g}"
    lines = [f"<p><b>{escaped(status['run'])}</b>: {status['state']}, step {status['step']}{of}{loss}</p>"]
    if status["state"] == "running" and not status["step"]:
        lines.append("<p>It loads the model and compiles; the first steps take a moment.</p>")
    if status["message"]:
        lines.append(f'<pre class="report" tabindex="0">{escaped(status["message"])}</pre>')
    if final:
        items = "".join(f"<li>{escaped(name)} <b>{number(value)}</b></li>" for name, value in final.items())
        lines.append(f'<p>On what was held back:</p><ul class="scores">{items}</ul>')
    return "".join(lines)


def _curves_html(folder: Path) -> str:
    curves = read_curves(folder / LOG)
    names = metric_names(curves)
    chosen = [name for name in _headlines(folder) if name in names] or list(names[:1])
    last = max((line.x[-1] for line in curves.values()), default=1)
    charts = [
        line_chart(f"{name} {curves[name].y[-1]:.4g}", curves[name], across="step", x_range=(0, last))
        for name in ("loss", *chosen[:2])
        if name in curves
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _headlines(folder: Path) -> tuple[str, ...]:
    """Returns the metrics that are worth a curve, the task's own first."""
    from mmtune.recipe import read_recipe

    if not (folder / RECIPE).is_file():
        return ()
    return (task_class(read_recipe(folder / RECIPE, {}, []).task).headline, "AP50", "exact_match")
