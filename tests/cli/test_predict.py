from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import bundles

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bundles.make(tmp_path_factory.mktemp("predict") / "tiny.tledge").path


def run(*words: object, stdin: bytes = b"") -> tuple[int, list[dict], str]:
    """Return the exit code, the JSON lines and what was said of `tledge predict`."""
    command = [sys.executable, "-m", "tledge", "predict", *map(str, words), "--json"]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=300)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_a_video_is_one_object_a_line_and_the_counts(bundle, tmp_path):
    pytest.importorskip("av")
    from tests.runtime.sources import videos

    path = videos.encode(tmp_path / "clip.mp4", frames=7)
    code, lines, said = run(bundle, "--video", path, "--top-k", 2)
    assert code == 0
    assert [line["frame"] for line in lines[:-1]] == list(range(7))
    assert lines[3]["file"] == str(path)
    assert lines[3]["seconds"] == 0.12
    assert len(lines[3]["top"]) == 2
    assert lines[-1] == {"counts": {"in": 7, "dropped": 0, "done": 7, "failed": 0}}
    assert "bt709 (stream), limited (stream), left (standard)" in said
    code, again, _ = run(bundle, "--video", "-", "--top-k", 2, stdin=path.read_bytes())
    assert code == 0
    assert [line["top"] for line in again[:-1]] == [line["top"] for line in lines[:-1]]


def test_images_in_a_pipe_are_answered_as_their_files_are(bundle, tmp_path):
    files = []
    for seed in range(3):
        files.append(tmp_path / f"{seed}.png")
        files[-1].write_bytes(bundles.png(seed))
    known = [run(bundle, file)[1][0]["predictions"][0]["top"] for file in files]
    code, lines, _ = run(bundle, "-", stdin=b"".join(file.read_bytes() for file in files))
    assert code == 0
    assert [line["top"] for line in lines[:-1]] == known
    code, lines, _ = run(bundle, "-", stdin="\n".join(map(str, files)).encode())
    assert code == 0
    assert [(line["file"], line["top"]) for line in lines] == list(zip(map(str, files), known, strict=True))
    code, lines, _ = run(bundle, "-", stdin=files[0].read_bytes() + files[1].read_bytes()[:60])
    assert code == 4
    assert lines[0]["top"] == known[0]
    assert lines[1]["error"]
    assert lines[-1] == {"counts": {"in": 2, "dropped": 0, "done": 1, "failed": 1}}
    code, lines, _ = run(bundle, "-", stdin=bytes(1 << 18))
    assert (code, lines[-1]["error"]["kind"]) == (4, "input"), "a line without an end is no path"


def test_raw_frames_in_a_pipe(bundle):
    frames = np.random.default_rng(0).integers(0, 256, (3, 24 * 20 * 3 // 2), np.uint8).tobytes()
    words = [bundle, "-", "--format", "i420", "--size", "20x24", "--matrix", "bt601", "--range", "full"]
    code, lines, _ = run(*words, "--siting", "centre", stdin=frames)
    assert code == 0
    assert lines[-1]["counts"]["done"] == 3
    code, lines, said = run(*words, stdin=frames)
    assert (code, "--siting left or centre" in said) == (4, True)
    code, lines, _ = run(*words, "--siting", "centre", stdin=frames[:-100])
    assert code == 4
    assert lines[-2] == {"counts": {"in": 2, "dropped": 0, "done": 2, "failed": 0}}
    assert "ends within a frame: 620 of its 720 bytes" in lines[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give images, or --video, or --camera"),
        (["x.png", "--video", "y.mp4"], "give images, or --video, or --camera"),
        (["-", "x.png"], "- stands alone"),
        (["x.png", "--matrix", "bt709"], "--matrix says nothing here"),
        (["--video", "x.mp4", "--size", "2x2"], "--size says nothing here"),
        (["--camera", "0", "--size", "big"], "'big' is no size such as 1280x720"),
        (["--camera", "front"], "front names no camera"),
        (["--camera", "0", "--format", "rgba"], "a camera cannot be asked for rgba"),
        (["-", "--format", "nv12"], "raw frames need --format and --size"),
    ],
)
def test_words_that_make_no_sense_are_refused(bundle, words, message):
    code, lines, _ = run(bundle, *words)
    assert code == 2
    assert message in lines[-1]["error"]["message"]


def test_ctrl_c_ends_a_stream_with_its_counts(bundle):
    words = [bundle, "-", "--format", "grey", "--size", "20x24", "--range", "full", "--json"]
    # Whoever runs the tests in the background of a shell has them ignore Ctrl-C, and all that they start.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "tledge", "predict", *map(str, words)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    process.stdin.write(bytes(2 * 480))
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    os.kill(process.pid, signal.SIGINT)
    # Before the pipe is closed: its end, seen first, would be the stream's.
    assert process.wait(timeout=60) == 130
    rest, said = process.communicate()
    assert [line["frame"] for line in lines] == [0, 1]
    assert json.loads(rest) == {"counts": {"in": 2, "dropped": 0, "done": 2, "failed": 0}}
    assert b"2 frames in, 0 dropped, 2 done, 0 failed" in said
    assert b"Fatal" not in said
