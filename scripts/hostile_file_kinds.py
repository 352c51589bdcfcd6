"""Hostile tables and bundles: each kind is a function from a random generator to the bytes of a file.

A kind names the required outcome: `refused`, `read`, or `either` where both are right.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SECRET = "PLANTED-SECRET-7f3a"
"""Stands in contents; no message may repeat it."""
NUM_IMAGES = 12
"""`0.png` to `11.png` lie beside each table."""
COLUMNS = ("image_path", "label")
LABELS = ("nv", "mel")
FORMULAS = ("=cmd|' /C calc'!A0", "@SUM(1)", "+1+cmd", "../x", "..", "a/../../b", "<b>", "a\nb", "%s%n", "CON", "-2+3")


class Hostile(NamedTuple):
    """A file and the outcome that is required."""

    content: bytes
    must: str


def rows(labels: list[str], names: list[str] | None = None, delimiter: str = ",") -> str:
    names = names or [f"{number}.png" for number in range(len(labels))]
    lines = [delimiter.join(COLUMNS), *(delimiter.join(pair) for pair in zip(names, labels, strict=True))]
    return "\n".join(lines) + "\n"


def usual() -> str:
    return rows([LABELS[number % 2] for number in range(NUM_IMAGES)])


def whole_table(rng: np.random.Generator) -> Hostile:
    codec = str(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return Hostile(usual().replace(",", str(rng.choice([",", ";", "\t"]))).encode(codec), "read")


def very_wide(rng: np.random.Generator) -> Hostile:
    extra = "," + ",".join(f"c{number}" for number in range(int(rng.integers(20_000, 200_001))))
    return Hostile(usual().replace("label\n", f"label{extra}\n").encode(), "refused")


def formula_labels(rng: np.random.Generator) -> Hostile:
    """Class names that a spreadsheet would compute, or that lead out of a folder."""
    odd = str(rng.choice(FORMULAS))
    return Hostile(rows([f'"{odd}"' if number % 2 else "nv" for number in range(NUM_IMAGES)]).encode(), "either")


def outside_paths(rng: np.random.Generator) -> Hostile:
    """Rows that name private files that are no images."""
    wrong = ["/etc/passwd", "/dev/zero", "/proc/self/environ", "../../../etc/hostname", "secret.txt", "pipe.png", "."]
    names = [f"{number}.png" for number in range(NUM_IMAGES)]
    names[int(rng.integers(NUM_IMAGES))] = str(rng.choice(wrong))
    return Hostile(rows(["nv"] * NUM_IMAGES, names).encode(), "refused")


def flipped_bytes(rng: np.random.Generator) -> Hostile:
    content = bytearray(usual().encode())
    for place in rng.integers(0, len(content), int(rng.integers(1, 8))):
        content[place] = int(rng.integers(256))
    return Hostile(bytes(content), "either")


def no_text(rng: np.random.Generator) -> Hostile:
    starts = (
        b"",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\xff\xd8\xff",
        b"%PDF",
        b"\x00" * 40,
        b"\xff\xfe",
        b"\x89HDF\r\n\x1a\n",
    )
    return Hostile(starts[int(rng.integers(len(starts)))] + rng.bytes(int(rng.integers(0, 4000))), "refused")


def broken_quotes(rng: np.random.Generator) -> Hostile:
    content = usual()
    place = int(rng.integers(len(COLUMNS[0]) + 8, len(content)))
    return Hostile((content[:place] + '"' + content[place:]).encode(), "either")


def ragged_rows(rng: np.random.Generator) -> Hostile:
    return Hostile((usual() + ",".join(["x"] * int(rng.integers(3, 400))) + "\n").encode(), "refused")


def doubled_columns(rng: np.random.Generator) -> Hostile:
    name = str(rng.choice(COLUMNS))
    return Hostile(usual().replace("label\n", f"label,{name}\n").replace(".png,", ".png,nv,").encode(), "refused")


def long_cells(rng: np.random.Generator) -> Hostile:
    long = "x" * int(rng.integers(10_000, 1_000_000))
    return Hostile(rows(["nv"] * NUM_IMAGES, [*(f"{n}.png" for n in range(NUM_IMAGES - 1)), long]).encode(), "refused")


def strange_letters(rng: np.random.Generator) -> Hostile:
    """Names that are no UTF-8, or hold zero bytes and marks that turn the direction of writing."""
    odd = (b"\xff\xfe.png", b"a\x00.png", "\u202egnp.a".encode(), b"\xed\xa0\x80.png", "\ufffd.png".encode())
    names = usual().encode().replace(b"3.png", odd[int(rng.integers(len(odd)))])
    return Hostile(names, "refused")


def empty_table(rng: np.random.Generator) -> Hostile:
    made = ("", "\n", ",,,\n", "image_path,label\n", "\ufeff", " \n \n", "label\n" + "nv\n" * 5)
    return Hostile(made[int(rng.integers(len(made)))].encode(), "refused")


TABLES: dict[Callable[[np.random.Generator], Hostile], float] = {
    whole_table: 3, very_wide: 1, formula_labels: 4, outside_paths: 4, flipped_bytes: 4, no_text: 3, broken_quotes: 3,
    ragged_rows: 2, doubled_columns: 2, long_cells: 1, strange_letters: 3, empty_table: 3,
}  # fmt: skip

Members = dict[str, bytes]


def members_of(bundle: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Members, *, listed: bool = True, method: int = zipfile.ZIP_STORED) -> bytes:
    """A bundle of `members`; with `listed` its list is true, as somebody writes it who knows the format."""
    if listed:
        manifest = json.loads(members["bundle.json"])
        manifest["members"] = {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in members.items()
            if name != "bundle.json"
        }
        members = {**members, "bundle.json": json.dumps(manifest).encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def one_name(members: Members, ending: str) -> str:
    return next(name for name in members if name.endswith(ending))


def truncated_bundle(rng: np.random.Generator, whole: bytes) -> Hostile:
    return Hostile(whole[: int(rng.integers(0, len(whole) - 1))], "refused")


def flipped_bundle(rng: np.random.Generator, whole: bytes) -> Hostile:
    content = bytearray(whole)
    for place in rng.integers(0, len(content), int(rng.integers(1, 6))):
        content[place] ^= int(rng.integers(1, 256))
    return Hostile(bytes(content), "either")


def flipped_directory(rng: np.random.Generator, whole: bytes) -> Hostile:
    content = bytearray(whole)
    for place in rng.integers(len(content) - 400, len(content), int(rng.integers(1, 6))):
        content[place] ^= int(rng.integers(1, 256))
    return Hostile(bytes(content), "either")


def outside_member(rng: np.random.Generator, whole: bytes) -> Hostile:
    members = members_of(whole)
    home = one_name(members, "run.json").removesuffix("run.json")
    evil = ("../evil", "/tmp/evil", f"{home}artifacts/../../../evil", f"{home}artifacts/a\\..\\evil", f"{home}evil",
            f"{home}artifacts/{'x' * 300}", f"{home}artifacts/a\x00b", f"{home}artifacts/run.json/")  # fmt: skip
    members[evil[int(rng.integers(len(evil)))]] = SECRET.encode()
    return Hostile(packed(members, listed=bool(rng.integers(2))), "refused")


def odd_run(rng: np.random.Generator, whole: bytes) -> Hostile:
    """A `run.json` that no store accepts, listed with its true digest."""
    changes: list[dict[str, Any]] = [
        {"params": {"a": "x" * 7000}}, {"params": {"../a": SECRET}}, {"params": {"": "x"}}, {"params": {"a": 1}},
        {"params": [1]}, {"tags": {"mlflow.parentRunId": "0" * 32}}, {"tags": {"a": "x" * 9000}},
        {"tags": {"=cmd|x!A0": "x"}}, {"name": "\ud800"}, {"name": ""}, {"experiment": ""}, {"start_time": -1},
        {"start_time": 1e300}, {"end_time": "now"}, {"status": "RUNNING"}, {"run_id": "../x"}, {"inputs": [7]},
        {"inputs": [{"name": "n", "digest": "d" * 99, "source_type": "s", "source": "s"}]}, {"links": {"a": None}},
        {"inputs": [{"name": "n", "digest": "d", "source_type": "s", "source": "s", "tags": "t"}]},
    ]  # fmt: skip
    members = members_of(whole)
    name = one_name(members, "run.json")
    described = json.loads(members[name]) | changes[int(rng.integers(len(changes)))]
    return Hostile(packed({**members, name: json.dumps(described).encode()}), "refused")


def odd_metrics(rng: np.random.Generator, whole: bytes) -> Hostile:
    lines = (b"{}", b"[" * 9000, b'["a", 1, -2, 0.5]', b'["../a", 1, 2, 0.5]', b'["a", true, 2, 3]', b"\xff\xfe",
             b'["a", 1, 2, 1' + b"0" * 400 + b"]", b'["a", 1, 2, null]', b"x" * 20_000)  # fmt: skip
    members = members_of(whole)
    name = one_name(members, "metrics.jsonl")
    members[name] += lines[int(rng.integers(len(lines)))] + b"\n"
    return Hostile(packed(members), "refused")


def odd_manifest(rng: np.random.Generator, whole: bytes) -> Hostile:
    contents = (b"", b"[]", b"{", b"null", b'{"format": 99}', b'{"format": 1}', b"[" * 100_000, b"\xff",
                b'{"format": 1, "runs": [1], "members": {}}', b'{"format": 1, "runs": ["x"], "members": {"a": 1}}',
                b'{"format": 1, "runs": [], "members": []}')  # fmt: skip
    members = members_of(whole) | {"bundle.json": contents[int(rng.integers(len(contents)))]}
    return Hostile(packed(members, listed=False), "refused")


def other_packing(rng: np.random.Generator, whole: bytes) -> Hostile:
    return Hostile(packed(members_of(whole), method=int(rng.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))), "refused")


def other_file(rng: np.random.Generator, whole: bytes) -> Hostile:
    starts = (b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"%PDF", b"\x80\x04cos\nsystem\n", SECRET.encode())
    return Hostile(starts[int(rng.integers(len(starts)))] + rng.bytes(int(rng.integers(0, 3000))), "refused")


def whole_bundle(rng: np.random.Generator, whole: bytes) -> Hostile:
    return Hostile(whole, "read")


BUNDLES: dict[Callable[[np.random.Generator, bytes], Hostile], float] = {
    truncated_bundle: 4, flipped_bundle: 5, flipped_directory: 5, outside_member: 5, odd_run: 10, odd_metrics: 4,
    odd_manifest: 4, other_packing: 2, other_file: 3, whole_bundle: 1,
}  # fmt: skip
