from __future__ import annotations

import os
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests.bench.test_tegrastats import AGX_ORIN_5, ORIN_NANO
from tledge.bench import power, sampling, state
from tledge.bench.power import Reading, Source


def package(root, name: str, energy: int, called: str = "package-0") -> None:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(called + "\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text("9999999\n")


def test_rapl_adds_up_the_packages_and_starts_again_at_zero(tmp_path):
    package(tmp_path, "intel-rapl:0", 9_000_000)
    package(tmp_path, "intel-rapl:1", 1_000_000, "package-1")
    package(tmp_path, "intel-rapl:0:0", 5, "core")
    package(tmp_path, "intel-rapl:2", 5, "psys")
    source = power.rapl(tmp_path)
    assert source.read().joules == 0
    package(tmp_path, "intel-rapl:0", 500_000)
    package(tmp_path, "intel-rapl:1", 3_000_000, "package-1")
    package(tmp_path, "intel-rapl:2", 9_000_000, "psys")
    assert source.read().joules == pytest.approx(1.5 + 2.0)
    package(tmp_path, "intel-rapl:0", 700_000)
    assert source.read().joules == pytest.approx(1.7 + 2.0)


def test_rapl_that_may_not_be_read_is_absent(tmp_path):
    assert power.rapl(tmp_path) is None
    package(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert power.rapl(tmp_path) is None


class NVMLError(Exception):
    pass


def fake_nvml(**answers):
    """Return a module like nvidia-ml-py; what is not among the answers is not supported."""

    def ask(name):
        def function(handle, *words):
            if name not in answers:
                raise NVMLError("Not Supported")
            return answers[name]

        return function

    names = "PowerUsage TotalEnergyConsumption ClockInfo Temperature CurrentClocksThrottleReasons".split()
    names += ["MemoryInfo", "UtilizationRates"]
    opened = []
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlClocksThrottleReasonGpuIdle=1,
        nvmlClocksThrottleReasonSwPowerCap=4,
        nvmlClocksThrottleReasonHwThermalSlowdown=64,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: opened.append("closed"),
        nvmlDeviceGetHandleByIndex=lambda index: None,
        opened=opened,
        **{f"nvmlDeviceGet{name}": ask(name) for name in names},
    )


def test_nvml(monkeypatch):
    answers = {"PowerUsage": 71500, "TotalEnergyConsumption": 5000, "ClockInfo": 1755, "Temperature": 51}
    answers |= {
        "MemoryInfo": SimpleNamespace(used=300 * 2**20),
        "UtilizationRates": SimpleNamespace(gpu=40),
    }
    module = fake_nvml(**answers, CurrentClocksThrottleReasons=5)
    module.nvmlDeviceGetHandleByIndex = lambda index: module.opened.append(index) or "handle"
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    source = power.nvml("cuda:1")
    assert module.opened == [1]
    assert source.read() == Reading(71.5, 0.0, {}, 1755, 51, 40, 300, ("SwPowerCap",))
    source.close()
    assert module.opened[-1] == "closed"
    bare = fake_nvml()
    bare.nvmlDeviceGetHandleByIndex = lambda index: "handle"
    monkeypatch.setitem(sys.modules, "pynvml", bare)
    assert power.nvml("cuda:0").read() == Reading()


def test_nvml_without_a_driver_or_the_package(monkeypatch):
    module = fake_nvml()

    def fail():
        raise NVMLError("Driver Not Loaded")

    module.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert power.nvml("cuda:0") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert power.nvml("cuda:0") is None


def test_jtop(monkeypatch):
    class JtopException(Exception):
        pass

    class Board:
        def start(self):
            if self.down:
                raise JtopException("The jtop.service is not active")

        def close(self):
            self.closed = True

        down = False
        power = {  # noqa: RUF012
            "rail": {"VDD_CPU_GPU_CV": {"power": 7104}, "VDD_SOC": {"power": 3120}},
            "tot": {"power": 16321, "name": "VDD_IN"},
        }
        gpu = {"gpu": {"freq": {"cur": 612000}, "status": {"load": 99.1}}}  # noqa: RUF012
        temperature = {"gpu": {"temp": 58.6, "online": True}, "cv0": {"temp": -256}}  # noqa: RUF012

    monkeypatch.setitem(sys.modules, "jtop", SimpleNamespace(jtop=Board, JtopException=JtopException))
    source = power.jtop()
    rails = {"VDD_CPU_GPU_CV": 7.104, "VDD_SOC": 3.12, "VDD_IN": 16.321}
    assert source.read() == Reading(16.321, None, rails, 612, 58.6, 99.1)
    Board.power = {}
    Board.gpu = {}
    assert source.read() == Reading(None, None, {}, None, 58.6)
    Board.down = True
    assert power.jtop() is None
    monkeypatch.setitem(sys.modules, "jtop", None)
    assert power.jtop() is None


def test_tegrastats_is_run_beside_and_ended(tmp_path, monkeypatch):
    program = tmp_path / "tegrastats"
    script = ["#!/bin/sh", f"echo $$ > {tmp_path}/pid", f"echo '{AGX_ORIN_5}'", "sleep 0.1"]
    script += [f"echo '{ORIN_NANO}'", "printf 'RAM 1/'", "exec sleep 60"]
    program.write_text("\n".join(script))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    source = power.tegrastats()
    reading = source.read()
    until = time.monotonic() + 60
    while reading.watts != 16.321 and time.monotonic() < until:
        time.sleep(0.02)
        reading = source.read()
    assert (reading.watts, reading.gpu_mhz, reading.gpu_c, reading.gpu_load) == (16.321, 612, 58.625, 99)
    assert source.read() == Reading()  # nothing whole came since
    source.close()
    source.close()  # twice does no harm
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_tegrastats(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert power.tegrastats() is None


# --- over a run ---


def look(at: float) -> state.Look:
    return state.Look(at, 0.0, 0.0, 0.0, None, None, None)


def watched(*readings: Reading) -> sampling.Watched:
    source = Source("one", "board", Reading)
    samples = [sampling.Sample(look(float(at)), (reading,), 0.1) for at, reading in enumerate(readings)]
    return sampling.Watched(tuple(samples), (source,))


def test_energy_is_the_counters_or_mean_power_by_time():
    assert watched(Reading(joules=1), Reading(), Reading(joules=8)).joules == {"one": 7}
    assert watched(Reading(), Reading(watts=10), Reading(watts=20)).joules == {"one": 30}
    assert watched(Reading(), Reading()).joules == {}


def test_the_machine_is_looked_at_while_the_block_runs(monkeypatch):
    closed = []
    looks = threading.Semaphore(0)

    def reading() -> Reading:
        looks.release()
        return Reading(watts=5.0)

    source = Source("one", "board", reading, lambda: closed.append(True))
    monkeypatch.setattr(power, "sources", lambda device: (source,))
    monkeypatch.setattr(sampling, "EVERY_SECONDS", 0.02)
    with sampling.watching("cpu") as seen:
        for _ in range(5):
            assert looks.acquire(timeout=60)
    (found,) = seen
    assert len(found.samples) >= 6  # and one when the block has ended
    assert found.joules["one"] == pytest.approx(5 * found.seconds)
    assert closed == [True]
    said = sampling.described(found, "cpu")
    assert said["power_w"] == {"one": 5.0}
    assert said["power_of"] == {"one": "board"}
    assert said["sampled"]["samples"] == len(found.samples)
    assert "gpu" not in said


def test_a_run_that_fails_ends_the_looking(monkeypatch):
    closed = []
    source = Source("one", "board", Reading, lambda: closed.append(True))
    monkeypatch.setattr(power, "sources", lambda device: (source,))
    with pytest.raises(KeyboardInterrupt), sampling.watching("cpu"):
        raise KeyboardInterrupt
    assert closed == [True]


def test_a_jetson_says_its_mode_and_rails(monkeypatch):
    from tledge.runtime.jetson import Clock, Jetson

    board = Jetson("AGX Orin", "36.4", "6.1", "MAXN (0)", (Clock("CPU", 2201, 2201, 2201),))
    monkeypatch.setattr(sampling, "this_jetson", lambda: board)
    rails = ({"VDD_IN": 6.0, "VDD_SOC": 2.0}, {"VDD_IN": 10.0, "VDD_SOC": 2.0})
    seen = watched(*(Reading(watts=r["VDD_IN"], rails_w=r, gpu_mhz=612, gpu_c=50) for r in rails))
    said = sampling.described(seen, "cpu")
    assert (said["board"], said["power_mode"], said["clocks_fixed"]) == ("AGX Orin", "MAXN (0)", True)
    assert said["rails_w"] == {"VDD_IN": 8.0, "VDD_SOC": 2.0}
    assert said["gpu_clock_mhz"] == {"least": 612, "most": 612}
    assert sampling.described(watched(Reading(), Reading()), "cpu")["rails_w"] is None


def test_what_is_read_where(monkeypatch):
    monkeypatch.setattr(power, "this_jetson", lambda: None)
    for name in ("rapl", "jtop", "tegrastats"):
        monkeypatch.setattr(power, name, lambda name=name: Source(name, "", Reading))
    monkeypatch.setattr(power, "nvml", lambda device: Source("nvml", "", Reading))
    assert [source.name for source in power.sources("cpu")] == ["rapl"]
    assert [source.name for source in power.sources("cuda:0")] == ["rapl", "nvml"]
    monkeypatch.setattr(power, "this_jetson", lambda: "a board")
    assert [source.name for source in power.sources("cuda:0")] == ["jtop"]
    monkeypatch.setattr(power, "jtop", lambda: None)
    assert [source.name for source in power.sources("cuda:0")] == ["tegrastats"]
