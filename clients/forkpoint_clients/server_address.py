"""Where a server is: the default URL, the variables that name another one and its key, and URLs as users write them."""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8000/v1"
SERVER_VARIABLE = "FORKPOINT_SERVER"
KEY_VARIABLE = "FORKPOINT_API_KEY"


def api_url(url: str) -> str:
    """A server's API from what a user writes: with `http://`, and `/v1` where the URL has no path."""
    url = url if "://" in url else f"http://{url}"
    parts = urlsplit(url)
    return parts._replace(path="/v1").geturl() if parts.path in ("", "/") else url
