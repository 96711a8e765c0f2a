from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import quick
from tests.runtime import bundles
from tledge import bench
from tledge.bench import grid

POINTS = st.lists(st.tuples(st.none() | st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    on = [point for point, first in zip(points, grid.front(points), strict=True) if first]
    scored = [point for point in points if point[0] is not None]
    for point in on:
        assert not any(
            o[0] >= point[0] and o[1] >= point[1] and (o[0] > point[0] or o[1] > point[1]) for o in scored
        )
    for point in scored:
        assert any(o[0] >= point[0] and o[1] >= point[1] for o in on)
    assert all(point[0] is not None for point in on)


def test_a_grid_has_every_variant_threads_and_batch(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    quick.make(monkeypatch)
    monkeypatch.setattr(grid, "threads", lambda: [1])
    bundle = bundles.make(
        tmp_path / "tiny.tledge",
        ("fp32", "int8"),
        ("fp32@onnxruntime",),
        eval_images=4,
        changes={"fp32@onnxruntime": {"top1": 91.5}},
    )
    result = bench.run(bundle, backend="onnxruntime", duration=0.05, whole_grid=True)
    found = [(line["variant"], line["threads"], line["images_per_query"]) for line in result["grid"]]
    assert found == [("fp32", 1, 1), ("fp32", 1, 8), ("int8", 1, 1), ("int8", 1, 8)]
    assert [line["top1"] for line in result["grid"]] == [91.5, 91.5, None, None]
    assert [line["pareto"] for line in result["grid"]] == [True, False, False, False]
    assert sum(line["pareto_throughput"] for line in result["grid"]) == 1
    assert len(result["ratios"]) == 3
    text = bench.text(result)
    assert "fp32@onnxruntime, 1 threads, 8 images a query" in text
    named = bench.run(
        bundle, backend="onnxruntime", variant="fp32", duration=0.02, whole_grid=True, batch=[2]
    )
    assert len(named["grid"]) == 1
