"""The page and its server: layout, the folder it may show, limits, and how it starts and ends."""

import atexit
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from . import HOME
from .api import add_predict, add_training
from .asking import Answering
from .guard import Guard
from .host_check import HostCheck
from .limits import LIMITS, Limits
from .login_throttle import LoginThrottle
from .path_names import PathNames
from .serving import Batcher
from .shelf import Shelf, taught_task
from .theme import CSS, HEAD, THEME, presence
from .training import Trainer
from .try_tab import TryTab, build_try_tab
from .tune_tab import build_tune_tab
from .upload_quota import UploadQuota
from .visitors import VisitorCookie, visitor_of

SCENES = {"generated scenes, called by colour": "shapes:train?n=300&seed=7&labels=colour&max_objects=6"}
"""Data sets that are always there."""

_HOUR = 3600
_THREADS = 128


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server is run.

    Attributes:
        models: Names of models, the first is the default.
        host, port: Where it listens; port 0: any that is free.
        share: Whether a public address is asked of the framework's makers.
        public: Whether requests to any host name are answered.
        hosts: Host names that are answered besides those of this machine.
        frames: Origins whose pages may show this one in a frame.
        auth: Users and passwords; without any, everybody is let in.
        training: Whether the tab for fine-tuning is there.
        runs: Folder for runs and uploaded data.
        data: Data sets that are offered, addresses by name.
        limits: What is taken from visitors.
        delay: Longest time in seconds that a question waits for others.
        batch: Most questions that are decoded together.
        base: The model that runs and adapters among the models are put on; None: those that they name.
        force_base: Whether that may be another model than they were trained on.
    """

    models: tuple[str, ...] = ("tiny",)
    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    public: bool = False
    hosts: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    auth: tuple[tuple[str, str], ...] = ()
    training: bool = True
    runs: Path = Path("runs/demo")
    data: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = LIMITS
    delay: float = 0.02
    batch: int = 16
    base: str | None = None
    force_base: bool = False


class Server:
    """A page that is being served, until `close`.

    Args:
        settings: How.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.batcher = Batcher(waiting=settings.limits.waiting, delay=settings.delay, batch=settings.batch)
        self.names = PathNames()
        self.shelf = Shelf(settings.models, self.names, settings.base, settings.force_base)
        self.trainer = Trainer(
            settings.runs,
            {**settings.data, **SCENES},
            settings.limits,
            alone=not (settings.public or settings.share or settings.auth or settings.hosts),
            names=self.names,
        )
        self.answering = Answering(self.shelf, self.batcher, settings.limits, self.names)
        HOME.mkdir(mode=0o700, exist_ok=True)
        atexit.register(shutil.rmtree, HOME, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(dir=HOME, prefix="shown-"))
        # The model is loaded while the page is built and opened.
        self._loading = threading.Thread(target=self._load_first, daemon=True)
        self._loading.start()
        self._closing = threading.Event()
        threading.Thread(target=self._clean, daemon=True, name="mmtune-cleaning").start()
        self.page = build_page(self)
        self.url = self._launch()

    def ready(self) -> None:
        """Returns when the first model can be asked.

        Raises:
            ModelError: When it cannot be loaded.
        """
        self.shelf.get("", self.shelf.names[0])

    def wait(self) -> None:
        """Returns when the server ends or the user breaks it off."""
        self.page.block_thread()

    def close(self) -> None:
        """Ends the server, what is being trained, and the files that visitors left."""
        self._closing.set()
        self.trainer.close()
        self.page.close(verbose=False)
        self.batcher.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _load_first(self) -> None:
        try:
            self.shelf.get("", self.shelf.names[0])
        except Exception:  # whoever asks it first is told
            return

    def _clean(self) -> None:
        """Removes uploads by their age, and what was drawn of them, until the server ends."""
        while not self._closing.wait(_HOUR / 4):
            self.trainer.clean()
            oldest = time.time() - 2 * _HOUR
            for drawn in self.folder.iterdir():
                if drawn.is_dir() and drawn.stat().st_mtime < oldest:
                    shutil.rmtree(drawn, ignore_errors=True)

    def _launch(self) -> str:
        settings = self.settings
        self.page.queue(max_size=2 * settings.limits.waiting, api_open=False)
        _, local, shared = self.page.launch(
            server_name=settings.host,
            server_port=settings.port or _free_port(settings.host),
            share=settings.share,
            auth=list(settings.auth) or None,
            allowed_paths=[str(self.folder)],
            max_file_size=settings.limits.upload,
            max_threads=_THREADS,
            app_kwargs={"middleware": _middleware(settings), "docs_url": None, "redoc_url": None},
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            theme=THEME,
            css=CSS,
            head=HEAD,
            inbrowser=False,
            mcp_server=False,
            pwa=False,
            state_session_capacity=500,
        )
        return shared or local


def build_page(server: Server) -> gr.Blocks:
    """Returns the page of a server."""
    page = gr.Blocks(title="mmtune demo", analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, _HOUR))
    with page:
        gr.HTML(
            "<h1>mmtune</h1><p>Ask a vision-language model about a picture, and teach it your own.</p>",
            elem_classes="title",
        )
        with gr.Tabs(selected="try") as tabs:
            with gr.Tab("Try", id="try"):
                first = build_try_tab(server.answering, server.folder)
                _begin_as_taught(page, first, server.shelf, server.settings.limits.models)
            if server.settings.training:
                with gr.Tab("Fine-tune", id="tune"):
                    build_tune_tab(page, server.trainer, server.shelf, tabs, first, server.folder)
        add_predict(server.answering)
        if server.settings.training:
            add_training(server.answering, server.trainer)
    return page


def _begin_as_taught(page: gr.Blocks, first: TryTab, shelf: Shelf, most: int) -> None:
    """Lets the page begin with the visitor's models, and the task and classes that a run among them was taught."""

    def begun(request: gr.Request) -> list[Any]:
        seen = shelf.seen(visitor_of(request))
        names = list(seen[:most])
        models = gr.update(choices=list(seen), value=names, visible=presence(len(seen) > 1))
        taught = taught_task(map(shelf.place, names))
        if taught is None:
            return [models, *[gr.skip()] * (1 + len(first.asked_with))]
        task, classes = taught
        return [models, task, *first.begun(task, names, classes)]

    parts = [first.models, first.task, *first.asked_with]
    page.load(begun, None, parts, show_progress="hidden", api_visibility="private")


def _middleware(settings: Settings) -> list[Middleware]:
    """Returns what stands before every request, the outermost first."""
    own = [] if settings.host in ("0.0.0.0", "::") else [settings.host]
    return [
        Middleware(HostCheck, allowed=(*own, *settings.hosts), public=settings.public),
        Middleware(LoginThrottle),
        Middleware(VisitorCookie),
        Middleware(UploadQuota, limits=settings.limits),
        Middleware(Guard, limits=settings.limits, frames=settings.frames),
    ]


def serve(settings: Settings) -> Server:
    """Starts a server and returns it; the page can be opened at its `url`."""
    return Server(settings)


def _free_port(host: str) -> int:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
