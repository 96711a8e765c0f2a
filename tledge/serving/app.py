"""The application: what is asked for is checked, bounded and answered, each error in the contract's shape."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tledge import __version__
from tledge.errors import InputError
from tledge.runtime import Model, Prediction
from tledge.serving import bodies, live
from tledge.serving.admission import check
from tledge.serving.batches import Batcher, Inferred
from tledge.serving.hosts import is_loopback
from tledge.serving.limits import Limits, Refused
from tledge.serving.metrics import CONTENT_TYPE, Metrics
from tledge.serving.openapi import document


def application(model: Model, *, token: str | None = None, limits: Limits | None = None) -> Starlette:
    """Return the ASGI application of one model. With a `token` every request must bear it."""
    bounds = limits or Limits()

    def prepare(data: bytes) -> tuple[NDArray[Any], float]:
        began = time.perf_counter()
        check(data, bounds)
        return model.preprocess(data), time.perf_counter() - began

    def predict_all(tensors: Sequence[NDArray[Any]]) -> list[Inferred]:
        began = time.perf_counter()
        together = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        answers = model.answers(model.logits(together), [b""] * len(tensors))
        took = time.perf_counter() - began
        return [(answer, took) for answer in answers]

    # Images are decoded beside the inference of those before them; few at once, since one can take 150 MB.
    decoders = ThreadPoolExecutor(bounds.workers, "decode")
    most = model.session.at_once(bounds.batch)
    batcher = Batcher(predict_all, workers=bounds.workers, most=most, wait=bounds.wait)
    metrics = Metrics(model.variant, model.backend)
    inside = 0

    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        status = 500
        try:
            with metrics.inside.track_inprogress():
                response = await answered(request)
            status = response.status_code
        except Refused as refusal:
            status = refusal.status
            raise
        finally:
            metrics.count(status, time.perf_counter() - started)
        return response

    async def labelled(data: bytes) -> tuple[Prediction, float, float]:
        """Return the answer, and the seconds that decoding and inference took."""
        try:
            tensor, decoding = await asyncio.get_running_loop().run_in_executor(decoders, prepare, data)
        except InputError as error:
            return Prediction("", None, None, None, (), error.message), 0.0, 0.0
        answer, inference = await batcher.answer(tensor)
        return answer, decoding, inference

    async def answered(request: Request) -> Response:
        nonlocal inside
        _allow(request, token)
        if inside >= bounds.queue:
            raise Refused(429, "busy", "the queue is full", "Ask again after a second.")
        inside += 1
        begun = time.perf_counter()
        try:
            sent = await bodies.read(request, bounds)
            received = time.perf_counter()
            waiting = asyncio.gather(*(labelled(upload.data) for upload in sent))
            try:
                answers, decoding, inference = zip(
                    *await asyncio.wait_for(waiting, bounds.whole), strict=True
                )
            except asyncio.TimeoutError:
                raise Refused(504, "busy", f"no answer within {bounds.whole:g} s") from None
        finally:
            inside -= 1
        if answers[0].error is not None and not bodies.is_form(request):
            raise Refused(422, "input", answers[0].error, "Send the bytes of a JPEG or PNG file.")
        named = [replace(answer, file=upload.name) for upload, answer in zip(sent, answers, strict=True)]
        document = {
            "predictions": [answer.as_dict() for answer in named],
            "variant": model.variant,
            "backend": model.backend,
        }
        # W3C Server Timing, in milliseconds; of a form, what took longest. The rest is waiting for others.
        stages = {"receive": received - begun, "decode": max(decoding), "infer": max(inference)}
        stages["wait"] = max(0.0, time.perf_counter() - begun - sum(stages.values()))
        timing = ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in stages.items())
        return JSONResponse(document, headers={"Server-Timing": timing})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "variant": model.variant, "backend": model.backend})

    async def counted(request: Request) -> Response:
        _allow(request, token)
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def described(request: Request) -> Response:
        return JSONResponse(document(__version__, model.labels, token=token is not None))

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        decoders.shutdown(cancel_futures=True)

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route("/metrics", counted, methods=["GET"]),
            Route("/openapi.json", described, methods=["GET"]),
            *live.routes(),
        ],
        exception_handlers={Refused: _refused, HTTPException: _unknown, Exception: _fault},
        lifespan=life,
    )


def _allow(request: Request, token: str | None) -> None:
    if token is None:
        # A web page can give a name of its own this machine's address, and then ask as if it were from here.
        if not is_loopback(request.url.hostname):
            raise Refused(421, "usage", "without a token only this machine is answered", "Ask for 127.0.0.1.")
        return
    given = request.headers.get("authorization", "").encode("latin-1")  # the bytes as they came
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Refused(401, "usage", "the token is missing or wrong", "Send `Authorization: Bearer TOKEN`.")


def _error(status: int, kind: str, message: str, hint: str | None = None) -> JSONResponse:
    extra = {429: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status, {})
    body = {"error": {"kind": kind, "message": message, "hint": hint, "path": None}}
    return JSONResponse(body, status, headers=extra)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _error(error.status, error.kind, error.message, error.hint)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(
        error.status_code, "usage", error.detail, "POST /predict; GET /health, /metrics or /openapi.json."
    )


async def _fault(request: Request, error: Exception) -> Response:
    return _error(500, "internal", "a fault of tledge", "The server's log says more.")
