"""Cameras that are not there: an RTSP server, a synthetic camera of libav, and children that are killed."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tledge
from tests.runtime import bundles
from tests.runtime.sources.test_reader import wait
from tledge.errors import InputError, MachineError
from tledge.runtime.sources import Colour, Stream, csi, reader, video
from tledge.runtime.sources.csi import Pipeline, colour_of, layout_of
from tledge.runtime.sources.raw import Layout, RawFrames
from tledge.runtime.sources.video import Video

pytest.importorskip("onnxruntime")
GREY = Colour(range="full")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tledge.load(bundles.make(tmp_path_factory.mktemp("live") / "tiny.tledge").path)


def usable(model) -> bool:
    return model.predict(bundles.pixels(1)).label in bundles.LABELS


def read(stream: Stream, match: str) -> list:
    """Return the answers of a stream that ends by a fault, and close it."""
    found = []
    with stream, pytest.raises(InputError, match=match):
        found.extend(iter(stream))
    return found


def test_an_rtsp_camera_that_is_gone(model):
    pytest.importorskip("av")
    from tests.runtime.sources.rtsp import Server

    with Server(frames=60, pause=0.005) as server:
        stream = model.stream(server.url)
        read(stream, r"live ended after \d+ frames: it was unplugged, or its server stopped")
    counts = stream.counts
    assert counts.read == counts.dropped + counts.done
    assert 10 < counts.read <= 60
    assert counts.done > 0
    assert usable(model)


def test_an_rtsp_camera_that_falls_silent(model, monkeypatch):
    pytest.importorskip("av")
    from tests.runtime.sources.rtsp import Server

    monkeypatch.setattr(video, "TIMEOUT", 0.5)
    with Server(frames=40, pause=0.005, silent=True) as server:
        # The server would close the connection after `SILENCE`, and then the stream would say that it ended.
        read(model.stream(server.url), r"live is gone after \d+ frames \(nothing came in time\)")
    assert usable(model)


def test_a_server_that_never_answers(model, monkeypatch):
    pytest.importorskip("av")
    import socket

    monkeypatch.setattr(video, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        read(model.stream(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"), "is no video that can be read")
    assert usable(model)


def test_a_camera_that_is_faster_than_the_network_is_never_queued(model):
    pytest.importorskip("av")
    camera = Video(
        "camera",
        "testsrc2=size=64x48:rate=500",
        live=True,
        container="lavfi",
        colour=Colour("bt601", "full", "left"),
    )
    numbers = []

    def slow(image):
        """Take as long as the camera does for five frames."""
        came = stream.counts.read
        wait(lambda: stream.counts.read >= came + 5)
        return model.predict(image)

    with Stream(camera, slow) as stream:
        for shot, answer in stream:
            assert answer.label in bundles.LABELS
            numbers.append(shot.number)
            if len(numbers) == 10:
                break
        counts = stream.counts
    assert numbers == sorted(set(numbers))
    assert counts.dropped >= numbers[-1] - 9
    assert counts.dropped > 20
    assert counts.read <= counts.dropped + counts.done + 2  # one waits, one is being left


def test_a_pipe_whose_writer_is_killed(model):
    code = "import os, time; os.write(1, bytes(3 * 480 + 99)); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pipe = io.FileIO(os.dup(child.stdout.fileno()))
    stream = model.stream(RawFrames("pipe", pipe, Layout("grey", 20, 24), GREY))
    with stream, child.stdout:
        assert [next(stream)[0].number for _ in range(3)] == [0, 1, 2]
        child.kill()
        child.wait()
        with pytest.raises(InputError, match="pipe ends within a frame: 99 of its 480 bytes came"):
            next(stream)
    assert usable(model)


def test_a_stream_of_a_program_is_left_at_once_though_its_camera_is_silent(model, monkeypatch):
    monkeypatch.setattr(reader, "STOPPING", 0.1)
    reading, writing = os.pipe()
    os.write(writing, bytes(480))
    with model.stream(RawFrames("pipe", io.FileIO(reading), Layout("grey", 20, 24), GREY)) as stream:
        next(stream)
    (left,) = (thread for thread in threading.enumerate() if thread.name == "tledge-source")
    os.close(writing)  # ends the thread that was left behind
    left.join()


FAKE = """#!{python}
import os, sys, time
words = sys.argv[1:]
assert words[0] == "-v" and words[-1] == "sync=false", words
fd = int(words[-2].removeprefix("fd="))
print("/GstPipeline:pipeline0/GstCapsFilter:f.GstPad:sink: caps = video/x-raw, format=(string)UYVY")
print("/GstPipeline:pipeline0/GstFdSink:fdsink0.GstPad:sink: caps = {caps}", flush=True)
for number in range({frames}):
    os.write(fd, bytes([number]) * {size})
{then}
"""
CAPS = (
    "video/x-raw, width=(int)6, height=(int)3, format=(string)NV12, framerate=(fraction)30/1, "
    "colorimetry=(string)bt709, chroma-site=(string)mpeg2"
)
SIZE = 8 * 4 + 8 * 2  # rows of 8 bytes, and a fourth row of padding under three


@pytest.fixture
def gstreamer(tmp_path, monkeypatch):
    """Return a function that puts a fake gst-launch-1.0 before all else on PATH."""

    def install(frames: int, then: str = "", caps: str = CAPS) -> None:
        program = tmp_path / csi.PROGRAM
        program.write_text(FAKE.format(python=sys.executable, frames=frames, size=SIZE, then=then, caps=caps))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def test_frames_of_gstreamer_lie_and_mean_what_its_caps_say(gstreamer):
    gstreamer(3)
    told: list[str] = []
    source = Pipeline("csi:0", ("camera",), note=told.append)
    shots = []
    with pytest.raises(InputError, match="csi:0 ended after 3 frames"):
        shots.extend(iter(source.shots()))
    frame = shots[2].image
    assert (frame.format, frame.width, frame.height) == ("nv12", 6, 3)
    assert (frame.matrix, frame.range, frame.siting) == ("bt709", "limited", "left")
    assert [plane.shape for plane in frame.planes] == [(3, 8), (2, 8)]
    assert all((plane == 2).all() for plane in frame.planes)
    assert told == ["csi:0: GStreamer, 6 x 3, nv12, bt709 (stream), limited (stream), left (stream)"]


def test_a_pipeline_that_is_killed_or_fails_says_why(gstreamer, model):
    gstreamer(2, 'sys.exit("ERROR: from element x: Camera disconnected.")')
    read(model.stream(Pipeline("csi:0", ())), "ended after 2 frames: ERROR: from element x: Camera disconn")
    gstreamer(0, """sys.exit('WARNING: erroneous pipeline: no element "nvarguscamerasrc"')""")
    with (
        model.stream("csi:0") as stream,
        pytest.raises(MachineError, match="element nvarguscamerasrc, which"),
    ):
        next(stream)
    gstreamer(1, "time.sleep(60)")
    pipeline = Pipeline("csi:0", ())
    with model.stream(pipeline) as stream:
        next(stream)
        os.kill(pipeline._started[0].pid, signal.SIGKILL)
        with pytest.raises(InputError, match="csi:0 ended after 1 frame"):
            next(stream)
    assert usable(model)


def test_a_pipeline_is_stopped_with_its_stream(gstreamer, model):
    gstreamer(1, "time.sleep(60)")
    pipeline = Pipeline("csi:0", ())
    with model.stream(pipeline) as stream:
        next(stream)
    assert pipeline._started[0].poll() is not None


def test_without_gstreamer_the_error_says_what_to_install(monkeypatch, model):
    monkeypatch.setenv("PATH", "/nowhere")
    with model.stream("csi:0") as stream, pytest.raises(MachineError, match=r"there is no gst-launch-1\.0"):
        next(stream)


@pytest.mark.parametrize(
    ("colorimetry", "siting", "known"),
    [
        ("bt601", "jpeg", Colour("bt601", "limited", "centre")),
        ("1:4:7:1", "cosited", Colour("bt601", "full", "top-left")),
        ("2:6:11:7", "mpeg2", Colour("bt2020", "limited", "left")),
        ("0:0:0:0", "dv", Colour()),
        ("2:5:6:4", "none", Colour(None, "limited", "centre")),
    ],
)
def test_colour_in_caps(colorimetry, siting, known):
    caps = f"video/x-raw, colorimetry=(string){colorimetry}, chroma-site=(string){siting}, width=(int)4"
    assert colour_of(caps) == known


def test_caps_that_the_kernels_do_not_take():
    with pytest.raises(InputError, match="csi:0 gives Y444, which the kernels do not take"):
        layout_of("video/x-raw, format=(string)Y444, width=(int)4, height=(int)4", "csi:0")


@pytest.mark.parametrize(("format", "height", "size"), [("NV12", 3, 48), ("I420", 2, 24), ("BGRx", 3, 72)])
def test_layouts_of_gstreamer(format, height, size):
    caps = f"video/x-raw, format=(string){format}, width=(int)6, height=(int){height}"
    layout = layout_of(caps, "x")
    assert layout.size == size
    data = np.arange(size, dtype=np.uint8)
    assert (
        sum(
            plane.size
            for plane in layout.frame(
                data, Colour("bt601", "full", "left") if format != "BGRx" else Colour()
            ).planes
        )
        <= size
    )


def test_the_real_gstreamer_where_it_is():
    if not any((Path(folder) / csi.PROGRAM).exists() for folder in os.environ["PATH"].split(":")):
        pytest.skip("no gst-launch-1.0 on this machine")
    caps = "video/x-raw,format=NV12,width=322,height=243,colorimetry=bt709,chroma-site=mpeg2"
    elements = f"videotestsrc num-buffers=4 ! {caps}"
    source = Pipeline("test", tuple(elements.split()))
    shots = []
    with pytest.raises(InputError, match="test ended after 4 frames"):
        shots.extend(iter(source.shots()))
    frame = shots[0].image
    assert (frame.format, frame.width, frame.height, frame.matrix) == ("nv12", 322, 243, "bt709")
    assert frame.planes[0][:, 0].max() - frame.planes[0][:, 0].min() > 50  # bars above, black below
