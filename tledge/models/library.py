"""Backbones of torchvision and timm: their bodies without the last layer, weights and data configurations."""

from __future__ import annotations

import math
import os
import socket
import urllib.parse
import urllib.request
from typing import Any

from torch import Tensor, nn

from tledge.errors import MachineError, UsageError
from tledge.preprocess import Crop, Spec

HEADS = ("fc", "classifier", "heads", "head")  # what torchvision's networks call their last part
FROM_FILE = "Get the file on a machine with a network and give it with --weights FILE.safetensors."


def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's image classifiers."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if not name.startswith("quantized"))


def timm_names() -> tuple[str, ...]:
    """Return the names of timm's networks."""
    import timm

    return tuple(timm.list_models())


def torchvision_body(name: str, pool: str) -> nn.Module:
    """Return the untrained body of torchvision's network `name`.

    `pool` "avg" ends with what stands before the network's last layer (but VGG's, AlexNet's and SqueezeNet's
    classifiers are left out whole: the mean of the last map stands in); "flatten" ends with the last map.
    """
    from torchvision import models

    slow = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = models.get_model(name, weights=None, **slow)
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if hasattr(model, auxiliary):
            setattr(model, auxiliary, None)
            model.aux_logits = False
    attribute = next(head for head in HEADS if hasattr(model, head))
    head = getattr(model, attribute)
    layers = [head] if isinstance(head, nn.Linear) else list(head.children())
    linears = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    ends_in_map = not linears  # SqueezeNet: the classifier is a convolution, the body ends with a map
    flat = len(linears) > 1 and isinstance(getattr(model, "avgpool", None), nn.AdaptiveAvgPool2d)
    whole = ends_in_map or (flat and name.startswith(("vgg", "alexnet")))
    if pool == "flatten":
        if ends_in_map:
            setattr(model, attribute, nn.Identity())
        elif isinstance(getattr(model, "avgpool", None), nn.AdaptiveAvgPool2d):
            if not name.startswith(("vgg", "alexnet")):  # those flatten 7 x 7 (6 x 6) themselves
                model.avgpool = nn.Identity()
            setattr(model, attribute, nn.Identity())
        else:
            raise UsageError(
                f"torchvision:{name} averages its last map by itself", hint="Leave --pool flatten out."
            )
    elif whole:
        if not ends_in_map:
            model.avgpool = nn.AdaptiveAvgPool2d(1)
        setattr(model, attribute, nn.AdaptiveAvgPool2d(1) if ends_in_map else nn.Identity())
    elif isinstance(head, nn.Linear):
        setattr(model, attribute, nn.Identity())
    else:
        head[linears[-1]] = nn.Identity()
    body: nn.Module = model
    return body


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's own pretrained weights, from its cache or over the network.

    Raises:
        MachineError: they are not here and cannot be had.
    """
    from torchvision import models

    chosen = models.get_model_weights(name).DEFAULT
    try:
        state: dict[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise _unreachable(f"torchvision:{name}", chosen.url) from error
    return state


def torchvision_spec(name: str) -> Spec:
    """Return the preprocessing of torchvision's weights of `name`."""
    from torchvision import models

    preset = models.get_model_weights(name).DEFAULT.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    return Spec(
        geometry=Crop(resize=max(crop, resize), size=(crop, crop)),
        filter=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def timm_body(name: str, pool: str, size: tuple[int, int] | None) -> nn.Module:
    """Return the untrained body of timm's network `name`, with its own pooling, or ending in a map."""
    import timm

    extra: dict[str, Any] = {"global_pool": ""} if pool == "flatten" else {}
    if size and _configuration(name).get("fixed_input_size"):
        extra["img_size"] = size
    body: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **extra)
    return body


def timm_weights(name: str) -> dict[str, Tensor]:
    """Return timm's own pretrained weights, from its cache or over the network.

    Raises:
        MachineError: they are not here and cannot be had.
        UsageError: timm has none for this network.
    """
    import timm

    source = _configuration(name)
    place = source.get("hf_hub_id")
    if not place and not source.get("url"):
        raise UsageError(f"timm has no weights for {name}", hint="Give --weights FILE.safetensors or none.")
    address = f"https://huggingface.co/{place}/resolve/main/model.safetensors" if place else source["url"]
    # timm asks again and again for 46 seconds where there is no network: the host is tried first.
    if not _cached(place) and not _reachable(address):
        raise _unreachable(f"timm:{name}", address)
    try:
        model = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise _unreachable(f"timm:{name}", address) from error
    state: dict[str, Tensor] = model.state_dict()
    return state


def timm_spec(name: str) -> Spec:
    """Return the preprocessing of timm's own data configuration of `name`."""
    source = _configuration(name)
    _, height, width = source["input_size"]
    fraction = source.get("crop_pct") or 0.875
    if source.get("crop_mode") == "squash":
        squashed = math.floor(height / fraction), math.floor(width / fraction)
        geometry = Crop(resize=squashed, size=(height, width))
    else:
        geometry = Crop.from_crop_pct((height, width), fraction)
    return Spec(
        geometry=geometry,
        filter=source["interpolation"],
        mean=tuple(source["mean"]),
        std=tuple(source["std"]),
    )


def _configuration(name: str) -> dict[str, Any]:
    import timm

    found = timm.get_pretrained_cfg(name)
    return dict(vars(found)) if found else {}


def _cached(place: str | None) -> bool:
    if not place:
        return False
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(place, name), str) for name in names)


def _reachable(address: str) -> bool:
    """Tell whether the host can be asked at all; behind a proxy only the library itself can find out."""
    if urllib.request.getproxies() or "HF_ENDPOINT" in os.environ:
        return True
    try:
        socket.create_connection((urllib.parse.urlsplit(address).hostname or "", 443), timeout=5).close()
    except OSError:
        return False
    return True


def _unreachable(name: str, address: str) -> MachineError:
    return MachineError(
        f"the weights of {name} are not on this machine, and {address} cannot be reached", hint=FROM_FILE
    )
