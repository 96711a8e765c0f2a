from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tledge.errors import InputError, MachineError
from tledge.preprocess import Crop, Spec, preprocessor
from tledge.preprocess.frames import Frame, plane_shapes
from tledge.runtime.sources import Colour, open_camera, open_source, open_video
from tledge.runtime.sources.video import Video, seconds_of

av = pytest.importorskip("av")
from tests.runtime.sources import videos  # noqa: E402

BT709 = Colour("bt709", "limited", "left")


def shots(path: Path, colour: Colour = Colour(), **more) -> list:  # noqa: B008
    return list(Video(str(path), str(path), colour=colour, **more).shots())


def packed(frame, format: str) -> bytes:
    """Return libav's frame as a copy of its planes, without gaps."""
    rows = []
    for plane, (height, width) in zip(
        frame.planes, plane_shapes(format, frame.width, frame.height), strict=True
    ):
        data = bytes(plane)
        rows += [data[row * plane.line_size :][:width] for row in range(height)]
    return b"".join(rows)


def until_fault(source, match: str) -> tuple[list, InputError]:
    """Return the frames before a fault, and the fault."""
    found = []

    def read() -> None:
        found.extend(iter(source.shots()))

    with pytest.raises(InputError, match=match) as caught:
        read()
    return found, caught.value


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "format"),
    [
        ("a.mp4", "libx264", "yuv420p", "i420"),
        ("a.mkv", "libx264", "nv12", "i420"),
        ("a.avi", "mpeg4", "yuv420p", "i420"),
        ("a.mkv", "ffv1", "yuv420p", "i420"),
        ("a.mkv", "ffv1", "bgr0", "bgrx"),
        ("a.mkv", "rawvideo", "nv12", "nv12"),
        ("a.avi", "rawvideo", "yuyv422", "yuyv"),
        ("a.avi", "rawvideo", "uyvy422", "uyvy"),
    ],
)
@pytest.mark.parametrize("size", [(64, 48), (322, 182)])
def test_a_frame_goes_to_the_kernels_as_it_was_decoded(tmp_path, name, codec, pixels, format, size):
    path = videos.encode(tmp_path / name, codec, pixels, frames=5, size=size)
    to_tensor = preprocessor(Spec(geometry=Crop(resize=40, size=(32, 32))))
    found = shots(path, BT709)
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    assert [shot.number for shot in found] == [0, 1, 2, 3, 4]
    for shot, frame in zip(found, decoded, strict=True):
        assert isinstance(shot.image, Frame)
        assert shot.image.format == format
        assert not any(plane.flags.owndata for plane in shot.image.planes)
        assert shot.seconds == frame.time
        meaning = {} if format == "bgrx" else {"matrix": "bt709", "range": "limited", "siting": "left"}
        known = Frame.packed(packed(frame, format), format, *size, **meaning)
        assert np.array_equal(to_tensor(shot.image), to_tensor(known))


def test_frames_outlive_their_container(tmp_path):
    path = videos.encode(tmp_path / "a.mp4", frames=8)
    to_tensor = preprocessor(Spec())
    early = [to_tensor(shot.image) for shot in Video("a", str(path)).shots()]
    assert [to_tensor(shot.image).tobytes() for shot in shots(path)] == [one.tobytes() for one in early]


def test_the_packets_of_motion_jpeg_are_the_images(tmp_path):
    path = videos.encode(tmp_path / "a.avi", "mjpeg", "yuvj422p", frames=3, matrix=2, range=2)
    found = shots(path)
    assert [shot.image[:2] + shot.image[-2:] for shot in found] == [b"\xff\xd8\xff\xd9"] * 3


@pytest.mark.parametrize(("matrix", "range"), [(1, 1), (5, 2), (6, 1), (9, 2)])
def test_matrix_and_range_are_read_from_the_stream(tmp_path, matrix, range):
    path = videos.encode(tmp_path / "a.mp4", matrix=matrix, range=range)
    frame = shots(path)[0].image
    known = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}[matrix]
    assert (frame.matrix, frame.range, frame.siting) == (known, {1: "limited", 2: "full"}[range], "left")
    stated = shots(path, Colour("bt709", "full", "centre"))[0].image
    assert (stated.matrix, stated.range, stated.siting) == ("bt709", "full", "centre")


def test_a_matrix_that_nobody_says_is_asked_for(tmp_path):
    path = videos.encode(tmp_path / "a.mp4", matrix=2, range=0)
    with pytest.raises(InputError, match="does not say the matrix of its i420 frames") as caught:
        shots(path)
    assert caught.value.hint.startswith("State what holds for it: --matrix bt709 or bt601 (")
    assert shots(path, Colour(matrix="bt601"))[0].image.matrix == "bt601"
    path = videos.encode(tmp_path / "a.mkv", "rawvideo", "nv12", matrix=2, range=0)
    with pytest.raises(InputError, match="does not say the matrix and range and siting of its nv12 frames"):
        shots(path)


def test_a_matrix_that_the_kernels_do_not_know_is_refused(tmp_path):
    path = videos.encode(tmp_path / "a.mp4", matrix=7)
    with pytest.raises(InputError, match=r"a matrix that the kernels do not know \(number 7 of H.273\)"):
        shots(path)


@pytest.mark.parametrize(
    ("codec", "pixels"), [("libx264", "yuv422p"), ("ffv1", "yuv420p10le"), ("libx264", "yuv444p")]
)
def test_a_pixel_format_that_the_kernels_do_not_take_is_named(tmp_path, codec, pixels):
    path = videos.encode(tmp_path / "a.mkv", codec, pixels)
    with pytest.raises(InputError, match=f"has frames of {pixels}, a pixel format") as caught:
        shots(path)
    assert "-pix_fmt yuv420p" in caught.value.hint


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_answered_upright(tmp_path, degrees):
    file = videos.encode(tmp_path / "flat.mp4", size=(64, 48))
    flat, turned = shots(file), shots(videos.turned(file, degrees, tmp_path / "turned.mp4"))
    whole = preprocessor(Spec(geometry=Crop(resize=(48, 64), size=(48, 64))))
    for one, other in zip(flat, turned, strict=True):
        assert np.array_equal(other.image, np.rot90(whole.pixels(one.image), degrees // 90))


def test_a_change_of_size_is_followed_and_told(tmp_path):
    parts = b"".join(
        videos.encode(tmp_path / f"{width}.h264", size=(width, 48), frames=3).read_bytes()
        for width in (64, 96)
    )
    told: list[str] = []
    source = Video("two", io.BytesIO(parts), note=told.append)
    assert [shot.image.width for shot in source.shots()] == [64] * 3 + [96] * 3
    assert told == [
        "two: h264, 64 x 48, i420, bt709 (stream), limited (stream), left (standard)",
        "two: from frame 3 on 96 x 48",
    ]


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_video_that_was_cut_off_is_answered_up_to_there(tmp_path, name, share):
    start = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = videos.encode(tmp_path / name, frames=100, options={"g": "10"}, container=start)
    path = tmp_path / f"cut-{name}"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    found, fault = until_fault(Video("cut", str(path)), r"it was cut off|cannot be read on after")
    assert 15 < len(found) < 100
    assert "The frames before were answered." in fault.hint


def test_damaged_frames_have_no_answer_until_the_next_whole_one(tmp_path):
    path = videos.encode(tmp_path / "a.mkv", frames=60, size=(128, 96), options={"g": "12", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        hurt = [packet for packet in container.demux(video=0) if packet.dts is not None][30]
    data[hurt.pos + hurt.size // 3 : hurt.pos + hurt.size] = bytes(hurt.size - hurt.size // 3)
    path.write_bytes(data)
    found = shots(path)
    assert [shot.number for shot in found] == list(range(60))
    assert [shot.number for shot in found if shot.error] == list(range(30, 36))
    assert found[30].error.endswith("frame 30 is damaged")
    assert found[30].image is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is no video"), (b"this is text, no video\n" * 50, "is no video"), (None, "there is no")],
)
def test_what_is_no_video_is_said_to_be_none(tmp_path, content, message):
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        shots(path)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(InputError, match="has no video stream"):
        shots(path)


def test_a_device_that_is_missing_or_no_camera(tmp_path):
    with pytest.raises(InputError, match="there is no /dev/video97"):
        list(open_camera("97").shots())
    with pytest.raises(InputError, match="/dev/null is no camera"):
        list(open_camera("/dev/null").shots())


def test_a_live_source_that_ends_was_unplugged(tmp_path):
    path = videos.encode(tmp_path / "a.mp4", frames=4)
    source = Video("camera", str(path), live=True)
    found, _ = until_fault(source, "camera ended after 4 frames: it was unplugged")
    assert len(found) == 4


def test_a_server_that_cannot_be_reached(monkeypatch):
    with pytest.raises(InputError, match="cannot be reached") as caught:
        list(open_video("rtsp://me:secret@127.0.0.1:1/x").shots())
    assert "secret" not in str(caught.value)


def test_a_word_is_the_source_that_it_looks_like(tmp_path):
    (tmp_path / "x.png").touch()
    assert open_source(str(tmp_path)).images == [tmp_path / "x.png"]
    assert open_source(tmp_path / "rose.JPG").images == [tmp_path / "rose.JPG"]
    assert not open_source("clip.mp4").live
    assert not open_source("http://host/clip.mp4").live
    assert open_source("rtsp://host/x").live
    assert open_source("/dev/video3").container == "v4l2"
    assert open_source("csi:1").name == "csi:1"
    assert open_source(iter([b""]), live=True).live


def test_durations_of_matroska():
    assert seconds_of("01:02:03.500000000") == 3723.5


def test_without_pyav_the_error_says_what_to_install():
    code = "import sys; sys.modules['av'] = None\nfrom tledge.runtime.sources.video import library\nlibrary()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MachineError: video and cameras need PyAV, which is not installed" in run.stderr
    assert issubclass(MachineError, Exception)


def test_a_driver_says_what_the_stream_does_not(tmp_path):
    path = videos.encode(tmp_path / "a.mkv", "rawvideo", "yuyv422", matrix=2, range=0)
    found = shots(path, Colour(siting="left"), driver=lambda: Colour("bt601", "limited"))
    assert (found[0].image.matrix, found[0].image.range) == ("bt601", "limited")
