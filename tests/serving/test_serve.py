"""The endpoint as a process, over a real socket."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime import bundles

for package in ("starlette", "uvicorn", "prometheus_client", "onnxruntime"):
    pytest.importorskip(package)


@contextmanager
def serving(bundle: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    words = [sys.executable, "-m", "tledge", "serve", str(bundle), "--port", "0", *flags]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = ""
        while not (found := re.search(r"running on http://[^ ]*:(\d+)", said, re.IGNORECASE)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make(tmp_path_factory.mktemp("serve") / "tiny.tledge").path


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with serving(bundle, "--backend", "onnxruntime", "--token", "secret", "--queue", "2") as (_, number):
        yield number


def image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def ask(
    port: int, body: bytes, path: str = "/predict", token: str = "secret", method: str = "POST"
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    result = answer.status, json.loads(answer.read())
    connection.close()
    return result


def begin(port: int, length: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\n"
    opened.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return opened


def test_an_image_is_labelled(port: int) -> None:
    status, said = ask(port, image())
    assert status == 200
    assert said["predictions"][0]["label"] in bundles.LABELS
    assert set(said["predictions"][0]) == {
        "file",
        "label",
        "index",
        "probability",
        "top",
        "error",
        "rejected",
    }
    assert ask(port, b"", "/health", method="GET")[0] == 200


def test_an_answer_says_where_its_time_went(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("POST", "/predict", image(), {"Authorization": "Bearer secret"})
    timing = connection.getresponse().getheader("Server-Timing") or ""
    took = 1000 * (time.perf_counter() - began)
    stages = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)}
    assert list(stages) == ["receive", "decode", "infer", "wait"]
    assert stages["decode"] > 0 < stages["infer"]
    assert sum(stages.values()) <= took
    connection.close()


@pytest.mark.parametrize(
    ("body", "token", "path", "status"),
    [
        (b"no image", "secret", "/predict", 422),
        (b"", "secret", "/predict", 400),
        (b"x", "wrong", "/predict", 401),
        (b"x", "secret", "/elsewhere", 404),
    ],
)
def test_errors_have_the_shape_of_the_contract(
    port: int, body: bytes, token: str, path: str, status: int
) -> None:
    answer = ask(port, body, path, token)
    assert answer[0] == status
    assert set(answer[1]["error"]) == {"kind", "message", "hint", "path"}


def test_a_large_body_is_refused_unread(port: int) -> None:
    with begin(port, 200 << 20) as opened:
        assert opened.recv(100).startswith(b"HTTP/1.1 413")


def test_a_full_queue_says_so_and_half_a_body_frees_its_place(port: int) -> None:
    halves = [begin(port, 100) for _ in range(2)]
    for half in halves:
        half.sendall(b"x")
    statuses = [ask(port, image())[0] for _ in range(20)]
    assert statuses[-1] == 429
    for half in halves:
        half.close()
    assert 200 in [ask(port, image())[0] for _ in range(50)]


def test_sigterm_finishes_what_was_taken(bundle: Path) -> None:
    with serving(bundle, "--backend", "onnxruntime") as (process, port):
        data = image()
        with begin(port, len(data)) as opened:
            opened.sendall(data[:10])
            assert ask(port, image())[0] == 200  # by now the first one has been taken
            process.send_signal(signal.SIGTERM)
            opened.sendall(data[10:])
            assert opened.recv(100).startswith(b"HTTP/1.1 200")
        assert process.wait(60) == 143


def read(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Authorization": "Bearer secret"})
    answer = connection.getresponse()
    result = answer.status, answer.read().decode()
    connection.close()
    return result


def counted(port: int, status: int) -> float:
    """Return how many requests /metrics says ended with a status."""
    said = read(port, "/metrics")[1]
    found = re.search(rf'^tledge_requests_total{{status="{status}"}} (\S+)$', said, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_requests_by_status(port: int) -> None:
    before = {status: counted(port, status) for status in (200, 401, 422)}
    ask(port, image())
    ask(port, b"no image")
    ask(port, b"x", token="wrong")
    assert {status: counted(port, status) - past for status, past in before.items()} == {
        200: 1,
        401: 1,
        422: 1,
    }
    assert "tledge_requests_inside 0.0" in read(port, "/metrics")[1]
    assert ask(port, b"", "/metrics", token="wrong", method="GET")[0] == 401


def test_the_description_holds_what_is_answered(port: int) -> None:
    described = json.loads(read(port, "/openapi.json")[1])
    responses = described["paths"]["/predict"]["post"]["responses"]
    schema = responses["200"]["content"]["application/json"]["schema"]
    _, said = ask(port, image())
    assert set(schema["required"]) == set(said)
    one = schema["properties"]["predictions"]["items"]
    assert set(one["required"]) == set(said["predictions"][0])
    assert one["properties"]["label"]["enum"] == [*bundles.LABELS, None]
    assert described["paths"]["/predict"]["post"]["security"]


def test_without_a_token_another_name_of_this_machine_is_refused(bundle: Path) -> None:
    with serving(bundle, "--backend", "onnxruntime") as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/predict", image(), {"Host": "photos.example"})
        assert connection.getresponse().status == 421
        connection.close()
        assert ask(port, image())[0] == 200


def test_another_host_needs_a_token(bundle: Path) -> None:
    words = [sys.executable, "-m", "tledge", "serve", str(bundle), "--host", "0.0.0.0"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 2
