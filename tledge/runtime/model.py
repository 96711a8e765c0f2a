"""A bundle that is loaded and answers: bytes -> pixels -> tensor -> logits -> label.

The four steps are methods of their own (`pixels`, `tensor`, `logits`, `answers`), so that the bench times
exactly what a user runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle, probabilities
from tledge.errors import BundleError, InputError
from tledge.preprocess import Preprocessor, Spec, preprocessor
from tledge.preprocess.frames import Frame
from tledge.runtime import backends, postprocess
from tledge.runtime.choose import choose, saturating
from tledge.runtime.prediction import AnyImage, Guess, Prediction
from tledge.runtime.reading import file_name, read_file
from tledge.runtime.session import Session

if TYPE_CHECKING:
    from tledge.runtime import sources

# Images an inference when a list is given. Measured with Lite0 on two cores: 4 is the fastest for float32
# (5.0 ms an image against 5.2 alone and 6.7 in 32s, where activations no longer fit the cache) and near it
# for INT8.
BATCH = 4


@dataclass(frozen=True)
class Model:
    """A loaded classifier. Nothing in it changes after loading: several threads may use it at once."""

    labels: tuple[str, ...]
    spec: Spec
    session: Session
    preprocessor: Preprocessor
    temperature: float = 1.0  # logits are divided by it before the softmax
    reject_below: float = 0.0  # an answer less probable counts as none

    @property
    def backend(self) -> str:
        """Return the name of the backend that runs the graph."""
        return self.session.backend

    @property
    def variant(self) -> str:
        """Return the variant that is run: fp32, fp16, int8 or int8-cpu."""
        return self.session.variant

    @property
    def device(self) -> str:
        """Return where the graph runs, such as "cpu" or "cuda:0"."""
        return self.session.device

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a user should be told of how it runs here, in sentences."""
        return self.session.notes

    def close(self) -> None:
        """Give back the GPU's memory, in the thread that loaded the model; on a CPU nothing needs it."""
        self.session.close()

    @overload
    def predict(self, image: list[AnyImage] | tuple[AnyImage, ...], top_k: int = 5) -> list[Prediction]: ...

    @overload
    def predict(self, image: AnyImage, top_k: int = 5) -> Prediction: ...

    def predict(
        self, image: AnyImage | list[AnyImage] | tuple[AnyImage, ...], top_k: int = 5
    ) -> Prediction | list[Prediction]:
        """Return the answer for one image, or a list of answers for a list of images.

        An image is a path, the bytes of a file, a PIL image, a uint8 array H x W x 3 (RGB), or a camera's
        `Frame`. `top_k` is how many of the best answers `top` holds. InputError: an image cannot be read (see
        `predict_each` for many files).
        """
        if isinstance(image, (list, tuple)):
            parts = _batches(image, self.session.at_once(BATCH))
            return [answer for part in parts for answer in self.predict_together(part, top_k)]
        return self.predict_together([image], top_k)[0]

    def predict_each(
        self, images: Iterable[AnyImage], top_k: int = 5, batch: int = BATCH
    ) -> Iterator[Prediction]:
        """Yield an answer for each image in turn; one that cannot be read gets `error` instead of a label.

        `batch` images are read ahead and run together: 1 for a live stream, whose next image may be long in
        coming.
        """
        for part in _batches(images, self.session.at_once(batch)):
            errors: dict[int, Prediction] = {}
            good: list[AnyImage] = []
            tensors: list[NDArray[Any]] = []
            for position, image in enumerate(part):
                try:
                    tensors.append(self.preprocess(image))
                    good.append(image)
                except InputError as error:
                    errors[position] = Prediction(file_name(image), None, None, None, (), error.message)
            logits = self.logits(np.concatenate(tensors)) if tensors else np.empty((0, 0), np.float32)
            answers = iter(self.answers(logits, good, top_k)) if good else iter(())
            for position in range(len(part)):
                yield errors[position] if position in errors else next(answers)

    def stream(
        self,
        source: str | os.PathLike[str] | sources.Source | Iterable[AnyImage],
        top_k: int = 5,
        *,
        colour: sources.Colour | None = None,
        live: bool | None = None,
    ) -> sources.Stream:
        """Return an iterator of (frame, answer) over a video, a camera, a folder, or images as they come.

        `source` is a path, a URL, a camera (`/dev/video0`, `csi:0`), a source opened with more options
        (`tledge.runtime.sources`), or anything that yields images. The next frame is decoded while one is
        answered. Of what is `live` (cameras and RTSP are; None: as the source is) only the newest frame
        waits, and the others are dropped and counted; of anything else none is. `colour` states what a
        stream does not say. Faults of the source are raised when they happen (see `sources.Source.shots`).
        """
        from tledge.runtime import sources

        opened = sources.open_source(source, colour=colour or sources.Colour(), live=live)
        return sources.Stream(opened, lambda image: self.predict(image, top_k), self.session.lanes)

    def preprocess(self, image: AnyImage | list[AnyImage] | tuple[AnyImage, ...]) -> NDArray[Any]:
        """Return the input tensor, N x C x H x W or as the spec's layout says, for one image or a list."""
        if not isinstance(image, (list, tuple)):
            return self._tensor_of(image)
        if len(image) == 1:
            return self._tensor_of(image[0])  # joining one is a copy, of 0.6 MB for 224 x 224
        return np.concatenate([self._tensor_of(one) for one in image])

    def _tensor_of(self, image: AnyImage) -> NDArray[Any]:
        data = read_file(Path(image)) if isinstance(image, (str, os.PathLike)) else image
        straight = self.straight(data) if isinstance(data, bytes) else None
        return self.tensor([self.pixels(image)]) if straight is None else straight

    def straight(self, data: bytes, stamps: list[int] | None = None) -> NDArray[Any] | None:
        """Return the input tensor, 1 x C x H x W, of a JPEG file's bytes, decoding only what the crop needs.

        None where the kernels leave the file to `pixels` and `tensor`, which give the same bits or say what
        is wrong with it. To `stamps`, where given, goes the time (time.perf_counter_ns) at which decoding
        ended and resampling began.
        """
        tensor = self.preprocessor.jpeg(data, stamps=stamps)
        return None if tensor is None else tensor[np.newaxis]

    def pixels(self, image: AnyImage) -> NDArray[np.uint8] | Frame:
        """Return the decoded image, uint8 H x W x 3 RGB, or the frame. InputError: it cannot be read."""
        from tledge.data import decode

        if isinstance(image, (np.ndarray, Frame)):
            return image
        if isinstance(image, bytes):
            return decode.image(image, spec=self.spec)
        if isinstance(image, (str, os.PathLike)):
            return decode.image(read_file(Path(image)), spec=self.spec, name=str(image))
        return decode.pil(image, exif=self.spec.decode.exif)

    def tensor(self, pixels: Sequence[NDArray[np.uint8] | Frame]) -> NDArray[Any]:
        """Return the input tensor of decoded images: N x C x H x W in the spec's dtype."""
        tensor: NDArray[Any] = (
            self.preprocessor(pixels[0])[np.newaxis] if len(pixels) == 1 else self.preprocessor.batch(pixels)
        )
        return tensor

    def logits(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return the network's answers, float32 N x classes, for an input tensor."""
        return self.session.run(tensor)

    def answers(
        self, logits: NDArray[np.float32], images: Sequence[AnyImage], top_k: int = 5
    ) -> list[Prediction]:
        """Return labels and probabilities for logits N x classes; `images` name the files."""
        return self.named(postprocess.top(logits, max(1, top_k), self.temperature), images)

    def named(self, rankings: Sequence[postprocess.Ranking], images: Sequence[AnyImage]) -> list[Prediction]:
        """Return the best classes of each image with their labels; `images` name the files."""
        result = []
        for ranked, image in zip(rankings, images, strict=True):
            guesses = tuple([Guess(self.labels[index], probability) for index, probability in ranked])
            index, probability = ranked[0]
            name = file_name(image)
            if probability < self.reject_below:
                result.append(Prediction(name, None, None, probability, guesses, rejected=True))
            else:
                result.append(Prediction(name, guesses[0].label, index, probability, guesses))
        return result

    def predict_together(self, images: Sequence[AnyImage], top_k: int = 5) -> list[Prediction]:
        """Return the answers for images that are run as one batch: at most `session.largest`."""
        session = self.session
        if session.lend is None or not self.fills_in_place:
            return self.answers(self.logits(self.preprocess(list(images))), images, top_k)
        # A JPEG file is decoded straight to the tensor; what is pixels already is for the device to resample.
        files = any(isinstance(image, (str, os.PathLike, bytes)) for image in images)
        pixels = [] if files or not session.takes_pixels else [self.pixels(image) for image in images]
        with session.lend() as lent:
            if not (pixels and lent.run_pixels(pixels)):
                for image, place in zip(images, lent.images, strict=False):
                    self.write(image, place)
                lent.run(len(images))
            return self.named(lent.top(len(images), max(1, top_k)), images)

    @property
    def fills_in_place(self) -> bool:
        """Tell whether the device reads tensors where the host writes them: they are the specification's."""
        session = self.session
        wanted = self.spec.dtype, self.spec.shape
        return session.lend is not None and (session.input_dtype, session.input_shape[1:]) == wanted

    def write(self, image: AnyImage, place: NDArray[Any], stamps: list[int] | None = None) -> None:
        """Write the input tensor of one image to `place`, by the steps of `preprocess`.

        To `stamps`, where given, goes the time (time.perf_counter_ns) at which decoding ended.
        """
        data = read_file(Path(image)) if isinstance(image, (str, os.PathLike)) else image
        if isinstance(data, bytes) and self.preprocessor.jpeg(data, out=place, stamps=stamps) is not None:
            return
        pixels = self.pixels(image)
        if stamps is not None:
            stamps.append(time.perf_counter_ns())
        self.preprocessor(pixels, out=place)


def load(
    path: str | os.PathLike[str],
    backend: str = "auto",
    variant: str = "auto",
    threads: int | None = None,
    reject_below: float | None = None,
) -> Model:
    """Open a bundle and make it ready to answer.

    "auto" takes the first that fits of a written order (`tledge.runtime.choose`); `model.backend`, `.variant`
    and `.device` say what was taken. `threads` is how many threads one inference uses (default: the physical
    cores that this process may use). `reject_below` is the least probability of an answer, 0 to 1 (default:
    what the bundle says, which is 0 where nobody chose one). Raises InputError (no such bundle), BundleError
    (damaged, unfinished, without that variant), UsageError (unknown backend or variant, no probability),
    MachineError (the backend cannot run here).
    """
    bundle = Bundle.open(Path(path))
    return open_model(bundle, *choose(bundle, backend, variant), threads=threads, reject_below=reject_below)


def open_model(
    bundle: Bundle,
    backend: str,
    variant: str,
    *,
    threads: int | None = None,
    reject_below: float | None = None,
) -> Model:
    """Return the model of one variant of an open bundle on one backend."""
    if bundle.state != "finished":
        raise BundleError(
            f"the bundle {bundle.path} is not finished",
            hint="Run the command that made it again with --resume.",
            path=bundle.path,
        )
    session = backends.open_variant(bundle, backend, variant, threads=threads)
    reason = saturating(bundle, variant)
    if reason:
        session = replace(session, notes=(*session.notes, f"{variant} saturates: {reason}"))
    if session.classes != len(bundle.labels):
        raise BundleError(
            f"{variant}.onnx gives {session.classes} answers, and labels.txt names {len(bundle.labels)}",
            hint="The bundle was put together wrongly: import the network again with its own labels.",
            path=bundle.path,
        )
    known = probabilities.read(bundle)
    return Model(
        bundle.labels,
        bundle.spec,
        session,
        preprocessor(bundle.spec, using="host", threads=session.threads),
        known.temperature(variant),
        known.reject_below if reject_below is None else probabilities.checked_threshold(reject_below),
    )


def _batches(images: Iterable[AnyImage], size: int) -> Iterator[list[AnyImage]]:
    iterator = iter(images)
    while part := list(islice(iterator, size)):
        yield part
