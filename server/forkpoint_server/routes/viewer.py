"""`/forkpoint`: the page that shows a model fork as it generates. It calls the same routes as any client."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parents[1] / "viewer"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Nothing from elsewhere, nothing inline, and no text of a model ever becomes part of the page's structure."""


def viewer_router() -> APIRouter:
    """The page and its files; they hold nothing to guard, so they need no key, unlike the routes they call."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=PAGE)

    async def answer(path: str, request: Request) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers.update(HEADERS)
        return response

    @router.get("/")
    async def redirect_root() -> Response:
        """The console."""
        return RedirectResponse("forkpoint")  # relative: the server may be behind a prefix

    @router.get("/forkpoint/")
    async def redirect_folder() -> Response:
        """The console."""
        return RedirectResponse("../forkpoint")

    @router.get("/forkpoint")
    async def show_page(request: Request) -> Response:
        """The viewer, a page."""
        return await answer("index.html", request)

    @router.get("/forkpoint/{path:path}")
    async def show_file(path: str, request: Request) -> Response:
        """One of the viewer's files."""
        return await answer(path, request)

    return router
