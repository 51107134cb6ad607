"""`mmtune demo`."""

import ipaddress
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase
from mmtune.errors import UsageError


def demo(
    model: Annotated[
        list[str] | None, typer.Argument(help="Models, the first is the default.  [default: tiny]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need --public.")
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option("--share", help="Ask for a public address in the internet; needs --public.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Let other machines in. Without --auth nobody can train then.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name by which the page is reached, such as that of a proxy.")
    ] = None,
    allow_frame: Annotated[
        list[str] | None, typer.Option(help="An origin (https://example.org) whose pages may show this one in a frame.")
    ] = None,
    auth: Annotated[
        str | None, typer.Option(help="Who may come in, as USER:PASSWORD.", envvar="MMTUNE_AUTH", show_envvar=True)
    ] = None,
    auth_file: Annotated[Path | None, typer.Option(help="A file with USER:PASSWORD lines.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="A data set that the page offers for fine-tuning.")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Most pixels of a picture.")] = 100_000_000,
    runs: Annotated[Path, typer.Option(help="Folder for runs and uploaded data sets.")] = Path("runs/demo"),
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Try and fine-tune models in a page; it needs no network."""
    if (share or not _is_local(host)) and not public:
        what = "--share" if share else f"--host {host}"
        raise UsageError(f"{what} lets other machines reach the page, and what it can do: add --public if you mean it")
    users = _users(auth, auth_file)
    from mmtune.demos.guard import page_headers  # pyright: ignore[reportMissingImports]
    from mmtune.demos.host_check import checked_host  # pyright: ignore[reportMissingImports]

    hosts, frames = tuple(map(checked_host, allow_host or ())), tuple(allow_frame or ())
    page_headers(frames)  # refuses what is no origin
    names = tuple(model or ("tiny",))
    _check_port(host, port)

    # The page and the run that it trains share an accelerator: neither may take its memory before it needs it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from mmtune.models.load import check_name

    for name in names:
        check_name(name)

    from mmtune.demos.app import Settings, serve  # pyright: ignore[reportMissingImports]
    from mmtune.demos.limits import Limits  # pyright: ignore[reportMissingImports]
    from mmtune.demos.path_names import offered  # pyright: ignore[reportMissingImports]

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(number, _end)
    server = serve(
        Settings(
            models=names,
            host=host,
            port=port,
            share=share,
            public=public,
            hosts=hosts,
            frames=frames,
            auth=users,
            training=not public or bool(users),
            runs=runs,
            limits=Limits(most_pixels=max_pixels, pixels=min(max_pixels, Limits.pixels)),
            data=offered(data or ()),
            base=base,
            force_base=force_base,
        )
    )
    try:
        server.ready()
        typer.echo(f"{', '.join(names)}: open {server.url} (Ctrl+C ends it)")
        server.wait()
    finally:
        server.close()


def _end(number: int, frame: object) -> None:
    """Ends the command as Ctrl+C does: what is being trained is stopped and kept."""
    del frame
    for again in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _users(auth: str | None, file: Path | None) -> tuple[tuple[str, str], ...]:
    """Returns the users and passwords of `--auth` and of a file.

    Raises:
        UsageError: When the file cannot be read, or a line is none of USER:PASSWORD.
    """
    lines = [] if auth is None else [("--auth", auth)]
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--auth-file {file}: expected USER:PASSWORD lines, but it cannot be read") from error
        found = [(f"--auth-file {file}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
        lines += [(place, line.strip()) for place, line in found if line.strip()]
    users = []
    for place, line in lines:
        user, colon, password = line.partition(":")
        if not (user and colon and password):
            raise UsageError(f"{place}: expected USER:PASSWORD")
        users.append((user, password))
    if file is not None and not users:
        raise UsageError(f"--auth-file {file}: expected USER:PASSWORD lines, found none")
    return tuple(users)


def _is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_port(host: str, port: int) -> None:
    """Refuses a port before anything heavy is loaded.

    Raises:
        UsageError: When the address is none of this machine's, or the port is taken.
    """
    import socket

    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port") from error
