from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import networks
from tledge.engine.graph import check_versions, read_graph
from tledge.errors import InputError
from tledge.runtime.tensorrt_library import Library

PATH = Path("model.onnx")


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_it_reads_what_the_package_onnx_reads(variant):
    data = networks.network(variant)
    graph, reference = read_graph(data, PATH), onnx.load_from_string(data)
    assert (graph.ir_version, graph.opset) == (10, 18)
    assert [(n.name, n.operator, list(n.inputs), list(n.outputs)) for n in graph.nodes] == [
        (n.name, n.op_type, list(n.input), list(n.output)) for n in reference.graph.node
    ]


def test_heavy_operators_between_dequantisers_are_to_run_in_int8():
    assert read_graph(networks.network("int8"), PATH).int8_nodes() == ("stem", "depthwise", "point", "head")
    assert read_graph(networks.network("fp16"), PATH).int8_nodes() == ()


def test_a_cast_after_the_dequantiser_changes_nothing():
    parts = networks.Parts("int8")
    x = parts.heavy("Conv", "images", "stem")
    node = parts.nodes[-1]
    half = [parts.add("Cast", [name], f"cast{i}", to=10) for i, name in enumerate(node.input)]
    parts.nodes.remove(node)
    parts.add("Conv", half, "stem", output=x)
    data = networks.model(
        parts.nodes, [networks.value("images", ["N", 3, 8, 8])], [networks.value(x, None)], parts.weights
    )
    assert read_graph(data, PATH).int8_nodes() == ("stem",)


def test_a_node_without_a_name_is_called_as_the_parser_calls_it():
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    data = networks.model([node], [networks.value("x", [1])], [networks.value("y", [1])])
    assert read_graph(data, PATH).nodes[0].name == "node_of_y"


def test_every_cut_is_refused():
    data = networks.network()
    whole = read_graph(data, PATH)
    for size in range(len(data)):
        # A cut between two of the file's own fields leaves a whole message, which lacks the graph, the opset,
        # or nothing but the opset of a domain that no node is of.
        try:
            graph = read_graph(data[:size], PATH)
            check_versions(graph, Library("tensorrt-rtx", None, "1.7.1"), PATH)
        except InputError:
            continue
        assert graph == whole


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    try:
        read_graph(data, PATH)
    except InputError:
        return


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    whole = bytearray(networks.network())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_graph(bytes(whole), PATH)
    except InputError:
        return


@pytest.mark.parametrize(
    ("backend", "version", "opset", "ir_version", "said"),
    [
        ("tensorrt", "10.3.0", 21, 10, "opset 21, and TensorRT 10.3.0 reads 9 to 20"),
        ("tensorrt", "10.9.0", 23, 10, "reads 9 to 22"),
        ("tensorrt", "10.16.1.11", 25, 10, "reads 9 to 24"),
        ("tensorrt", "11.4.0.106", 26, 10, "reads 9 to 25"),
        ("tensorrt-rtx", "1.7.1.116", 99, 10, "reads 9 to 24"),
        ("tensorrt", "10.3.0", 8, 10, "opset 8"),
        ("tensorrt", "10.3.0", 18, 11, "IR version 11, and TensorRT 10.3.0 reads up to 10"),
    ],
)
def test_versions_that_a_release_does_not_read_are_refused(backend, version, opset, ir_version, said):
    graph = read_graph(networks.network(opset=opset, ir_version=ir_version), PATH)
    with pytest.raises(InputError, match=said):
        check_versions(graph, Library(backend, None, version), PATH)


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106"])
def test_what_tledge_exports_is_read_by_every_release(version):
    check_versions(read_graph(networks.network(), PATH), Library("tensorrt", None, version), PATH)
