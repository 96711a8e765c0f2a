"""`tledge export --for deepstream`: a graph, labels and the configuration of nvinfer, DeepStream's element.

The keys and what they do: https://docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvinfer.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tledge.bundle import Bundle, probabilities
from tledge.deploy.folder import write_folder
from tledge.deploy.frame_graph import adapt
from tledge.deploy.graph import Ports, ports, read_graph
from tledge.deploy.triton import model_name
from tledge.errors import UsageError
from tledge.preprocess import Crop, Letterbox, Spec
from tledge.preprocess.geometry import Window, window
from tledge.quantization import calibration_file, trt_cache

# nvinfer's numbers of the precisions that it builds engines for, and how it calls them in a file's name.
MODES = {"fp32": (0, "fp32"), "int8": (1, "int8"), "fp16": (2, "fp16")}
# NvBufSurfTransform's filters: nearest; bilinear of the four nearest pixels; "super sampling", the mean of
# what a pixel covers, which only makes images smaller and is the nearest thing to an antialiased filter.
NEAREST, BILINEAR, SUPER = 0, 1, 3


@dataclass(frozen=True)
class Exported:
    """The names of the files that were written, and in what DeepStream does otherwise than the spec says."""

    files: tuple[str, ...]
    differences: tuple[str, ...]


def export_deepstream(
    bundle: Bundle, variant: str, out: Path, *, frame: tuple[int, int] = (1920, 1080), force: bool = False
) -> Exported:
    """Write what nvinfer needs to the folder `out`.

    `frame` is the width and height of the frames that nvinfer is given (those of nvstreammux): where the spec
    crops, they decide what is cropped.

    Raises:
        UsageError: no such variant, one for x86, a label with a semicolon, or `out` is in the way.
        BundleError: `int8` without a calibration.
        InputError: a frame of that size cannot be resized.
        MachineError: onnx is not installed, or `out` cannot be written.
    """
    if variant not in MODES:
        raise UsageError(
            f"{variant} is a placement for x86, which TensorRT does not take", hint="Give fp32, fp16 or int8."
        )
    spec, known = bundle.spec, probabilities.read(bundle)
    where = placed(spec, frame)
    # TensorRT's own quantiser starts from the float graph and the calibration's ranges.
    model = read_graph(bundle, variant)
    if variant == "int8":
        model = read_graph(bundle, "fp32")
    graph = ports(model)
    own = spec.scale is None and len(set(spec.std)) == 1
    files = {
        "config_infer.txt": config(
            spec,
            graph,
            variant,
            where,
            frame,
            name=model_name(bundle.path),
            normalised=own,
            reject_below=known.reject_below,
        ).encode(),
        "labels.txt": labels(bundle.labels).encode(),
        "preprocess.json": bundle.read("preprocess.json"),
        "model.onnx": adapt(
            model, graph, spec, where, normalised=own, temperature=known.temperature(variant)
        ).SerializeToString(),
    }
    if variant == "int8":
        files["calibration.cache"] = trt_cache.encode(calibration_file.read(bundle))
    write_folder(out, files, force=force)
    return Exported(tuple(files), differences(spec, variant, frame))


def placed(spec: Spec, frame: tuple[int, int]) -> Window:
    """Return how a frame is resampled. nvinfer does a letterbox by itself, for frames of any shape."""
    if isinstance(spec.geometry, Letterbox):
        height, width = spec.size
        return Window(width, height, 0, 0, width, height)
    return window(spec.geometry, *frame)


def labels(names: tuple[str, ...]) -> str:
    """Return nvinfer's labels: a line for each output of the network, its classes between semicolons."""
    for name in names:
        if ";" in name:
            raise UsageError(
                f"the label {name!r} has a semicolon, which separates DeepStream's labels",
                hint="Import the network again with other names: tledge import --labels.",
            )
    return ";".join(names) + "\n"


def config(
    spec: Spec,
    graph: Ports,
    variant: str,
    where: Window,
    frame: tuple[int, int],
    *,
    name: str,
    normalised: bool,
    reject_below: float = 0.0,
) -> str:
    """Return nvinfer's configuration of a classifier; `normalised` says that it normalises, by one std.

    `reject_below` is the probability below which an image has no label.
    """
    mode, precision = MODES[variant]
    batch = graph.batch or 1
    letterbox = isinstance(spec.geometry, Letterbox)
    centred = isinstance(spec.geometry, Letterbox) and spec.geometry.anchor == "centre"
    smaller = letterbox or (where.resized_width < frame[0] and where.resized_height < frame[1])
    scaling = NEAREST if spec.filter == "nearest" else SUPER if smaller else BILINEAR
    values: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,  # whole frames
        "network-type": 1,  # a classifier
        "onnx-file": "model.onnx",
        "model-engine-file": f"model.onnx_b{batch}_gpu0_{precision}.engine",
        "labelfile-path": "labels.txt",
        "batch-size": batch,
        "network-mode": mode,
        "infer-dims": f"3;{where.resized_height};{where.resized_width}",
        "network-input-order": 0,  # planes
        "model-color-format": 0 if spec.decode.colour == "rgb" else 1,
        "net-scale-factor": _decimal(1 / (255 * spec.std[0])) if normalised else 1,
        "offsets": ";".join(_decimal(255 * mean) for mean in spec.mean) if normalised else "0;0;0",
        "maintain-aspect-ratio": int(letterbox),
        "symmetric-padding": int(centred),
        "scaling-compute-hw": 1,  # the GPU: the filters of a Jetson's VIC are others under the same numbers
        "scaling-filter": scaling,
        "classifier-type": name,
        "classifier-threshold": _decimal(reject_below),  # no label below it
    }
    if variant == "int8":
        values["int8-calib-file"] = "calibration.cache"
    told = [
        f"# {name}, variant {variant}, written by tledge from preprocess.json.",
        f"# For frames of {frame[0]} x {frame[1]} (width and height of nvstreammux)."
        if not letterbox
        else "# For frames of any size.",
        *(f"# Otherwise than there: {text}." for text in differences(spec, variant, frame)),
    ]
    return "\n".join([*told, "[property]", *(f"{key}={value}" for key, value in values.items())]) + "\n"


def differences(spec: Spec, variant: str, frame: tuple[int, int]) -> tuple[str, ...]:
    """Return in words what DeepStream does otherwise than the spec, and cannot be told to do."""
    found = [
        "frames are resized by NVIDIA's own filter, so that answers near a boundary differ",
        "the decoder's colours become RGB by NVIDIA's own conversion",
    ]
    geometry = spec.geometry
    if isinstance(geometry, Letterbox):
        if geometry.fill != (0, 0, 0):
            found.append(f"the border is black, not {list(geometry.fill)}")
    elif isinstance(geometry, Crop) and not isinstance(geometry.resize, tuple):
        found.append("a frame of another shape is cropped wrongly: export again with its --frame")
    if variant == "int8":
        found.append(
            "TensorRT quantises the float network by the calibration's ranges, without the corrections and "
            "the layers left in float of the int8 that was scored; TensorRT 11 cannot do it"
        )
    return tuple(found)


def _decimal(value: float) -> str:
    """Return a number without an exponent, with more digits than a float32 holds."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
