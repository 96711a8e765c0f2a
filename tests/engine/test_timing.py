from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import networks
from tledge.engine import timing
from tledge.engine.builder import build
from tledge.engine.settings import BuildSettings
from tledge.runtime import machine
from tledge.runtime.tensorrt_library import Library

ORIN = machine.Cuda((machine.Gpu(0, "Orin (nvgpu)", (8, 7), 7000),), "12.6", "")


def test_there_is_one_for_each_release_and_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "cuda", lambda: ORIN)
    place = timing.place(Library("tensorrt", None, "10.3.0"))
    assert place == tmp_path / "tledge" / "timing" / "tensorrt-10.3.0-orin-nvgpu-sm87.cache"
    assert timing.place(Library("tensorrt", None, "10.16.1.11")) != place
    assert timing.place(Library("tensorrt-rtx", None, "1.7.1")) is None
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((), "", "no driver"))
    assert timing.place(Library("tensorrt", None, "10.3.0")) is None


@pytest.mark.tensorrt
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
@pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU")
def test_it_is_kept_and_given_to_the_next_build(rtx, monkeypatch, tmp_path):
    # TensorRT for RTX measures nothing: no more is shown than that it takes the calls as they are made.
    place = tmp_path / "folder" / "a.cache"
    monkeypatch.setattr(timing, "place", lambda library: place)
    settings = BuildSettings("tensorrt-rtx", targets=("sm86",))

    def once() -> bytes:
        return build(rtx, networks.network(), Path("model.onnx"), settings, lambda *step: True).plan

    assert once()
    kept = place.read_bytes()
    assert kept
    assert once()
    place.write_bytes(b"no timing cache at all")
    assert once(), "a damaged cache is begun anew"
    place.unlink()
    place.mkdir()
    assert once(), "a cache that cannot be written is no fault of the build"
