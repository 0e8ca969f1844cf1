"""The bytes of an NLM file: gzip or plain, streaming, checked.

What a file is, is read off its first bytes, not its name. ``isal`` inflates about twice as fast
as the standard library. A gzip stream that is cut short or fails its checksum is an error, never
an early end; NLM's ``FILE.md5`` beside a file is checked where it is present. ``Digests`` are of
the very bytes that were read, so a file replaced meanwhile cannot lend its checksum to another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip_lib

from modernpubmed.errors import ModernPubMedError

_CHUNK = 1 << 16
_BLOCK = 1 << 16
_GZIP = b"\x1f\x8b"
_AGAIN = "fetch the file again"
# "MD5(pubmed20n1015.xml.gz)= 5e72…" as NLM writes it, or "5e72…  pubmed20n1015.xml.gz".
_MD5 = re.compile(r"^(?:MD5\s*\([^)]*\)\s*=\s*)?([0-9a-f]{32})(?:\s+\*?\S.*)?$", re.IGNORECASE)


def _md5(data: bytes = b"") -> Any:
    # NLM's own check of its files; nothing rests on it being hard to forge.
    return hashlib.md5(data, usedforsecurity=False)


@dataclass(slots=True)
class Digests:
    """Size and checksums of the bytes on disk, filled while they are read.

    Attributes:
        size: How many bytes.
        md5: What ``FILE.md5`` is compared with; ``hexdigest()`` gives it.
        sha256: What manifests name the file by.
    """

    size: int = 0
    md5: Any = field(default_factory=_md5)
    sha256: Any = field(default_factory=hashlib.sha256)

    def update(self, data: bytes) -> None:
        """Takes the next bytes of the file."""
        self.size += len(data)
        self.md5.update(data)
        self.sha256.update(data)


def read_chunks(path: Path, digests: Digests | None = None) -> Iterator[bytes]:
    """The inflated content of an NLM file in pieces of at most 64 KB.

    Args:
        path: The file, gzip (of one or several members) or plain.
        digests: Filled with what is read; complete once the result is used up.

    Raises:
        ModernPubMedError: The file is missing, unreadable or empty, or its gzip is damaged.
    """
    try:
        with path.open("rb") as raw:
            blocks = _blocks(raw, digests)
            first = next(blocks, b"")
            if not first:
                raise ModernPubMedError("the file is empty", file=path, remedy=_AGAIN)
            empty = True
            for chunk in (_inflated if first.startswith(_GZIP) else _as_is)(first, blocks):
                empty = False
                yield chunk
    except (EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc] # its stub is wrong
        raise ModernPubMedError(f"damaged gzip ({error})", file=path, remedy=_AGAIN) from error
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be read ({error.strerror or error})",
            file=path,
            remedy="check the path and its permissions",
        ) from error
    if empty:
        raise ModernPubMedError("the gzip holds nothing", file=path, remedy=_AGAIN)


def _blocks(raw: BinaryIO, digests: Digests | None) -> Iterator[bytes]:
    while block := raw.read(_BLOCK):
        if digests is not None:
            digests.update(block)
        yield block


def _as_is(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _inflated(block: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    while True:
        # At most so much at a time: a kilobyte of gzip can hold a megabyte.
        if chunk := stream.decompress(block, _CHUNK):
            yield chunk
        if stream.eof:
            # Another member may follow, or zeros that fill the last block of a tape.
            block = stream.unused_data.lstrip(b"\0")
            while not block:
                following = next(rest, None)
                if following is None:
                    return
                block = following.lstrip(b"\0")
            stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        elif stream.needs_input:
            if not (block := next(rest, b"")):
                raise EOFError("it ends before its end marker")
        else:
            block = b""


def verify_md5(path: Path) -> bool:
    """Checks a file against the ``.md5`` file beside it; False where there is none.

    Raises:
        ModernPubMedError: The checksum differs, or the ``.md5`` file holds none.
    """
    md5 = expected_md5(path)
    if md5 is None:
        return False
    refuse_other_md5(path, md5, file_md5(path))
    return True


def file_md5(path: Path) -> str:
    """The MD5 of a file, in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def expected_md5(path: Path) -> str | None:
    """What the ``.md5`` file beside ``path`` says, in lower-case hex; None where there is none.

    Raises:
        ModernPubMedError: The ``.md5`` file holds no checksum.
    """
    sidecar = path.with_name(f"{path.name}.md5")
    if not sidecar.is_file():
        return None
    match = _MD5.match(sidecar.read_text(errors="replace").strip())
    if match is None:
        raise ModernPubMedError(
            "no MD5 checksum in it", file=sidecar, remedy="fetch it again, or remove it"
        )
    return match[1].lower()


def refuse_other_md5(path: Path, expected: str, found: str) -> None:
    """Refuses a file whose MD5 is not the expected one.

    Raises:
        ModernPubMedError: It is not.
    """
    if found != expected:
        raise ModernPubMedError(
            f"its MD5 is {found}, but {path.name}.md5 says {expected}", file=path, remedy=_AGAIN
        )
