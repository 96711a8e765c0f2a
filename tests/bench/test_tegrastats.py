"""Lines as boards printed them: AGX Orin (JetPack 5, 6, 7), Orin Nano, AGX Xavier, Xavier NX, Nano."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bench.tegrastats import parse, total_watts

AGX_ORIN_5 = (
    "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) "
    "CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C SOC2@40.093C "
    "Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C SOC1@41.25C CV2@-256C VDD_GPU_SOC 2340mW/2340mW "
    "VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
AGX_ORIN_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201] "
    "EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1290] NVENC0 off NVDEC0 off APE 174 cpu@52.968C/52.968C "
    "soc2@48.406C/48.406C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW "
    "VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
ORIN_NANO = (
    "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) "
    "CPU [38%@1497,2%@729,1%@729,0%@729,1%@729,0%@729] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off "
    "NVJPG off VIC off OFA off APE 200 cpu@57.125C soc2@55.093C soc0@56.625C gpu@58.625C tj@58.312C "
    "soc1@55.937C VDD_IN 16321mW/11204mW VDD_CPU_GPU_CV 7104mW/4944mW VDD_SOC 3120mW/3659mW"
)
AGX_XAVIER = (
    "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) "
    "CPU [2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 "
    "MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C Tboard@37C "
    "GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482"
)
XAVIER_NX = (
    "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) "
    "CPU [23%@1397,17%@1192,16%@1190,13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] "
    "VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C PMIC@50C VDD_IN 2763mW/2846mW "
    "VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
NANO = (
    "RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C PMIC@100C "
    "GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 POM_5V_CPU 204/204"
)
LINES = [AGX_ORIN_5, AGX_ORIN_7, ORIN_NANO, AGX_XAVIER, XAVIER_NX, NANO]


@pytest.mark.parametrize(
    ("text", "gpu", "hot", "watts"),
    [
        (AGX_ORIN_5, (0, 0), {"CPU": 44.562, "tj": 44.343}, 6.755),
        (AGX_ORIN_7, (12, 1300), {"cpu": 52.968, "gpu": 47.625}, 13.907),
        (ORIN_NANO, (99, 612), {"gpu": 58.625}, 16.321),
        (AGX_XAVIER, (0, 318), {"GPU": 37.5, "PMIC": 100}, 3.346),
        (XAVIER_NX, (0, 114), {"GPU": 45.5}, 2.763),
        (NANO, (0, 76), {"GPU": 36}, 1.022),
    ],
)
def test_a_line_of_a_board(text, gpu, hot, watts):
    line = parse(text)
    assert (line.gpu_load, line.gpu_mhz) == gpu
    assert line.temperatures_c.items() >= hot.items()
    assert min(line.temperatures_c.values()) > 0
    assert total_watts(line.rails_w) == pytest.approx(watts)
    assert "NC" not in line.rails_w


def test_what_is_zero_and_what_is_not_said():
    assert parse(AGX_XAVIER).rails_w == {
        "GPU": 0, "CPU": 0.311, "SOC": 0.932, "CV": 0, "VDDRQ": 0.621, "SYS5V": 1.482,
    }  # fmt: skip
    thor = parse("RAM 4722/7844MB (lfb 1x512kB) EMC_FREQ 2%@1866 GR3D_FREQ @[1000,1000,1000] APE 150")
    assert (thor.gpu_load, thor.gpu_mhz, thor.rails_w) == (None, 1000, {})
    old = parse("CPU [1%,off] GR3D_FREQ 0% AO@42C")
    assert (old.gpu_load, old.gpu_mhz) == (0, None)
    assert total_watts({"VDD_CPU": 1.0}) is None


@given(
    st.text() | st.sampled_from(LINES).flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n]))
)
def test_nothing_raises(text):
    line = parse(text)
    assert all(watts >= 0 for watts in line.rails_w.values())


NAMES = st.from_regex(r"[A-Z][A-Z0-9]{1,5}(_[A-Z0-9]{1,4})?", fullmatch=True).filter(
    lambda name: name not in ("NC", "RAM", "SWAP", "IRAM", "APE")
)


@given(
    st.dictionaries(NAMES, st.integers(0, 99_999), max_size=6),
    st.dictionaries(NAMES, st.integers(-40, 120), max_size=6),
    st.tuples(st.integers(0, 100), st.lists(st.integers(0, 3000), min_size=1, max_size=3)),
    st.booleans(),
)
def test_what_is_written_is_read(rails, temperatures, gpu, unit):
    mw = "mW" if unit else ""
    load, clocks = gpu
    text = " ".join(
        [
            f"RAM 1/2MB (lfb 3x4MB) CPU [5%@700,off] GR3D_FREQ {load}%@[{','.join(map(str, clocks))}]",
            *(f"{name}@{value}C" for name, value in temperatures.items()),
            *(f"{name} {value}{mw}/{value}{mw}" for name, value in rails.items()),
        ]
    )
    line = parse(text)
    assert line.rails_w == {name: value / 1e3 for name, value in rails.items()}
    assert line.temperatures_c == temperatures
    assert (line.gpu_load, line.gpu_mhz) == (load, max(clocks))
