"""Limits what a server accepts at the same time, so that its memory is never full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image

from lesion_exp.file_kind import image_format, kind_of, listed_formats
from lesion_exp.verbs.serve.settings import MEGABYTE, Settings

BUSY_SECONDS: Final = 1
"""Seconds after which a client that got status 429 may try again."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A refused request: the answer is `{"error": message}` with a status between 400 and 499."""

    def __init__(self, status: int, message: str) -> None:
        assert 400 <= status <= 499, "only a mistake of the client is a refusal"
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {"Retry-After": str(BUSY_SECONDS)} if self.status == 429 else {}


class Intake:
    """Counts the requests, images and bytes in work. It belongs to one event loop and needs no lock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0
        self.images = 0
        self.bytes = 0

    @contextmanager
    def request(self) -> Iterator[Upload]:
        """Counts a request until the end of the block, before anything of it is read.

        Raises:
            Refusal: with status 429 if too many requests or images are in work.
        """
        if self.requests >= self.settings.queue or self.images >= self.settings.queue:
            raise Refusal(429, f"expected fewer requests at once: {self.requests} are being answered; try again soon")
        self.requests += 1
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.requests -= 1
            self.images -= upload.images
            self.bytes -= upload.bytes


class Upload:
    """Counts the images and bytes of one request."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.images = 0
        self.bytes = 0

    def add_bytes(self, count: int) -> None:
        """Adds `count` bytes.

        Raises:
            Refusal: as `check_room`.
        """
        self.check_room(count)
        self.bytes += count
        self._intake.bytes += count

    def check_room(self, count: int) -> None:
        """Checks that `count` more bytes are allowed.

        Raises:
            Refusal: with status 413 for more than a request may have, 429 for more than all requests may have.
        """
        settings = self._intake.settings
        if self.bytes + count > settings.max_upload_bytes:
            raise Refusal(
                413, f"expected at most {settings.max_upload_mb:g} MiB a request, got more; send fewer images"
            )
        if self._intake.bytes + count > settings.max_waiting_mb * MEGABYTE:
            raise Refusal(429, "expected fewer uploads at once: the memory for uploads is full; try again soon")

    def add_images(self, count: int) -> None:
        """Adds `count` images.

        Raises:
            Refusal: with status 422 for more than a request may have, 429 for more than all requests may have.
        """
        settings = self._intake.settings
        if count > settings.max_images:
            raise Refusal(422, f"expected at most {settings.max_images} images a request, got {count}; send several")
        if self._intake.images + count > settings.queue:
            raise Refusal(
                429, f"expected fewer images at once: {self._intake.images} of {settings.queue} wait; try again soon"
            )
        self.images += count
        self._intake.images += count


LONGEST_SHAPE: Final = 10
"""Largest ratio of the longer to the shorter side: the network sees a square, to which a strip would be stretched."""
MOST_SCANS: Final = 100
"""Largest number of scans in a progressive JPEG, which usually has ten. A scan of few bytes costs a pass over all
pixels."""
_SCAN: Final = b"\xff\xda"


def check_picture(encoded: bytes, name: str, max_pixels: int) -> int:
    """Checks whether an image file may be decoded, by its first bytes and its header.

    Args:
        encoded: the file.
        name: its name, for messages.
        max_pixels: largest number of pixels.

    Returns:
        Its number of pixels.

    Raises:
        Refusal: with status 415 if the format is unknown, 413 if there are too many pixels, 422 if the header is
            broken or the shape is not that of a photograph.
    """
    kind = image_format(encoded)
    if kind is None:
        raise Refusal(415, f"expected a {listed_formats()} file, but {name} is {kind_of(encoded)}; convert it")
    width, height = _size(encoded, kind, name, max_pixels)
    if width * height > max_pixels:
        raise Refusal(
            413, f"expected at most {max_pixels:,} pixels, but {name} has {width:,} x {height:,}; scale it down first"
        )
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise Refusal(
            422,
            f"expected a photograph, at most {LONGEST_SHAPE} times as long as it is wide, but {name} has {width:,} x "
            f"{height:,} pixels; crop it",
        )
    if kind == "JPEG" and encoded.count(_SCAN) > MOST_SCANS:
        raise Refusal(
            422,
            f"expected at most {MOST_SCANS} scans in a JPEG file, but {name} has more; save it again",
        )
    return width * height


def _size(encoded: bytes, kind: str, name: str, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"expected at most {max_pixels:,} pixels, but {name} has far more") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise Refusal(422, f"expected a complete image, but the header of {name} ({kind}) cannot be read") from error
