"""A board is read from its files, whatever is missing of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.runtime.jetson import Clock, clocks, power_mode, this_jetson

CONF = """
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=0 >
"""


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    write(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    write(tmp_path, "etc/nvpmodel.conf", CONF)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0001")
    for policy, rates in (("policy0", (1344000, 729600, 1728000)), ("policy4", (1728000, 1728000, 1728000))):
        for what, rate in zip(("cur", "min", "max"), rates, strict=True):
            write(tmp_path, f"sys/devices/system/cpu/cpufreq/{policy}/scaling_{what}_freq", f"{rate}\n")
    for what, rate in (("cur", 306000000), ("min", 306000000), ("max", 1020000000)):
        write(tmp_path, f"sys/class/devfreq/17000000.gpu/{what}_freq", f"{rate}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "l4t", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3", "6.1 or 6.2"),
        ("# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref", "35.5.0", "5"),
        ("# R38 (release), REVISION: 2.1, GCID: 42061081, BOARD: generic", "38.2.1", "7.0 or 7.1"),
        ("# R50 (release), REVISION: 1.0", "50.1.0", None),
        ("something else", None, None),
    ],
)
def test_release_and_jetpack(tmp_path, line, l4t, jetpack):
    write(tmp_path, "etc/nv_tegra_release", line)
    found = this_jetson(tmp_path)
    assert (found.l4t, found.jetpack, found.power_mode, found.clocks) == (l4t, jetpack, None, ())


def test_another_machine_is_no_jetson(tmp_path):
    assert this_jetson(tmp_path) is None


def test_power_mode_and_clocks(board):
    found = this_jetson(board)
    assert found.power_mode == "MAXN_SUPER (1)"
    assert found.clocks == (
        Clock("CPU policy0", 1344.0, 729.6, 1728.0),
        Clock("CPU policy4", 1728.0, 1728.0, 1728.0),
        Clock("GPU 17000000.gpu", 306.0, 306.0, 1020.0),
    )
    assert [clock.is_fixed for clock in found.clocks] == [False, True, False]


def test_a_mode_without_a_name_is_its_number(board):
    write(board, "var/lib/nvpmodel/status", "pmode:0007")
    assert power_mode(board) == "7"


@given(text=st.text(max_size=60))
def test_files_of_another_form_are_no_answer(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("board")
    write(root, "sys/class/devfreq/17000000.gpu/cur_freq", text.encode("utf-8", "replace").decode())
    write(root, "etc/nvpmodel.conf", text.encode("utf-8", "replace").decode())
    assert clocks(root) == ()
    assert power_mode(root) is None
