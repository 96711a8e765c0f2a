"""The body of a request: one image as it is, or a form with several, within bounds of size and time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from tledge.serving.limits import Limits, Refused

FORM = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """One image that was sent: its bytes, and the name that the client gave it ("" outside of a form)."""

    name: str
    data: bytes


def is_form(request: Request) -> bool:
    """Tell whether the body is a form, whose files are answered together."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == FORM


async def read(request: Request, bounds: Limits) -> list[Upload]:
    """Return the images of the whole body; what is too large is refused as soon as that is known.

    Raises:
        Refused: 400 (empty, stopped half-way, not the form it says), 408 (too slow), 413 (too large).
    """
    large = Refused(
        413, "input", f"the body is larger than {bounds.body / 2**20:g} MiB", "Send less at once."
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bounds.body:
        raise large
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > bounds.body:
            raise large
        return message

    bounded = Request(request.scope, receive)
    reading = _form(bounded, bounds) if is_form(request) else _single(bounded)
    try:
        return await asyncio.wait_for(reading, bounds.slow)
    except asyncio.TimeoutError:
        raise Refused(408, "input", f"the body did not arrive within {bounds.slow:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "input", "the body stopped half-way") from None


async def _single(request: Request) -> list[Upload]:
    data = await request.body()
    if not data:
        raise Refused(400, "input", "the body is empty", "Send the bytes of an image file.")
    return [Upload("", data)]


async def _form(request: Request, bounds: Limits) -> list[Upload]:
    hint = "Send each image as a part with a file name: curl -F images=@a.jpg -F images=@b.jpg."
    try:
        async with request.form(max_files=bounds.images, max_fields=0) as form:
            sent = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            uploads = [Upload(one.filename or "", await one.read()) for one in sent]
    except HTTPException as error:
        raise Refused(400, "input", f"the form cannot be read: {error.detail}", hint) from error
    if not uploads:
        raise Refused(400, "input", "the form holds no file", hint)
    return uploads
