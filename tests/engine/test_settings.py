from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.engine.settings import (
    BuildSettings,
    capped_workspace,
    free_memory_mib,
    parse_batch,
    parse_targets,
)
from tledge.errors import UsageError
from tledge.runtime.engine_manifest import tupled


@pytest.mark.parametrize(("text", "batch"), [("4", (4, 4, 4)), ("1:8", (1, 8, 8)), ("1:8:16", (1, 8, 16))])
def test_batch_sizes(text, batch):
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "a", "1:", "1:2:3:4", "-1", "1.5", "١"])
def test_what_is_no_batch_is_refused(text):
    with pytest.raises(UsageError, match="batch"):
        BuildSettings(batch=parse_batch(text))


@given(st.tuples(*[st.integers(0, 50)] * 3))
def test_batch_sizes_are_in_order_or_refused(batch):
    if 1 <= batch[0] <= batch[1] <= batch[2]:
        assert BuildSettings(batch=batch).batch == parse_batch(":".join(map(str, batch)))
    else:
        with pytest.raises(UsageError, match="not in order"):
            BuildSettings(batch=batch)


def test_targets_are_sorted_and_named_once():
    assert parse_targets("sm120, SM86,sm86") == ("sm86", "sm120")
    assert parse_targets("") == ()
    with pytest.raises(UsageError, match=r"'8.6' is no GPU"):
        parse_targets("8.6")


def test_only_tensorrt_for_rtx_builds_for_another_machine():
    with pytest.raises(UsageError, match="builds for the GPU that it runs on"):
        BuildSettings("tensorrt", targets=("sm87",))
    with pytest.raises(UsageError, match="no engines are built") as caught:
        BuildSettings("tensorflow")
    assert "tensorrt" in caught.value.hint


def test_the_workspace_leaves_a_board_half_of_its_free_memory():
    assert capped_workspace(None, shared_memory=True, free_mib=3000) == 1500
    assert capped_workspace(4096, shared_memory=True, free_mib=3000) == 1500
    assert capped_workspace(64, shared_memory=True, free_mib=3000) == 64
    assert capped_workspace(4096, shared_memory=False, free_mib=3000) == 4096
    assert capped_workspace(None, shared_memory=False, free_mib=3000) is None
    with pytest.raises(UsageError, match="workspace"):
        BuildSettings(workspace_mib=0)


def test_free_memory_is_the_kernels_estimate(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       7990000 kB\nMemAvailable:   2048000 kB\n")
    assert free_memory_mib(meminfo) == 2000
    assert free_memory_mib() > 0


def test_settings_survive_json():
    settings = BuildSettings("tensorrt-rtx", (1, 8, 16), (3, 224, 224), 64, ("sm86", "sm89"))
    assert BuildSettings(**tupled(json.loads(json.dumps(asdict(settings))))) == settings
