"""The options of subcommands that reach a server."""

from __future__ import annotations

from typing import Annotated

import typer

from forkpoint_clients.server_address import KEY_VARIABLE, SERVER_VARIABLE, api_url


def normalised(url: str | None) -> str | None:
    """The server's API as `api_url` completes it. For `callback` of an option."""
    return None if url is None else api_url(url)


Server = Annotated[
    str,
    typer.Option(
        "--server", metavar="URL", envvar=SERVER_VARIABLE, callback=normalised,
        help="the server, as in http://127.0.0.1:8000; /v1 is added",
    ),
]  # fmt: skip
MaybeServer = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", callback=normalised, help="the server to use, as in http://127.0.0.1:8000"),
]
Retries = Annotated[int, typer.Option("--retries", min=0, help="of one question, before the run stops")]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key", envvar=KEY_VARIABLE, show_default=False, help="the server's key; to change things, its admin key"
    ),
]
