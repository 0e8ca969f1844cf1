"""Fetching one file from NLM: the newest updatefile, verified, or nothing.

NLM publishes PubMed as a yearly baseline and daily updatefiles, each a ``.xml.gz`` with its MD5
beside it (https://pubmed.ncbi.nlm.nih.gov/download/). Given up here: mirroring all of them.
"""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing

#: NLM's folder of updatefiles.
UPDATEFILES = "https://ftp.ncbi.nlm.nih.gov/pubmed/updatefiles/"

_NAME = re.compile(r'href="(pubmed\d{2}n\d{4}\.xml\.gz)"')
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")
_CHUNK = 1 << 20
_SECONDS = 60.0


def fetch_newest_updatefile(
    folder: Path, *, base: str = UPDATEFILES, report: Callable[[int, int], None] | None = None
) -> Path:
    """The newest updatefile, in ``folder``: fetched and verified, or found there whole.

    Args:
        folder: Where to keep it, with its ``.md5``.
        base: The folder's address, ending in a slash.
        report: Called with the bytes read so far and in all (0 if the server does not say).

    Raises:
        ModernPubMedError: The server cannot be reached, lists no updatefile, or what came does
            not match its MD5 (it is removed then).
    """
    listing = _read(base).decode("utf-8", errors="replace")
    names: list[str] = _NAME.findall(listing)
    if not names:
        raise ModernPubMedError("lists no updatefile", file=base, remedy="check the address")
    # Names sort by year, then number.
    name = max(names)
    sidecar = _read(f"{base}{name}.md5")
    match = _MD5.search(sidecar.decode("ascii", errors="replace").lower())
    if match is None:
        raise ModernPubMedError("holds no MD5", file=f"{base}{name}.md5", remedy="try again later")
    path = folder / name
    if path.is_file() and _md5(path) == match.group():
        return path
    with replacing(path) as temporary:
        _download(f"{base}{name}", temporary, report)
        if (found := _md5(temporary)) != match.group():
            raise ModernPubMedError(
                f"its MD5 is {found}, NLM's is {match.group()}",
                file=f"{base}{name}",
                remedy="fetch it again",
            )
    with replacing(path.with_name(f"{name}.md5")) as temporary:
        temporary.write_bytes(sidecar)
    return path


def _read(url: str) -> bytes:
    try:
        # The address is NLM's or the caller's own.
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from error
    return content


def _download(url: str, path: Path, report: Callable[[int, int], None] | None) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=_SECONDS) as answer,  # noqa: S310
            path.open("wb") as file,
        ):
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                if report is not None:
                    report(file.tell(), total)
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> ModernPubMedError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return ModernPubMedError(
        f"cannot be fetched ({reason})", file=url, remedy="check the network and try again"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # NLM's own check of its files; nothing rests on it being hard to forge.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
