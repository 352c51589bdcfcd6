"""Opens and checks a bundle: its members, their digests and paths, and whether a store can take its runs."""

from __future__ import annotations

import hashlib
import json
import lzma
import posixpath
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from lesion_exp.byte_size import memory_size
from lesion_exp.errors import DataError, first_cases
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.run_names import ORIGIN_TAG
from lesion_exp.verbs.bundle import layout
from lesion_exp.verbs.bundle.request import BundleImport

_KEY: Final = re.compile(r"[/\w.\- :]+")
"""MLflow's rule for the names of parameters, tags and metrics."""
_LONGEST_KEY: Final = 250
_LONGEST: Final[Mapping[str, int]] = {"params": 6000, "tags": 8000, "links": 250}
"""Largest number of characters of a value."""
_INPUT: Final[Mapping[str, int]] = {
    "name": 500, "digest": 36, "source_type": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215,
}  # fmt: skip
_LONGEST_INPUT_TAG: Final = (255, 500)
_OWN_TAGS: Final = frozenset({HEARTBEAT_TAG, ORIGIN_TAG, layout.CONTENT_TAG, *layout.LINK_TAGS})
"""Tags that an import writes itself, and an export leaves out."""
MOST_MEMBERS: Final = 200_000
LARGEST_JSON: Final = 64 << 20
"""Largest JSON member, bytes; it is read into memory."""
_LONGEST_LINE: Final = 10_000
_LARGEST_NUMBER: Final = 2**53
_BLOCK: Final = 1 << 20
_LONGEST_PART: Final = 255
"""Largest name of a file or folder on most disks, bytes."""
_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError, LookupError,
    OverflowError, MemoryError,
)  # fmt: skip
"""Exceptions that Python's zipfile raises for damaged files."""
_RUN_KEYS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "run_id": str,
    "name": str,
    "status": str,
    "experiment": str,
    "start_time": int,
    "end_time": (int, type(None)),
    "links": dict,
    "params": dict,
    "tags": dict,
    "inputs": list,
}
_INPUT_KEYS: Final = {"name", "digest", "source_type", "source"}


def check_run(described: Mapping[str, Any], where: str) -> None:
    """Checks that a store accepts the run that `run.json` describes; `where` names the file in messages.

    Raises:
        DataError: the store would refuse a name, a text or an input.
    """
    _check_text(described["name"], 250, f"the name in {where}")
    _check_text(described["experiment"], 500, f"the experiment in {where}")
    if not described["name"].strip() or not described["experiment"].strip():
        raise DataError(
            f"expected names of the run and its experiment in {where}, got an empty one; export it once more"
        )
    for group, longest in _LONGEST.items():
        for name, text in described[group].items():
            check_key(name, f"{group} of {where}")
            _check_text(text, longest, f"{name} among the {group} of {where}")
    if own := sorted(_OWN_TAGS & set(described["tags"])):
        raise DataError(f"expected tags as an export writes them in {where}, got {own[0]}; export the run once more")
    for entry in described["inputs"]:
        for key, longest in _INPUT.items():
            if entry.get(key) is not None:
                _check_text(entry[key], longest, f"{key} of an input in {where}")
        tags = entry.get("tags") or {}
        if not isinstance(tags, dict):
            raise DataError(
                f"expected an object as tags of an input in {where}, got {type(tags).__name__}; export the run again"
            )
        for pair in tags.items():
            for text, longest in zip(pair, _LONGEST_INPUT_TAG, strict=True):
                _check_text(text, longest, f"the tags of an input in {where}")


def check_key(name: object, where: str) -> None:
    """Checks that MLflow accepts the name of a parameter, a tag or a metric.

    Raises:
        DataError: it does not.
    """
    is_key = isinstance(name, str) and len(name) <= _LONGEST_KEY and _KEY.fullmatch(name) is not None
    if not is_key or posixpath.normpath(str(name)) != name or name == "." or str(name).startswith(("..", "/")):
        raise DataError(
            f"expected names of at most {_LONGEST_KEY} letters, digits and signs of _-./: among the {where}, got "
            f"{str(name)[:80]!r}; export the run once more"
        )


def _check_text(text: object, longest: int, where: str) -> None:
    if isinstance(text, str) and len(text) <= longest and "\0" not in text and _is_unicode(text):
        return
    got = f"{len(text):,} characters, or some that are no text" if isinstance(text, str) else type(text).__name__
    raise DataError(
        f"expected a text of at most {longest:,} characters as {where}, got {got}; export the run once more"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can hold
        return False
    return True


@dataclass(frozen=True)
class BundledRun:
    """A run in a bundle."""

    origin_id: str
    described: dict[str, Any]
    """The content of its `run.json`."""
    content: str
    """SHA-256 (16 digits) of all members of the run."""
    artifacts: tuple[str, ...]
    """Paths below the run, sorted."""


class Bundle:
    """An open bundle; made by `open_bundle`."""

    def __init__(self, archive: zipfile.ZipFile, runs: list[BundledRun], num_bytes: int) -> None:
        self._archive = archive
        self.runs = runs
        self.num_bytes = num_bytes
        """Unpacked size."""

    def metrics(self, run: BundledRun) -> Iterator[tuple[str, int, int, float]]:
        """Metric, step, timestamp (milliseconds since 1970) and value of every point.

        Raises:
            DataError: a line has another format.
        """
        with self._archive.open(layout.member(run.origin_id, layout.METRICS_FILE)) as file:
            while line := file.readline(_LONGEST_LINE):
                yield _point(line)

    def artifact(self, run: BundledRun, path: str) -> IO[bytes]:
        """Returns an artifact, open for reading."""
        return self._archive.open(layout.member(run.origin_id, layout.ARTIFACTS, path))


@contextmanager
def open_bundle(path: Path, largest_gib: float = BundleImport.max_gib) -> Iterator[Bundle]:
    """Opens the bundle at `path` and checks every byte of it.

    Raises:
        DataError: the file is no bundle, has a newer format, is damaged, was changed, is too large, or has a member
            that would be written outside its run.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"expected a bundle at {path}, got a folder, a pipe or a device; name the file itself")
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            bundle = _checked(archive, path, largest_gib)
        except DataError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise DataError(f"expected a bundle at {path}, but it cannot be read: {error.strerror}") from error
            raise _damaged(path, error) from error  # bz2 raises OSError for damaged data
        except _BROKEN as error:
            raise _damaged(path, error) from error
        try:
            yield bundle
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # the file was changed after it was checked
            raise _damaged(path, error) from error


def _checked(archive: zipfile.ZipFile, path: Path, largest_gib: float) -> Bundle:
    manifest = _manifest(archive, path)
    members = manifest["members"]
    num_bytes = _check_members(archive, members, path, largest_gib)
    for name, recorded in members.items():
        if _digest(archive, name) != recorded["sha256"]:
            raise DataError(
                f"expected {name} in {path} as it was exported, but its content has another digest: the file is "
                f"damaged or was changed; export or fetch it once more"
            )
    bundle = Bundle(archive, [_run(archive, run_id, members, path) for run_id in manifest["runs"]], num_bytes)
    for run in bundle.runs:
        for _ in bundle.metrics(run):  # raises for a line of another format
            pass
    return bundle


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"expected a whole bundle of lesion-exp bundle export at {path}, but it is damaged, or none: "
        f"{error or type(error).__name__}; export or fetch it once more"
    )


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if len(archive.infolist()) > MOST_MEMBERS:
        raise DataError(
            f"expected at most {MOST_MEMBERS:,} members in {path}, got {len(archive.infolist()):,}; export fewer runs "
            f"into one bundle"
        )
    if layout.MANIFEST not in archive.namelist():
        raise DataError(
            f"expected a bundle of lesion-exp bundle export at {path}, got a zip without {layout.MANIFEST}; correct "
            f"the path"
        )
    if not _is_plain(archive.getinfo(layout.MANIFEST)):
        raise DataError(
            f"expected {layout.MANIFEST} in {path} as bundle export writes it, got a link or an encrypted file; export "
            f"or fetch it once more"
        )
    manifest = _json(archive, layout.MANIFEST, path)
    if manifest.get("format") != layout.FORMAT:
        raise DataError(
            f"expected a bundle of format {layout.FORMAT}, got {manifest.get('format')!r} in {path}; it was made by "
            f"{manifest.get('made_by')!r}, import it with that version"
        )
    runs, members = manifest.get("runs"), manifest.get("members")
    if (
        not isinstance(runs, list)
        or not all(map(layout.is_run_id, runs))
        or len(set(runs)) != len(runs)
        or not isinstance(members, dict)
        or not all(isinstance(entry, dict) and {"bytes", "sha256"} <= set(entry) for entry in members.values())
        or not all(
            {layout.member(run, f) for f in (layout.RUN_FILE, layout.METRICS_FILE)} <= set(members) for run in runs
        )
    ):
        raise DataError(
            f"expected {layout.MANIFEST} in {path} to list runs and members, but it does not; export or fetch it once "
            f"more"
        )
    return manifest


def _check_members(archive: zipfile.ZipFile, members: Mapping[str, Any], path: Path, largest_gib: float) -> int:
    """Checks that members are plain files with safe names, listed once with their sizes; returns the unpacked size."""
    infos = [info for info in archive.infolist() if info.filename != layout.MANIFEST]
    folders = {parent.as_posix() for info in infos for parent in PurePosixPath(info.filename).parents}
    unsafe = [
        repr(info.filename)
        for info in infos
        if not layout.is_safe_name(info.filename)
        or not _is_plain(info)
        or info.filename in folders
        or any(len(part.encode()) > _LONGEST_PART for part in info.filename.split("/"))
    ]
    if unsafe:
        raise DataError(
            f"expected plain files that lie below their run, got members of {path} that do not; nothing was "
            f"imported:\n{first_cases(unsafe)}"
        )
    sizes = {info.filename: info.file_size for info in infos}
    listed = {name: entry["bytes"] for name, entry in members.items()}
    if len(sizes) != len(infos) or sizes != listed:
        odd = sorted(name for name in {*sizes, *listed} if sizes.get(name) != listed.get(name))
        raise DataError(
            f"expected the members of {path} as {layout.MANIFEST} lists them, but these are missing, added or have "
            f"another size; nothing was imported:\n{first_cases(odd or ['a name that occurs twice'])}"
        )
    num_bytes = sum(sizes.values())
    if num_bytes > largest_gib * 2**30:
        raise DataError(
            f"expected a bundle of at most {largest_gib:g} GiB, but {path} unpacks to {memory_size(num_bytes)}; if "
            f"you trust its source, set max_gib={num_bytes // 2**30 + 1}"
        )
    return num_bytes


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a file (no link, folder or device) that is stored as `bundle export` stores them."""
    is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    return is_file and info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1


def _point(line: bytes) -> tuple[str, int, int, float]:
    try:
        name, step, timestamp, value = json.loads(line)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or _whole(timestamp) < 0:
            raise ValueError("expected a number and a time")
        point = str(name), _whole(step), _whole(timestamp), float(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        shown = line[:80].decode(errors="replace").strip()
        raise DataError(
            f"expected [metric, step, timestamp, value] in the bundle's {layout.METRICS_FILE}, got {shown}; export the "
            f"run once more"
        ) from error
    check_key(name, f"metrics of {layout.METRICS_FILE}")
    return point


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_NUMBER:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def _run(archive: zipfile.ZipFile, run_id: str, members: Mapping[str, Any], path: Path) -> BundledRun:
    name = layout.member(run_id, layout.RUN_FILE)
    described = _json(archive, name, path)
    odd = [key for key, kind in _RUN_KEYS.items() if not isinstance(described.get(key), kind)]
    if odd or described["run_id"] != run_id or described["status"] not in layout.ENDED:
        raise DataError(
            f"expected {name} in {path} to describe a run that ended, got another value of "
            f"{', '.join(odd) or 'status'}; export the run once more"
        )
    texts = [value for key in ("links", "params", "tags") for value in described[key].values()]
    for entry in described["inputs"]:
        texts += [entry.get(key) for key in _INPUT_KEYS] if isinstance(entry, dict) else [None]
    times = [described["start_time"], described["end_time"] or 0]
    times += [-1 for time in times if isinstance(time, bool)]
    if not all(isinstance(text, str) for text in texts) or not all(0 <= time < _LARGEST_NUMBER for time in times):
        raise DataError(
            f"expected texts and times in {name} of {path} as an export writes them, got other values; export the run "
            f"once more"
        )
    check_run(described, f"{name} of {path}")
    own = {name: entry["sha256"] for name, entry in members.items() if name.startswith(layout.member(run_id, ""))}
    prefix = layout.member(run_id, layout.ARTIFACTS, "")
    content = hashlib.sha256(layout.to_json(own)).hexdigest()[:16]
    artifacts = tuple(sorted(name.removeprefix(prefix) for name in own if name.startswith(prefix)))
    return BundledRun(run_id, described, content, artifacts)


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    if archive.getinfo(name).file_size > LARGEST_JSON:
        raise DataError(f"expected {name} in {path} of at most {memory_size(LARGEST_JSON)}, got a larger one")
    try:
        content = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON in {name} of {path}, but it cannot be parsed: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"expected an object in {name} of {path}, got {type(content).__name__}")
    return content


def _digest(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
