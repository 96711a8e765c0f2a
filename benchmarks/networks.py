"""Write the networks that engines are built of, in each variant, for benchmarks/engines.py.

    python benchmarks/networks.py OUT [NAME ...]

gives OUT/NAME.fp32.onnx, .fp16.onnx and .int8.onnx, as `tledge finetune` and `tledge calibrate` would write
them, but of random weights and made-up ranges: which layers TensorRT fuses, and in which type they run, hangs
on neither. Batch norms get random statistics too: untouched ones fold into biases of zero, which the exporter
leaves out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

BACKBONES = {
    "lite0": "efficientnet-lite0",
    "mobilenetv2": "torchvision:mobilenet_v2",
    "resnet18": "torchvision:resnet18",
    "resnet50": "torchvision:resnet50",
    "squeezenet": "torchvision:squeezenet1_1",
    "vit-tiny": "timm:vit_tiny_patch16_224",
}
CLASSES = 1000


def random_graph(backbone: str) -> bytes:
    """Return a network of random weights as its `fp32.onnx`."""
    import torch

    from tledge.export import to_onnx
    from tledge.models import create

    torch.manual_seed(0)
    network, spec = create(backbone, CLASSES, weights="none", image_size=224)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.5)
    return to_onnx(network, spec, [f"class {number}" for number in range(CLASSES)])


def variants(backbone: str) -> dict[str, bytes]:
    """Return the ONNX files of a network by variant."""
    from tledge.quantization import emit_trt, fp16
    from tledge.quantization.graph import Graph, load, simplify
    from tledge.quantization.placement import place
    from tledge.quantization.ranges import Range

    fp32 = random_graph(backbone)
    model = load(fp32)
    half = fp16.convert(model)
    simplify(model)
    placement = place(Graph(model), "int8")
    quantised = emit_trt.emit(model, placement, {name: Range(-4.0, 4.0) for name in placement.tensors}, {})
    return {
        "fp32": fp32,
        "fp16": half.SerializeToString(),
        "int8": fp16.convert(quantised).SerializeToString(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BACKBONES)}; default: all")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or BACKBONES:
        for variant, data in variants(BACKBONES[name]).items():
            path = arguments.out / f"{name}.{variant}.onnx"
            path.write_bytes(data)
            print(path, flush=True)


if __name__ == "__main__":
    main()
