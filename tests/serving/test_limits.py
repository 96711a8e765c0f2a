"""Bounds of size and time, on a server in this process: its model is slow on request."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from tests.serving.test_serve import image  # noqa: E402
from tledge.runtime import Prediction  # noqa: E402
from tledge.serving import Limits, application  # noqa: E402

SIZES = Limits(body=4000, images=3, pixels=10_000, scanned=50_000)
TIMES = Limits(slow=0.3, whole=1.0)
ended = threading.Event()  # of what is slow


def preprocess(data: bytes) -> Any:
    """Return a tensor that holds the size of the file; one that ends in "slow" waits for `ended`."""
    if data.endswith(b"slow"):
        ended.wait()
    return np.array([len(data)])


def answers(logits: Any, images: Sequence[bytes]) -> list[Prediction]:
    return [Prediction("", "a", int(size), 1.0, ()) for size in logits]


@contextmanager
def running(limits: Limits, logits: Callable[[Any], Any] = lambda tensor: tensor) -> Iterator[int]:
    model: Any = SimpleNamespace(
        variant="fp32",
        backend="onnxruntime",
        labels=("a",),
        session=SimpleNamespace(threads=1, at_once=lambda wanted: wanted),
        preprocess=preprocess,
        logits=logits,
        answers=answers,
    )
    server = uvicorn.Server(uvicorn.Config(application(model, limits=limits), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(SIZES) as number:
        yield number


def post(port: int, body: Any, **headers: str) -> tuple[int, Any]:
    """Return status and document; an iterable body is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    chunked = not isinstance(body, bytes)
    connection.request("POST", "/predict", body, headers, encode_chunked=chunked)
    said = connection.getresponse()
    result = said.status, json.loads(said.read())
    connection.close()
    return result


def form(files: dict[str, bytes], **fields: str) -> tuple[bytes, str]:
    """Return a form's body and its content type."""
    head = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    parts = [f"{head.format(name, '')}{value}\r\n".encode() for name, value in fields.items()]
    for name, data in files.items():
        parts.append(head.format("images", f'; filename="{name}"').encode() + data + b"\r\n")
    return b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b"


def send(port: int, files: dict[str, bytes], **fields: str) -> tuple[int, Any]:
    body, kind = form(files, **fields)
    return post(port, body, **{"Content-Type": kind})


def test_a_form_is_answered_image_by_image_in_order(port: int) -> None:
    good = image()
    hostile = "<script>.png"
    status, said = send(port, {"one.png": good, hostile: b"no image", "three.png": good + b"longer"})
    assert status == 200
    assert [(one["file"], one["index"]) for one in said["predictions"]] == [
        ("one.png", len(good)),
        (hostile, None),
        ("three.png", len(good) + 6),
    ]
    assert "not an image" in said["predictions"][1]["error"]


def test_a_form_that_cannot_be_answered_is_refused(port: int) -> None:
    assert send(port, {})[0] == 400
    assert send(port, {"a.png": image()}, note="text")[0] == 400
    assert send(port, {f"{i}.png": image() for i in range(4)})[0] == 400
    assert send(port, {"a.png": bytes(5000)})[0] == 413
    assert post(port, b"--b\r\nrubbish", **{"Content-Type": "multipart/form-data; boundary=b"})[0] == 400
    assert post(port, b"x", **{"Content-Type": "multipart/form-data"})[0] == 400


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(port: int) -> None:
    assert post(port, iter([image()]))[0] == 200
    status, said = post(port, iter([bytes(1000)] * 5))
    assert (status, said["error"]["kind"]) == (413, "input")


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    with running(TIMES) as number:
        yield number


def test_a_body_that_does_not_arrive_frees_its_place_and_says_so(impatient: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", impatient, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"half of it")
    assert connection.getresponse().status == 408
    connection.close()


def test_an_answer_that_takes_too_long_is_given_up(impatient: int) -> None:
    ended.clear()
    status, said = post(impatient, image() + b"slow")
    assert (status, said["error"]["kind"]) == (504, "busy")
    ended.set()
    # One of several: on a machine that is held up, others may take too long as well.
    assert any(post(impatient, image())[0] == 200 for _ in range(20))


def test_workers_answer_at_once() -> None:
    both = threading.Barrier(2)

    def wait_for_the_other(tensor: Any) -> Any:
        both.wait(timeout=60)
        return tensor

    with running(Limits(workers=2, batch=1), wait_for_the_other) as port:
        statuses: list[int] = []
        asking = [threading.Thread(target=lambda: statuses.append(post(port, image())[0])) for _ in range(2)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
    assert statuses == [200, 200]


def encoded(width: int, height: int, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, kind, **how)
    return file.getvalue()


def test_what_would_take_long_to_decode_is_refused_by_its_header(port: int) -> None:
    assert post(port, encoded(100, 100, "PNG"))[0] == 200
    status, said = post(port, encoded(101, 100, "PNG"))
    assert status == 422
    assert "101 x 100" in said["error"]["message"]
    assert post(port, encoded(100, 100, "JPEG"))[0] == 200
    status, said = post(port, encoded(100, 100, "JPEG", progressive=True))
    assert status == 422
    assert "scans" in said["error"]["message"]
