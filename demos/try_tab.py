"""The page's first tab: a picture, a prompt, and what one or several models answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mmtune.data.shape_kinds import KINDS
from mmtune.errors import MmtuneError
from mmtune.registry import task_class

from .asking import Answering, UploadedPicture
from .examples import Example, examples_of
from .limits import checked_share
from .prompts import (
    LANGUAGES,
    TASKS,
    WITH_CLASSES,
    WITH_LANGUAGE,
    WITH_QUESTION,
    build_prompt,
)
from .results import FORMS, Shown, copied_text, heading_html, message_html, tokens_html
from .serving import BusyError
from .theme import presence
from .visitors import visitor_of

FIRST_TASK = "detection"
THRESHOLD = 0.3

_LEGEND = (
    '<p class="legend"><span>confidence of a token, locations left out:</span>'
    '<span class="said level-0">below 30 %</span>'
    '<span class="said level-1">below 60 %</span><span class="said level-2">below 80 %</span>'
    '<span class="said level-3">below 95 %</span><span class="said level-4">above</span></p>'
)


@dataclass(frozen=True)
class Panel:
    """Where one model's answer stands; its style hides it while its heading is empty."""

    heading: gr.HTML
    picture: gr.Image
    written: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """Its components, in the order in which functions return them."""
        return [self.heading, self.picture, self.written]


@dataclass(frozen=True)
class TryTab:
    """What other parts of the page fill in.

    Attributes:
        models: The models to ask.
        task: The task.
        asked_with: All that a task shows, hides and begins with, in the order of what `begun` returns.
        begun: From a task, models and classes (None: those of its first example) to the values of `asked_with`.
    """

    models: gr.CheckboxGroup
    task: gr.Radio
    asked_with: list[Any]
    begun: Callable[[str, list[str], list[str] | None], list[Any]]


def build_try_tab(answering: Answering, folder: Path) -> TryTab:
    """Lays the tab out, inside a `gr.Blocks`.

    Args:
        answering: The models.
        folder: Where examples are drawn; the server may show its files.
    """
    examples = {task: examples_of(task, folder) for task in TASKS}
    names = answering.shelf.names
    first = examples[FIRST_TASK][0]
    shown: Any = gr.State((), time_to_live=3600)
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            task = gr.Radio([(title, name) for name, title in TASKS.items()], value=FIRST_TASK, label="Task")
            picture = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                value=str(first.picture),
                label="Picture",
                height=260,
                elem_id="picture",
                alt_text="the picture asked about",
            )
            pictures = gr.Dataset(
                components=[gr.Image(render=False, type="filepath")],
                samples=_samples(examples[FIRST_TASK]),
                type="index",
                label="Examples: generated scenes",
                layout="gallery",
                elem_id="examples",
            )
            texts = gr.Dataset(
                components=[gr.Textbox(render=False)],
                samples=[[example.question] for example in examples["instruct"]],
                type="index",
                label="Examples",
                visible=presence(False),
                elem_id="text-examples",
            )
            classes = gr.Dropdown(
                list(KINDS),
                value=list(first.classes),
                multiselect=True,
                allow_custom_value=True,
                label="Classes to look for (type others and press Enter)",
                elem_id="classes",
            )
            question = gr.Textbox(label="Question", visible=presence(False), elem_id="question")
            language = gr.Dropdown(
                list(LANGUAGES.items()), value="en", label="Language", visible=presence(False), elem_id="language"
            )
            prompt = gr.Textbox(
                value=build_prompt(FIRST_TASK, classes=first.classes),
                label="Prompt, as the model reads it (you may edit it)",
                lines=1,
                max_lines=6,
                max_length=answering.limits.prompt,
                elem_id="prompt",
            )
            models = gr.CheckboxGroup(
                list(names),
                value=list(names[: answering.limits.models]),
                label=f"Models, up to {answering.limits.models} side by side",
                visible=presence(len(names) > 1),
                elem_id="models",
            )
            with gr.Accordion("More", open=False):
                tokens = gr.Slider(
                    0, answering.limits.tokens, value=0, step=1, label="Most tokens (0: the task's choice)"
                )
            with gr.Row():
                run = gr.Button("Ask", variant="primary", elem_id="ask")
                stop = gr.Button("Stop", variant="secondary", elem_id="stop")
        with gr.Column(scale=7, min_width=300):
            message = gr.HTML(message_html("Choose a task and an example, then ask.", "note"), elem_id="message")
            with gr.Row():
                panels = [_panel(number) for number in range(answering.limits.models)]
            with gr.Column(elem_classes="results"):
                threshold = gr.Slider(
                    0, 1, value=THRESHOLD, step=0.01, label="Show what scores at least", elem_id="threshold"
                )
                gr.HTML(_LEGEND)
                form = gr.Radio(list(FORMS), value=FORMS[0], label="Copy as", elem_id="form")
                copied = gr.Textbox(
                    label="Answer", lines=4, max_lines=12, buttons=["copy"], interactive=False, elem_id="copied"
                )

    built = [task, classes, question, language, models]

    def rebuilt(task: str, classes: list[str], question: str, language: str, models: list[str]) -> tuple[Any, Any]:
        try:
            model = answering.shelf.loaded(models[0]) if models else None
            text = build_prompt(task, classes=classes or (), question=question or "", language=language, model=model)
        except MmtuneError as error:
            return gr.skip(), message_html(answering.names.hide(error))
        return text, message_html("")

    def begun(task: str, models: list[str], classes: list[str] | None = None) -> list[Any]:
        """Shows what a task needs, its first example and the prompt for it."""
        first = examples[task][0]
        classes = list(first.classes) if classes is None else classes
        sees = task_class(task).needs_picture
        prompt, told = rebuilt(task, classes, first.question, "en", models)
        return [
            gr.update(visible=presence(sees), value=str(first.picture) if sees else None),
            gr.update(visible=presence(sees), samples=_samples(examples[task if sees else FIRST_TASK])),
            gr.update(visible=presence(not sees)),
            gr.update(
                visible=presence(task in WITH_CLASSES), choices=list(dict.fromkeys((*classes, *KINDS))), value=classes
            ),
            gr.update(
                visible=presence(task in WITH_QUESTION), value=first.question, label="Question" if sees else "Text"
            ),
            gr.update(visible=presence(task in WITH_LANGUAGE), value="en"),
            gr.update(visible=presence(task in WITH_CLASSES)),
            prompt,
            told,
        ]

    def example(place: int, task: str, language: str, models: list[str]) -> list[Any]:
        found = examples[task][min(int(place), len(examples[task]) - 1)]
        classes = list(found.classes)
        picture = str(found.picture) if found.picture else None
        return [picture, classes, found.question, *rebuilt(task, classes, found.question, language, models)]

    def asked(
        request: gr.Request, task: Any, picture: Any, prompt: Any, models: Any, tokens: Any, threshold: Any, form: Any
    ) -> Iterator[list[Any]]:
        """Asks the models one after the other and streams what they write. Values come as the browser sent them."""
        done: list[Shown] = []
        share = THRESHOLD
        width = len(panels[0].parts)
        empty = [part for _ in panels for part in ("", None, "")]
        wanted = models if isinstance(models, list) and models else answering.shelf.names[:1]
        visitor = visitor_of(request)
        chosen = [name for name in answering.shelf.seen(visitor) if name in wanted][: len(panels)]
        form = form if form in FORMS else FORMS[0]
        yield [
            message_html(f"asking {', '.join(chosen)} …", "working"),
            (),
            "",
            *empty,
        ]
        for number, name in enumerate(chosen):
            quiet: list[Any] = [gr.skip()] * (width * len(panels))
            one = None
            try:
                share = checked_share(threshold, "threshold")
                for one in answering.stream(visitor, picture, task, prompt, name, tokens):
                    parts = list(quiet)
                    parts[width * number : width * (number + 1)] = [
                        heading_html(one),
                        one.saved(share) if one.done else gr.skip(),
                        tokens_html(one.answer.prediction),
                    ]
                    yield [*[gr.skip()] * 3, *parts]
            except MmtuneError as error:
                kind = "busy" if isinstance(error, BusyError) else "error"
                yield [
                    message_html(answering.names.hide(error), kind),
                    tuple(done),
                    copied_text(tuple(done), form),
                    *quiet,
                ]
                return
            assert one is not None
            done.append(one)
            yield [gr.skip(), tuple(done), copied_text(tuple(done), form, share), *quiet]
        yield [hidden_note(done, share) or scaled_note(done), *[gr.skip()] * (2 + width * len(panels))]

    def filtered(shown: tuple[Shown, ...], threshold: float, form: str) -> list[Any]:
        """Draws what is there anew; no model is asked."""
        try:
            share = checked_share(threshold, "threshold")
            pictures: list[Any] = [one.saved(share) if one.sees else gr.skip() for one in shown]
        except MmtuneError as error:
            return [*[gr.skip()] * (len(panels) + 1), message_html(str(error))]
        pictures += [gr.skip()] * (len(panels) - len(pictures))
        return [*pictures, copied_text(shown, form, share), hidden_note(shown, share)]

    def copied_anew(shown: tuple[Shown, ...], threshold: float, form: str) -> str:
        return copied_text(shown, form, threshold)

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # Only what a visitor does is listened to: values that functions set would be answered with prompts made of halves.
    asked_with = [picture, pictures, texts, classes, question, language, threshold, prompt, message]
    task.input(begun, [task, models], asked_with, **quick)
    for part in (question, language, models):
        part.input(rebuilt, built, [prompt, message], trigger_mode="always_last", **quick)
    # The framework tells of typed classes in this way only; where there are classes, no other part is in the prompt.
    classes.change(
        lambda task, *rest: rebuilt(task, *rest) if task in WITH_CLASSES else (gr.skip(), gr.skip()),
        built,
        [prompt, message],
        trigger_mode="always_last",
        **quick,
    )
    for dataset in (pictures, texts):
        dataset.click(
            example, [dataset, task, language, models], [picture, classes, question, prompt, message], **quick
        )
    outputs = [message, shown, copied, *[part for panel in panels for part in panel.parts]]
    running = gr.on(
        [run.click, prompt.submit, question.submit],
        asked,
        [task, picture, prompt, models, tokens, threshold, form],
        outputs,
        concurrency_limit=None,
        preprocess=False,  # pictures that cannot be decoded are ours to tell of
        **quick,
    )
    stop.click(lambda: message_html("stopped", "note"), None, message, cancels=[running], **quick)
    pictures_out = [panel.picture for panel in panels]
    threshold.change(
        filtered, [shown, threshold, form], [*pictures_out, copied, message], trigger_mode="always_last", **quick
    )
    form.change(copied_anew, [shown, threshold, form], copied, **quick)
    return TryTab(models, task, asked_with, begun)


def hidden_note(shown: Sequence[Shown], threshold: float) -> str:
    """Returns a note where all that a model found is hidden by the threshold; "" where something is shown."""
    for one in shown:
        found, kept = len(one.answer.boxes), len(one.above(threshold).boxes)
        if found and not kept:
            what, them = ("its object scores less", "it") if found == 1 else (f"its {found} objects score less", "them")
            return message_html(f"{one.model}: {what} than {threshold:g}; lower the threshold to see {them}", "note")
    return message_html("")


def scaled_note(shown: Sequence[Shown]) -> str:
    """Returns a note where the picture was too large to be asked about as it is, else ""."""
    pictures = [one.answer.record.picture for one in shown]
    notes = [picture.note for picture in pictures if isinstance(picture, UploadedPicture)]
    return message_html(notes[0], "note") if notes and notes[0] else message_html("")


def _panel(number: int) -> Panel:
    with gr.Column(min_width=260, elem_classes="answer"):
        heading = gr.HTML(elem_id=f"heading-{number}")
        picture = gr.Image(
            label="Drawn answer",
            interactive=False,
            format="png",
            buttons=["download", "fullscreen"],
            elem_id=f"drawn-{number}",
            elem_classes="drawn",
            alt_text="the picture with the answer drawn on it",
        )
        written = gr.HTML(elem_id=f"written-{number}")
    return Panel(heading, picture, written)


def _samples(examples: tuple[Example, ...]) -> list[list[str]]:
    return [[str(example.picture)] for example in examples]
