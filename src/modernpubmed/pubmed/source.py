"""The bytes of an NLM file: gzip or plain, streaming, checked.

What a file is, is read off its first bytes, not its name. ``isal`` inflates about twice as fast
as the standard library. A gzip stream that is cut short or fails its checksum is an error, never
an early end; NLM's ``FILE.md5`` beside a file is checked where it is present.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip

from modernpubmed.errors import ModernPubMedError

_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_AGAIN = "fetch the file again"
# "MD5(pubmed20n1015.xml.gz)= 5e72…" as NLM writes it, or "5e72…  pubmed20n1015.xml.gz".
_MD5 = re.compile(r"^(?:MD5\s*\([^)]*\)\s*=\s*)?([0-9a-f]{32})(?:\s+\*?\S.*)?$", re.IGNORECASE)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The inflated content of an NLM file in pieces of 64 KB.

    Raises:
        ModernPubMedError: The file is missing, unreadable or empty, or its gzip is damaged.
    """
    try:
        with path.open("rb") as raw:
            start = raw.read(2)
            if not start:
                raise ModernPubMedError("the file is empty", file=path, remedy=_AGAIN)
            raw.seek(0)
            stream: Any = igzip.IGzipFile(fileobj=raw) if start == _GZIP else raw
            empty = True
            while chunk := stream.read(_CHUNK):
                empty = False
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error, igzip.isal_zlib.error) as error:
        raise ModernPubMedError(f"damaged gzip ({error})", file=path, remedy=_AGAIN) from error
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be read ({error.strerror or error})",
            file=path,
            remedy="check the path and its permissions",
        ) from error
    if empty:
        raise ModernPubMedError("the gzip holds nothing", file=path, remedy=_AGAIN)


def verify_md5(path: Path) -> bool:
    """Checks a file against the ``.md5`` file beside it; False where there is none.

    Raises:
        ModernPubMedError: The checksum differs, or the ``.md5`` file holds none.
    """
    sidecar = path.with_name(f"{path.name}.md5")
    if not sidecar.is_file():
        return False
    match = _MD5.match(sidecar.read_text(errors="replace").strip())
    if match is None:
        raise ModernPubMedError(
            "no MD5 checksum in it", file=sidecar, remedy="fetch it again, or remove it"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, _md5).hexdigest()
    if found != match[1].lower():
        raise ModernPubMedError(
            f"its MD5 is {found}, but {sidecar.name} says {match[1].lower()}",
            file=path,
            remedy=_AGAIN,
        )
    return True


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
