"""What each tensor's rounding alone does, against the graph in which nothing else is rounded."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization import networks
from tledge.evaluation.paired import mean_kl
from tledge.progress import Progress
from tledge.quantization import bias, emit_trt
from tledge.quantization.build import Network, Tune, answers, find_ranges
from tledge.quantization.fallback import holders
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.harm import harms
from tledge.quantization.observe import observe
from tledge.quantization.placement import place


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("make", [networks.mobile, networks.fire])
def test_harm_is_the_kl_of_the_graph_with_that_tensor_alone_in_int8(make, corrected: bool) -> None:
    model = load(make().SerializeToString())
    graph = Graph(model)
    placement = place(graph, "int8")
    batches = [networks.images(8, seed) for seed in range(2)]
    seen = observe(model, [placement], batches, total=16, threads=1, progress=Progress.silent())
    ranges = find_ranges(placement, seen, "minmax")
    mended = bias.correct(model, placement.layers, batches[0], threads=1) if corrected else {}
    tensors = networks.images(12, 9)
    logits = answers(session(model), tensors)
    tune = Tune(tensors, logits.argmax(axis=1), logits)
    found = harms(
        Network(model, seen), placement, ranges, mended, tune, threads=1, progress=Progress.silent()
    )
    units = holders(placement)
    assert set(found) == set(units)
    every = {node for nodes in units.values() for node in nodes}
    for tensor, nodes in units.items():
        alone = place(graph, "int8", frozenset(every - nodes))
        # A tensor that another node reads in INT8 too, or that shares a scale, is not alone.
        if set(alone.tensors) != {tensor} or alone.centred != tuple(
            name for name in placement.centred if name == tensor
        ):
            continue
        quantised = emit_trt.emit(model, alone, {tensor: ranges[tensor]}, mended)
        right = mean_kl(logits, answers(session(quantised, integer=False), tensors))
        assert found[tensor] == pytest.approx(right, rel=0.02, abs=1e-9), tensor
    assert np.isfinite(list(found.values())).all()
