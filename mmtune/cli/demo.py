"""`mmtune demo`."""

import ipaddress
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
    auth: Annotated[str | None, typer.Option(help="Who may come in, as USER:PASSWORD.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="A data set that the page offers for fine-tuning.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder for runs and uploaded data sets.")] = Path("runs/demo"),
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Try and fine-tune models in a page; it needs no network."""
    if (share or not _is_local(host)) and not public:
        what = "--share" if share else f"--host {host}"
        raise UsageError(f"{what} lets other machines reach the page, and what it can do: add --public if you mean it")
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise UsageError("--auth: expected USER:PASSWORD")
    names = tuple(model or ("tiny",))
    _check_port(host, port)

    from mmtune.demos.app import Settings, serve  # pyright: ignore[reportMissingImports]

    server = serve(
        Settings(
            models=names,
            host=host,
            port=port,
            share=share,
            auth=(user, password) if auth is not None else None,
            training=not public or auth is not None,
            runs=runs,
            data={address: address for address in data or ()},
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
