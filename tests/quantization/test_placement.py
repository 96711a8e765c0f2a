"""The written rules on small networks: what becomes INT8, what shares a scale, what stays float and why."""

from __future__ import annotations

import pytest

from tests.quantization import networks
from tests.quantization.networks import Net
from tledge.quantization.graph import Graph
from tledge.quantization.placement import Placement, place
from tledge.quantization.rules import RULES, TARGETS


def placed(model, target) -> Placement:
    return place(Graph(model), target)


def rules_of(placement: Placement) -> dict[str, str]:
    return {decision.node: decision.rule for decision in placement.decisions}


def test_every_rule_gives_reason_and_source() -> None:
    for rule in RULES:
        assert len(rule.reason) > 20
        assert rule.source
        assert rule.targets
    assert RULES[-1].name == "unknown"


def test_tensorrt_quantises_inputs_and_the_shortcut() -> None:
    placement = placed(networks.mobile(), "int8")
    assert [layer.node for layer in placement.layers] == [
        f"node_{n}" for n in ("stem", "wide", "deep", "thin", "last")
    ]
    assert placement.sums == (("node_sum", "stem.act"),)
    # Neither the output of "thin", which the sum is fused into, nor the head's input.
    assert placement.tensors == ("images", "stem.act", "wide.act", "deep.act", "sum")
    assert rules_of(placement)["node_logits"] == "vector-product"
    assert placement.absorbed == ()


def test_x86_quantises_outputs_and_absorbs_activations() -> None:
    placement = placed(networks.mobile(), "int8-cpu")
    assert len(placement.layers) == 6
    assert set(placement.absorbed) == {f"node_{n}.act" for n in ("stem", "wide", "deep", "last")}
    assert "thin" in placement.tensors
    assert "last.act" in placement.tensors
    assert "stem" not in placement.tensors
    assert "logits" not in placement.tensors


def test_concat_and_pooling_share_one_scale() -> None:
    (group,) = placed(networks.fire(), "int8-cpu").groups
    assert set(group) == {"left.act", "right.act", "both", "small"}
    # TensorRT needs no more than the one scale behind them.
    assert placed(networks.fire(), "int8").tensors == ("images", "stem.act", "small")


@pytest.mark.parametrize(
    ("shape", "group", "int8"),
    [
        ((16, 3, 3, 3), 1, True),  # the stem: first layer, 16 channels out
        ((8, 8, 3, 3), 1, False),  # thin on both sides, not the first layer
        ((8, 1, 3, 3), 8, True),  # depthwise, a multiple of 8, 3 x 3
        ((8, 1, 1, 1), 8, False),  # depthwise 1 x 1
        ((12, 1, 3, 3), 12, False),  # no multiple of 8
        ((32, 16, 1, 1), 1, True),
    ],
)
def test_thin_convolutions_stay_float_for_tensorrt(shape: tuple[int, ...], group: int, int8: bool) -> None:
    net = Net()
    first = "images"
    if shape[1] * group != 3:
        first = net.node("Relu", [net.conv("images", "first", (shape[1] * group, 3, 3, 3))], "first.act")
    net.conv(first, "tested", shape, group=group)
    net.head("tested", shape[0])
    placement = placed(net.model(), "int8")
    assert ("node_tested" in {layer.node for layer in placement.layers}) == int8
    assert "node_tested" in {layer.node for layer in placed(net.model(), "int8-cpu").layers}


def test_an_unknown_operator_is_left_float_and_named() -> None:
    net = Net()
    curve = net.node("Sin", [net.conv("images", "stem", (16, 3, 3, 3))], "curve")
    net.head(curve, 16)
    for target in TARGETS:
        unknown = [d for d in placed(net.model(), target).decisions if d.rule == "unknown"]
        assert [d.op for d in unknown] == ["Sin"]
        assert not unknown[0].int8


def test_attention_and_squeeze_stay_float_for_tensorrt() -> None:
    net = Net()
    stem = net.node("Relu", [net.conv("images", "stem", (16, 3, 3, 3))], "stem.act")
    squeezed = net.conv(net.node("GlobalAveragePool", [stem], "mean"), "squeeze", (16, 16, 1, 1))
    gate = net.node("Sigmoid", [squeezed], "gate")
    net.head(net.node("Mul", [stem, gate], "gated"), 16)
    rules = rules_of(placed(net.model(), "int8"))
    assert rules["node_squeeze"] == "one-pixel"
    assert rules["node_gated"] == "float"


def test_a_layer_can_be_asked_to_stay_float() -> None:
    placement = place(Graph(networks.mobile()), "int8", frozenset({"node_deep"}))
    assert "node_deep" not in {layer.node for layer in placement.layers}
    assert rules_of(placement)["node_deep"] == "asked"
    assert "wide.act" not in placement.tensors


def test_a_clip_that_does_not_begin_at_zero_is_not_absorbed() -> None:
    net = Net()
    low, high = net.constant("low", -1.0), net.constant("high", 1.0)
    clipped = net.node("Clip", [net.conv("images", "stem", (16, 3, 3, 3)), low, high], "clipped")
    net.head(net.conv(clipped, "last", (16, 16, 1, 1)), 16)
    assert placed(net.model(), "int8-cpu").absorbed == ()
