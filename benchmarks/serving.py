"""`tledge serve` under 32 clients, beside a plain FastAPI application of the same network, in one run.

    python benchmarks/serving.py photos.tledge --environment build/serving [--clients 32] [--seconds 60]

Each client has one connection and asks again as soon as it is answered. The servers take turns of ten
seconds; each is asked for `--seconds` in all. Prints a Markdown table: requests by status, images a second,
processor time an image, P50 and P99 in ms, resident memory after the first turn and after the last, and how
many of the requests that were inside at SIGTERM were answered. The clients share the processor with the
servers. The peer's packages are installed on the first run in an environment of its own, which is used as it
is where it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tledge.bundle import Bundle

PACKAGES = "fastapi uvicorn onnxruntime pillow numpy".split()
TURN = 10.0
PLAIN = """
import io, sys
import numpy as np
import onnxruntime
import uvicorn
from fastapi import Body, FastAPI
from PIL import Image

graph, labels, resize, crop = sys.argv[1], open(sys.argv[2]).read().splitlines(), *map(int, sys.argv[3:])
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = FastAPI()


@app.post("/predict")
def predict(data: bytes = Body(media_type="image/jpeg")):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = resize / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = [(side - crop) // 2 for side in image.size]
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32)
    tensor = ((pixels - 127.5) / 127.5).transpose(2, 0, 1)[None]
    logits = session.run(None, {name: np.ascontiguousarray(tensor)})[0][0]
    return {"label": labels[int(logits.argmax())]}


uvicorn.run(app, port=0, access_log=False)
"""


@dataclass
class Server:
    """A server that runs, and what its clients saw."""

    name: str
    process: subprocess.Popen[str]
    port: int
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    times: list[float] = field(default_factory=list)
    cpu: float = 0.0  # seconds of processor time before the first turn
    memory: list[float] = field(default_factory=list)  # MiB, after each turn

    def processor(self) -> float:
        """Return the seconds of processor time that it took so far."""
        columns = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s*(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


def start(name: str, words: Sequence[str]) -> Server:
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = ""
    while not (found := re.search(r"running on http://[^ ]*:(\d+)", said, re.IGNORECASE)):
        line = process.stderr.readline()
        if not line:
            raise SystemExit(f"{name} did not start: {said}")
        said += line
    return Server(name, process, int(found[1]))


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, image: bytes) -> int:
        """Return the status of the answer; 0 where the connection ended without one."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(image)}\r\n"
            writer.write(f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + image)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: (\d+)", answer)
            assert length
            await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0
        if b"connection: close" in answer:
            self.close()
        return int(answer.split()[1])

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def turn(server: Server, images: Sequence[bytes], clients: int, seconds: float) -> None:
    """Let all clients ask for so long."""
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        client = Client(server.port)
        position = number
        while time.perf_counter() < until:
            begun = time.perf_counter()
            status = await client.ask(images[position % len(images)])
            server.statuses[status] += 1
            if status == 200:
                server.times.append(1000 * (time.perf_counter() - begun))
            else:
                await asyncio.sleep(0.05)
            position += clients
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    server.memory.append(server.resident())


async def stop(server: Server, images: Sequence[bytes], clients: int) -> tuple[int, int]:
    """Send SIGTERM while every client waits; return how many were answered, and the exit code."""
    asked = [asyncio.create_task(Client(server.port).ask(images[i % len(images)])) for i in range(clients)]
    await asyncio.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    statuses = await asyncio.gather(*asked)
    return len(statuses) - statuses.count(0), await asyncio.to_thread(server.process.wait, 60)


def plain(bundle: Bundle, environment: Path) -> list[str]:
    """Return the command of the application that a user would write."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    geometry = json.loads(bundle.read("preprocess.json"))["geometry"]
    sizes = [str(geometry["resize"]), str(geometry["size"][0])]
    return [str(python), "-c", PLAIN, str(bundle.file("fp32.onnx")), str(bundle.file("labels.txt")), *sizes]


async def measure(given: argparse.Namespace) -> None:
    bundle = Bundle.open(given.bundle)
    images = [bundle.read(one.file) for one in bundle.eval_images()][:200]
    serve = [sys.executable, "-m", "tledge", "serve", str(given.bundle), "--port", "0"]
    fp32 = ["--variant", "fp32", "--backend", "onnxruntime"]
    servers = [
        start("tledge serve", serve),
        start("tledge serve, fp32@onnxruntime", [*serve, *fp32]),
        start("the same, --queue 16", [*serve, *fp32, "--queue", "16"]),
        start("FastAPI + ONNX Runtime, fp32", plain(bundle, given.environment)),
    ]
    for server in servers:
        server.cpu = server.processor()
    for _ in range(max(1, round(given.seconds / TURN))):
        for server in servers:
            await turn(server, images, given.clients, min(TURN, given.seconds))
    columns = (
        "200 | 429 | other | images/s | CPU ms | P50 ms | P99 ms | MiB, first and last turn | at SIGTERM"
    )
    print(f"| | {columns} |")
    print("| --- |" + " --- |" * 9)
    for server in servers:
        done, busy = server.statuses[200], server.statuses[429]
        cost = 1000 * (server.processor() - server.cpu) / done
        inside, code = await stop(server, images, given.clients)
        p50, p99 = np.percentile(server.times, [50, 99])
        print(
            f"| {server.name} | {done} | {busy} | {server.statuses.total() - done - busy} "
            f"| {done / given.seconds:.0f} | {cost:.1f} | {p50:.0f} | {p99:.0f} "
            f"| {server.memory[0]:.0f}, {server.memory[-1]:.0f} "
            f"| {inside} of {given.clients} answered, exit code {code} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--environment", type=Path, default=Path("build/serving"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
