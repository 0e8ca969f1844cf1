"""What every artefact carries: where it came from, in a small ``manifest.json`` beside it.

From any figure one can walk back: result → model → pairs → corpus → NLM files, each step naming
its inputs by SHA-256, the code version, the settings, the seed, and the counts in, out and
dropped by reason. This module also holds the one way we write files: to a temporary name in the
same folder, renamed when complete, so that nothing half-written is ever seen under a real name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from modernpubmed.errors import ModernPubMedError

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The provenance of one artefact.

    Attributes:
        kind: What the artefact is: ``articles``, ``pairs``, ``model``, ``index``, ``result``.
        inputs: SHA-256 of every input, by name.
        settings: The recipe or options it was made with.
        counts: What came in and went out, by name.
        dropped: How many records were left out, by reason.
        measured: Rates found on the way, such as the overlap of pairs with test suites.
        seed: The random seed, where one was used.
        version: The version of the code that made it.
        created: When, in UTC (ISO 8601, seconds).
    """

    kind: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    version: str = field(default_factory=lambda: code_version())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def write(self, path: Path) -> None:
        """Writes it as JSON to ``path``, or to ``manifest.json`` in it when it is a folder."""
        target = path / MANIFEST_NAME if path.is_dir() else path
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the manifest at ``path``, or in it when it is a folder.

        Raises:
            ModernPubMedError: There is none, or it is not one of ours.
        """
        source = path / MANIFEST_NAME if path.is_dir() else path
        try:
            return cls(**json.loads(source.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ModernPubMedError(
                f"no readable manifest ({error})",
                file=source,
                remedy="make the artefact again with this version of modernpubmed",
            ) from error


def code_version() -> str:
    """The installed version of this package."""
    from importlib import metadata  # here: it brings the e-mail package, a tenth of a cold start

    return metadata.version("modernpubmed")


def sha256(path: Path) -> str:
    """The SHA-256 of a file in lower-case hex; of a folder, of its files' names and hashes.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sha256(Path(file.name))[:12]
    'e3b0c44298fc'
    """
    if path.is_dir():
        lines = [
            f"{sha256(child)}  {child.relative_to(path).as_posix()}\n"
            for child in sorted(path.rglob("*"))
            if child.is_file()
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` to write to; renamed to it if the block succeeds.

    The block may make a file or a folder of that name. On an error, or on Ctrl-C, what it made is
    removed and ``target`` stays as it was. A file or folder already at ``target`` is replaced; a
    folder that is not empty is never replaced by a file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary = holder / target.name
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            # A rename cannot replace a folder that holds files: move the old one aside first.
            target.rename(holder / "replaced")
        temporary.replace(target)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def refuse_other_files(target: Path, kind: str, own: Collection[str], cause: str) -> None:
    """Refuses to replace what we did not make: a mistyped path must not cost anybody a folder.

    Free is a path where there is nothing, an empty folder, or a folder that holds a manifest of
    ``kind`` and beside it nothing but ``own``. Call it before the work, and ``replacing`` for it.

    Args:
        target: Where an artefact is about to be written.
        kind: The artefact's kind, as in ``Manifest.kind``.
        own: Names of the files and folders it is made of, without its manifest.
        cause: What to say, before what was found ("this is no folder of pairs").

    Raises:
        ModernPubMedError: Anything else is there.
    """
    if not target.exists():
        return
    found = None
    if not target.is_dir():
        found = "there is a file here"
    elif names := {child.name for child in target.iterdir()}:
        if others := sorted(names.difference(own, {MANIFEST_NAME})):
            found = f"the folder holds other files ({others[0]})"
        elif _kind(target) != kind:
            found = f"the folder has no manifest of kind {kind}"
    if found is not None:
        raise ModernPubMedError(f"{cause}: {found}", file=target, remedy="name a new folder")


def _kind(folder: Path) -> str | None:
    try:
        return Manifest.read(folder).kind
    except ModernPubMedError:
        return None
