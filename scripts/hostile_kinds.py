"""Hostile pictures and uploads: each kind is a function from a random generator to the bytes of one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

Kind = Callable[[np.random.Generator], bytes]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
BOUNDARY = b"xYzZy"
OTHER_TYPES = (
    b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', b"<!doctype html><script>1</script>",
    b"%PDF-1.7\n1 0 obj<</JavaScript 1>>", b"PK\x03\x04" + bytes(40), b"\x7fELF" + bytes(60), b"MZ" + bytes(60),
    b"GIF89a" + bytes(60), b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file", b"\x1f\x8b\x08" + bytes(30), b"{}", b"",
    b"RIFF\x10\x00\x00\x00WAVEfmt ", b"\x00\x00\x00\x18ftypheic" + bytes(40), b"P6 99999 99999 255\n", b"BM",
    b"II*\x00",
)  # fmt: skip
NAMES = (
    b"../../etc/passwd", b"a\x00.png", b"\xff\xfe.png", b"%s%n%x", b"x" * 3000, b"<img src=x onerror=1>.png", b"CON",
    "日本 \u202egnp.exe".encode(), b'a"b.png', b"", b"; rm -rf .png",
)  # fmt: skip


def image(rng: np.random.Generator, kind: str | None = None, **options: object) -> bytes:
    """A small, valid photograph of noise."""
    kind = kind or str(rng.choice(FORMATS))
    pixels = rng.integers(0, 256, (int(rng.integers(20, 80)), int(rng.integers(20, 80)), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def request(body: bytes, headers: bytes = b"", length: int | None = None, target: bytes = b"/predict") -> bytes:
    """A POST request with a body that is a multipart form."""
    return (
        b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=" + BOUNDARY
        + b"\r\n" + headers + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body
    )  # fmt: skip


def part(content: bytes, name: bytes = b"file", filename: bytes = b"a.png", headers: bytes = b"") -> bytes:
    """One part of a form."""
    shown = b'Content-Disposition: form-data; name="' + name + b'"; filename="' + filename + b'"\r\n'
    return b"--" + BOUNDARY + b"\r\n" + shown + headers + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def upload(content: bytes, filename: bytes = b"a.png") -> bytes:
    """A request with one file."""
    return request(form(part(content, filename=filename)))


def uploaded(kind: Kind) -> Kind:
    """The requests with the files of `kind`."""
    return lambda rng: upload(kind(rng))


def name_of(kind: Kind) -> str:
    return kind.__name__.replace("_", " ")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file of chosen chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def truncated(rng: np.random.Generator) -> bytes:
    whole = image(rng)
    return whole[: int(rng.integers(1, len(whole)))]


def flipped(rng: np.random.Generator) -> bytes:
    whole = bytearray(image(rng))
    for place in rng.integers(0, len(whole), int(rng.integers(1, 30))):
        whole[place] ^= int(rng.integers(1, 256))
    return bytes(whole)


def flipped_header(rng: np.random.Generator) -> bytes:
    whole = bytearray(image(rng))
    for place in rng.integers(4, min(120, len(whole)), int(rng.integers(1, 6))):
        whole[place] = int(rng.integers(256))
    return bytes(whole)


def random_bytes(rng: np.random.Generator) -> bytes:
    start = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF____WEBP", b"BM", b"II*\x00", b"MM\x00*")
    return start[int(rng.integers(len(start)))] + rng.bytes(int(rng.integers(0, 20_000)))


def bomb_by_header(rng: np.random.Generator) -> bytes:
    side = int(rng.integers(7000, 2**31 - 1))
    flat = chunk(b"IDAT", zlib.compress(bytes(1000)))
    webp = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\xff\xff" * 2
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" + bytes(50)
    tiff = b"II*\x00\x08\x00\x00\x00\x02\x00" + struct.pack("<HHIIHHII", 256, 4, 1, side, 257, 4, 1, side) + bytes(8)
    return (png(side, side, flat), webp, bmp, jpeg, tiff)[int(rng.integers(5))]


def bomb_within_limits(rng: np.random.Generator) -> bytes:
    """The largest accepted number of pixels, in a few kilobytes."""
    depth, colour = ((8, 2), (16, 0), (1, 0), (16, 6))[int(rng.integers(4))]
    side = 6200
    row = 1 + (side * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(row * 100)) for _ in range(side // 100)) + packer.flush()
    return png(side, side, chunk(b"IDAT", packed), depth=depth, colour=colour)


def strip(rng: np.random.Generator) -> bytes:
    wide = int(rng.integers(20_000, 2_000_000))
    return png(wide, 16, chunk(b"IDAT", zlib.compress(bytes(16 * (3 * wide + 1)), 1)))


def text_bomb(rng: np.random.Generator) -> bytes:
    packed = zlib.compress(bytes(int(rng.integers(2, 30)) * 2**20), 9)
    kinds = (
        chunk(b"zTXt", b"a\x00\x00" + packed),
        chunk(b"iCCP", b"a\x00\x00" + packed),
        chunk(b"iTXt", b"a\x00\x01\x00\x00\x00" + packed),
    )
    return png(60, 60, kinds[int(rng.integers(3))], chunk(b"IDAT", zlib.compress(bytes(60 * 181))))


def endless_scans(rng: np.random.Generator) -> bytes:
    whole = image(rng, "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * int(rng.integers(20, 2000)) + whole[-2:]


def other_type(rng: np.random.Generator) -> bytes:
    return OTHER_TYPES[int(rng.integers(len(OTHER_TYPES)))]


def polyglot(rng: np.random.Generator) -> bytes:
    other = OTHER_TYPES[int(rng.integers(len(OTHER_TYPES)))]
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", "<script>alert(1)</script>")
    made = (
        image(rng) + other, other + image(rng), image(rng, "PNG", pnginfo=told),
        image(rng, "JPEG", comment=other[:200]), b"BM" + image(rng, "JPEG"),
        image(rng, "PNG")[:40] + image(rng, "JPEG"),
    )  # fmt: skip
    return made[int(rng.integers(len(made)))]


def wide_values(rng: np.random.Generator) -> bytes:
    """Values of 10 to 14 bits, or floating-point ones from 0 to 1, in a file that does not say so."""
    pixels = rng.random((40, 60))
    top = 2 ** int(rng.integers(10, 15)) - 1
    whole = (pixels * top).astype(np.uint16)
    made = (
        lambda: encoded(whole, "TIFF"), lambda: encoded(whole, "PNG"),
        lambda: encoded(pixels.astype(np.float32), "TIFF"),
        lambda: cv2.imencode(".png", np.dstack([whole] * 3))[1].tobytes(),
        lambda: cv2.imencode(".tiff", np.dstack([whole] * 3), [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes(),
    )  # fmt: skip
    return made[int(rng.integers(len(made)))]()


def no_numbers(rng: np.random.Generator) -> bytes:
    pixels = rng.random((40, 60)).astype(np.float32)
    pixels[int(rng.integers(40)), int(rng.integers(60))] = rng.choice([np.nan, np.inf, -np.inf])
    return encoded(pixels, "TIFF")


def whole_picture(rng: np.random.Generator) -> bytes:
    """A valid upload, which must be answered among all the others."""
    return image(rng)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def odd_name(rng: np.random.Generator) -> bytes:
    return upload(image(rng), NAMES[int(rng.integers(len(NAMES)))])


def broken_form(rng: np.random.Generator) -> bytes:
    whole = form(part(image(rng)))
    made = (
        whole[: int(rng.integers(1, len(whole)))], whole.replace(BOUNDARY, b"other"), b"--" + BOUNDARY, b"",
        b"\r\n" * 500,
        form(*[part(b"x")] * 3000), form(part(b"x", headers=b"A: b\r\n" * 2000)), form(part(b"x", name=b"n" * 50_000)),
        form(part(b"x" * 5000, name=b"age")), form(part(b"x", headers=b"X: " + b"y" * 100_000 + b"\r\n")),
        rng.bytes(5000), form(part(whole)), form(*[part(b"1", name=b"gradcam")] * 50),
    )  # fmt: skip
    return request(made[int(rng.integers(len(made)))])


def broken_request(rng: np.random.Generator) -> bytes:
    body = form(part(image(rng)))
    made = (
        request(body, length=len(body) + 100), request(body, length=10), request(body, length=10**12),
        request(body, b"Content-Length: 5\r\n"), request(body, b"Transfer-Encoding: chunked\r\n"),
        request(b"zz\r\n", b"Transfer-Encoding: chunked\r\n"), request(body, b"Content-Encoding: gzip\r\n"),
        request(body, b"X: " + b"y" * int(rng.integers(10_000, 200_000)) + b"\r\n"), request(body, b"X: y\r\n" * 5000),
        request(body, b"Expect: 100-continue\r\n"), request(body, target=b"/predict?gradcam=" + b"x" * 9000),
        request(body, target=b"/predict/../predict"), b"POST /predict HTTP/9.9\r\n\r\n", rng.bytes(3000),
        b"GET " + b"/" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /page/../../settings.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        request(body).replace(b"boundary=" + BOUNDARY, b"boundary=" + b"b" * 5000),
        request(body).replace(b"multipart/form-data", b"application/json"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    )  # fmt: skip
    return made[int(rng.integers(len(made)))]


def many_images(rng: np.random.Generator) -> bytes:
    return request(form(*(part(image(rng)) for _ in range(int(rng.integers(2, 40))))), target=b"/predict?gradcam=true")


PICTURES: dict[Kind, float] = {
    truncated: 18, flipped: 14, flipped_header: 14, random_bytes: 14, other_type: 8, polyglot: 7, bomb_by_header: 6,
    whole_picture: 5, strip: 1, text_bomb: 1, endless_scans: 1, bomb_within_limits: 0.3,
}  # fmt: skip
"""Contents of image files, and how often each kind comes, in any unit."""
DEEP_PICTURES: dict[Kind, float] = {wide_values: 8, no_numbers: 4}
"""Such as a server sees them rarely, and data sets often."""
REQUESTS: dict[Kind, float] = {broken_form: 6, broken_request: 6, odd_name: 3, many_images: 1}
KINDS: dict[str, tuple[Kind, float]] = {
    **{name_of(kind): (uploaded(kind), share) for kind, share in PICTURES.items()},
    **{name_of(kind): (kind, share) for kind, share in REQUESTS.items()},
}
"""HTTP requests by name."""
