"""The options of subcommands that reach a server."""

from __future__ import annotations

from typing import Annotated

import typer

KEY = "FORKPOINT_API_KEY"
SERVER = "FORKPOINT_SERVER"

Server = Annotated[
    str, typer.Option("--server", metavar="URL", envvar=SERVER, help="the server's API, as in http://127.0.0.1:8000/v1")
]
MaybeServer = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="the server to use, as in http://127.0.0.1:8000/v1")
]
ApiKey = Annotated[
    str,
    typer.Option("--api-key", envvar=KEY, show_default=False, help="the server's key; to change things, its admin key"),
]
