"""The live page: three files of the package, under a policy that lets them load nothing else."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

# Nothing from elsewhere and nothing inline; the image chosen is a blob, the empty icon a data address.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob: data:; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def routes() -> list[BaseRoute]:
    """Return the routes of the page: no secret is in it, and what it asks of /predict needs the token."""
    folder = files("tledge.serving") / "static"
    return [
        _static(path, (folder / name).read_bytes(), TYPES[name.split(".")[1]]) for path, name in FILES.items()
    ]


def _static(path: str, content: bytes, kind: str) -> Route:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return Route(path, answer, methods=["GET"])
