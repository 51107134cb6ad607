"""The pages do what they say: every command and Python block of docs/*.md and README.md runs on small generated data.

What happens to a fenced block depends on the words behind its fence:

- bash: each line that begins with `mmtune ` is run and must end with exit code 0;
- console: the same for lines that begin with `$ mmtune `. What follows is the output: each of its lines must be
  printed, "..." stands for anything. Where the output has a line that begins with "mmtune:", the exit code must be 2;
- python: is run; all blocks of a page share their names;
- a language and a file name (`toml recipe.toml`): the text is written to that file. A pyproject.toml is "installed":
  its entry points are found from then on;
- anything else (text, sh): is only read.

A page is run in a folder with `photos` and `runs/photos`, made by the first blocks of docs/data.md and
docs/training.md, less what the page makes itself, and a picture `cell.jpg`. Training is cut to 2 steps.
"""

import contextlib
import dataclasses
import importlib
import io
import itertools
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
STEPS = 2
_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """A fenced block: its language, the file that it is to be written to (or ""), and its text."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for head, text in _FENCE.findall(page.read_text()):
        language, _, file = head.strip().partition(" ")
        found.append(Block(language, file, text))
    return found


class Command(NamedTuple):
    """A command and the lines that it is shown to print."""

    words: list[str]
    printed: list[str]


def commands(block: Block) -> list[Command]:
    start = {"bash": "mmtune ", "console": "$ mmtune "}.get(block.language)
    if start is None or block.file:
        return []
    found: list[Command] = []
    ours = False
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith(start):
            found.append(Command(shlex.split(line.removeprefix("$ "), comments=True)[1:], []))
            ours = True
        elif line.startswith("$ "):
            ours = False
        elif ours and block.language == "console" and line.strip() not in ("", "..."):
            found[-1].printed.append(line)
    return found


def shortened(words: list[str]) -> list[str]:
    if words[0] != "train" or "--resume" in words:
        return words
    dense = ["dense.steps=1"] if any(word.startswith("dense.steps=") for word in words) else []
    return [*words, "--steps", str(STEPS), "--set", f"eval_every={STEPS}", f"save_every={STEPS}", *dense]


def made_by(words: list[str]) -> str | None:
    """Returns the file or folder that a command makes and that must not be there before it."""
    if words[:2] == ["data", "convert"]:
        return next(word for word in words[3:] if not word.startswith("-"))
    if words[0] == "train" and "--resume" not in words:
        return words[words.index("--out") + 1] if "--out" in words else "runs/run"
    return None


def run(command: Command) -> None:
    """Runs a command in this process and checks exit code and output."""
    from mmtune.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), pytest.raises(SystemExit) as left:
        main(shortened(command.words))
    said = out.getvalue()
    wanted = 2 if any(line.startswith("mmtune:") for line in command.printed) else 0
    assert (left.value.code or 0) == wanted, f"{command.words}: {said[-2000:]}"
    lines = {" ".join(line.split()) for line in said.splitlines()}
    for shown in command.printed:
        pattern = re.compile(".*".join(re.escape(part) for part in " ".join(shown.split()).split("...")))
        assert any(pattern.fullmatch(line) for line in lines), (
            f"{command.words} does not print {shown!r}: {said[-4000:]}"
        )


def install(pyproject: str, folder: Path) -> None:
    """Lays a project's entry points out as an installer would; its modules are those in the folder."""
    project = tomllib.loads(pyproject)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    importlib.invalidate_caches()


def run_page(page: Path, folder: Path) -> None:
    names: dict = {"__name__": page.stem}
    for number, block in enumerate(blocks(page), start=1):
        if block.file:
            file = folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
            if file.name == "pyproject.toml":
                install(block.text, folder)
        elif block.language == "python":
            code = re.sub(r"\bsteps=\d+", f"steps={STEPS}", block.text)
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        for command in commands(block):
            run(command)


@pytest.fixture(scope="module")
def quick(tmp_path_factory, quick_compiles) -> Iterator[None]:
    """A smaller embedded model (a layer where it has four), a smaller quickstart, and a terminal of fixed width.

    Pages run the same programs again and again: a folder keeps them.
    """
    del quick_compiles
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    import mmtune.cli.exercises as exercises
    import mmtune.models.load as load
    import mmtune.models.tiny as tiny

    changes = {  # name: (value here, JAX's default)
        "jax_compilation_cache_dir": (str(tmp_path_factory.mktemp("compiled")), None),
        "jax_persistent_cache_min_compile_time_secs": (0.0, 1.0),
        "jax_persistent_cache_min_entry_size_bytes": (-1, 0),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, (value, _) in changes.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        patch.setattr(tiny, "TINY", dataclasses.replace(tiny.TINY, num_layers=1, vision_layers=1))
        patch.setattr(load, "_tiny", tiny.build_tiny)
        for split in exercises.COUNTS:
            patch.setitem(exercises.COUNTS, split, 2)
        patch.setitem(exercises.SETTINGS, "steps", STEPS)
        patch.setitem(exercises.SETTINGS, "eval_every", STEPS)
        patch.setenv("COLUMNS", "120")
        yield
        for name, (_, default) in changes.items():
            jax.config.update(name, default)
        compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def world(quick, tmp_path_factory) -> Path:
    """The folder that pages start from."""
    del quick
    folder = tmp_path_factory.mktemp("world")
    making = [
        commands(next(block for block in blocks(DOCS / page) if commands(block))) for page in ("data.md", "training.md")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in itertools.chain(*making):
            run(command)
    Image.new("RGB", (64, 48), "pink").save(folder / "cell.jpg")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_runs(page, world, tmp_path, monkeypatch):
    folder = tmp_path / "page"
    shutil.copytree(world, folder)
    for block in blocks(page):
        for command in commands(block):
            made = made_by(command.words)
            place = folder / made if made is not None else None
            if place is not None and place.is_dir():
                shutil.rmtree(place)
            elif place is not None and place.is_file():
                place.unlink()
                shutil.rmtree(place.with_name(f"{place.stem}_images"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    try:
        run_page(page, folder)
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_links_and_pictures_are_there(page):
    for target in _LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def everything(page):
    """Returns the names that a page must not leave out."""
    from mmtune.data.augment import Augment
    from mmtune.data.convert import FORMATS
    from mmtune.data.read import reader_names
    from mmtune.metrics.caption import NAMES as CAPTION_NAMES
    from mmtune.metrics.caption_results import FORMATS as CAPTION_FORMATS
    from mmtune.metrics.coco import NAMES
    from mmtune.metrics.instruct import NAMES as INSTRUCT_NAMES
    from mmtune.metrics.instruct_results import FORMATS as INSTRUCT_FORMATS
    from mmtune.metrics.ocr import NAMES as OCR_NAMES
    from mmtune.metrics.ocr_result_files import FORMATS as OCR_FORMATS
    from mmtune.metrics.result_files import FORMS
    from mmtune.metrics.vqa import NAMES as VQA_NAMES
    from mmtune.metrics.vqa_results import FORMATS as VQA_FORMATS
    from mmtune.models.lora_config import LoRA
    from mmtune.tasks.captioning import CaptioningOptions
    from mmtune.tasks.detection import DetectionOptions
    from mmtune.tasks.instruct import InstructOptions
    from mmtune.tasks.ocr import OCROptions
    from mmtune.tasks.segmentation import SegmentationOptions
    from mmtune.tasks.vqa import VQAOptions
    from mmtune.training.log import COLUMNS

    def fields(cls):
        return [field.name for field in dataclasses.fields(cls)]

    return {
        "captioning.md": [*fields(CaptioningOptions), *CAPTION_NAMES, *CAPTION_FORMATS],
        "data.md": [*reader_names(), *FORMATS],
        "detection.md": [*fields(DetectionOptions), *fields(Augment), *NAMES, *FORMS],
        "instruct.md": [*fields(InstructOptions), *INSTRUCT_NAMES, *INSTRUCT_FORMATS],
        "lora.md": fields(LoRA),
        "ocr.md": [*fields(OCROptions), *OCR_NAMES, *OCR_FORMATS],
        "segmentation.md": [*fields(SegmentationOptions), *NAMES, "mIoU", "boxacc50", "boxacc75"],
        "training.md": COLUMNS,
        "vqa.md": [*fields(VQAOptions), *VQA_NAMES, *VQA_FORMATS],
    }[page]


@pytest.mark.parametrize(
    "page",
    [
        "captioning.md",
        "data.md",
        "detection.md",
        "instruct.md",
        "lora.md",
        "ocr.md",
        "segmentation.md",
        "training.md",
        "vqa.md",
    ],
)
def test_the_page_leaves_nothing_out(page):
    text = (DOCS / page).read_text()
    assert [name for name in everything(page) if not re.search(rf"\b{name}\b", text)] == []


def test_the_complete_recipe_has_every_key():
    """Keys whose default is None stand in comments, as TOML knows no None."""
    from mmtune.recipe import Recipe

    (recipe,) = [block.text for block in blocks(DOCS / "training.md") if block.file == "recipe.toml"]

    def keys(cls, table):
        for field in dataclasses.fields(cls):
            if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
                yield from keys(field.default_factory, field.name)
            else:
                yield table, field.name

    found, table = set(), ""
    for line in recipe.splitlines():
        if head := re.match(r"\[(\w+)\]", line):
            table = head[1]
        elif setting := re.match(r"(?:# )?(\w+) = ", line):
            found.add((table, setting[1]))
    assert set(keys(Recipe, "")) - {("", "options")} == {place for place in found if place[0] != "options"}
