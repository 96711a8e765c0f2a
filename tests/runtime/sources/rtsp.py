"""The least of an RTSP server (RFC 2326, 6184): one client, H.264, RTP over the same TCP connection."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time

import av

from tests.runtime.sources import videos

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track0
""".replace("\n", "\r\n")


SILENCE = 30.0  # seconds; beyond any time-out of a test's client


class Server:
    """Sends `frames`, one each `pause` seconds, and is then gone or (`silent`) says nothing more."""

    def __init__(self, frames: int, pause: float = 0.0, silent: bool = False) -> None:
        self._packets = _encoded(frames)
        self._pause, self._silent = pause, silent
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._done = threading.Event()
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/live"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        client, _ = self._socket.accept()
        with client, client.makefile("rb") as lines:
            while not self._answer(client, lines):
                pass
            try:
                self._send(client)
            except OSError:  # the client has what it wants
                return
            if self._silent:
                self._done.wait(SILENCE)

    def _answer(self, client: socket.socket, lines) -> bool:
        """Answer one request; say whether it was the one to play."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += lines.readline()
        method = head.split(b" ")[0].decode()
        sequence = re.search(rb"CSeq: (\d+)", head)[1].decode()
        more = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
            "PLAY": "Session: 1\r\n",
        }
        body = SDP if method == "DESCRIBE" else ""
        answer = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{more.get(method, '')}"
        if body:
            answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        client.sendall(f"{answer}\r\n{body}".encode())
        return method == "PLAY"

    def _send(self, client: socket.socket) -> None:
        sequence = 0
        for number, units in enumerate(self._packets):
            for unit in units:
                last = unit is units[-1]
                header = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence, 3600 * number, 1)
                client.sendall(b"$\0" + struct.pack(">H", 12 + len(unit)) + header + unit)
                sequence += 1
            time.sleep(self._pause)


def _encoded(frames: int) -> list[list[bytes]]:
    """Return the NAL units of each frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.framerate = 25
    encoder.colorspace, encoder.color_range = 1, 1
    encoder.options = {"tune": "zerolatency", "g": "5", "x264-params": "repeat-headers=1"}
    packets = []
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(videos.picture(number % 40, 64, 48), format="rgb24")
        packets += encoder.encode(frame.reformat(format="yuv420p"))
    packets += encoder.encode()
    return [[unit for unit in re.split(rb"\x00?\x00\x00\x01", bytes(packet)) if unit] for packet in packets]
