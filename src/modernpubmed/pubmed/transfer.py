"""Bytes from a server, whatever the network does: polite, persistent, resumable, verified.

Polite: few connections, few requests a second, ``Retry-After`` obeyed, a name to complain to.
Persistent: what may be over in a moment (503, a broken connection, a stall, half an answer) is
tried again after a pause that doubles. Resumable: bytes go to ``FILE.partial``, beside which
``FILE.partial.json`` says of which version they are; ``Range`` with ``If-Range`` then asks for the
rest of that version only (RFC 9110, sections 13.1.5 and 14). Verified: nothing gets its own name
before its MD5 is NLM's.

The standard library's client, because the light core has no other one of its own: the hub's
client is a dependency of a dependency and has changed with its versions. Given up with it:
connections are not kept open between files, 0.1 s each beside the seconds that 30 MB take.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import code_version
from modernpubmed.pubmed.source import file_md5

_CHUNK = 1 << 18
_LARGEST_TEXT = 1 << 26
_ADDRESS = "check the address"
_NEXT_TIME = "check the network and run it again"
#: Below this many bytes a second a connection counts as stalled.
_SLOWEST = 1024
#: So many new bytes make up for the attempts that failed before them.
_PROGRESS = 1 << 20
#: A file that does not match its MD5 is fetched again as often as this, less one.
_VERSIONS = 2
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")
_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-\d+/(\d+|\*)")

T = TypeVar("T")
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Manners:
    """How a server is treated.

    NCBI asks scripts for no more than three requests a second, and for large jobs at night (9 pm
    to 5 am Eastern time) or on weekends; the first is a default here, the second is yours to keep.

    Attributes:
        workers: Connections at a time.
        requests_a_second: Over all connections.
        attempts: Failures in a row, without 1 MB of progress, until a file is given up.
        pause: Seconds before the second attempt; doubled before each further one, up to a minute,
            and spread by half so that many clients do not come back at once.
        longest_wait: Seconds of ``Retry-After`` that are waited; more is an error.
        silence: Seconds without an answer, or with less than 1 KB/s, until a connection is dropped.
    """

    workers: int = 4
    requests_a_second: float = 3.0
    attempts: int = 6
    pause: float = 1.0
    longest_wait: float = 600.0
    silence: float = 60.0


@dataclass(frozen=True, slots=True)
class Published:
    """What NLM says of a file.

    Attributes:
        md5: In lower-case hex.
        text: The whole of ``FILE.md5``.
    """

    md5: str
    text: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What the text of a ``.md5`` file says; None where it holds no MD5.

        >>> Published.read("MD5(a.xml.gz)= 5E72894EB9BC4DFD6745C02E53E54F85").md5
        '5e72894eb9bc4dfd6745c02e53e54f85'
        """
        match = _MD5.search(text.lower())
        return None if match is None else cls(match.group(), text)


class UnreachableError(ModernPubMedError):
    """The server did not answer, or not to the end, however often it was asked."""


class StoppedError(Exception):
    """The client was stopped; never seen by a caller who does not stop it."""


class _AgainError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: object, wait: float | None = None) -> None:
        super().__init__(str(reason))
        self.wait = wait


class Client:
    """Fetches from one server, from any number of threads.

    Args:
        manners: How to treat it.
    """

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self._lock = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends what is under way in other threads, at their next byte or pause."""
        self._stopped.set()

    def read(self, url: str) -> tuple[str, Mapping[str, str]]:
        """A small text and its headers.

        Raises:
            ModernPubMedError: There is none, or the server cannot be reached.
        """

        def once() -> tuple[str, Mapping[str, str]]:
            with self._open(url) as answer:
                content = bytearray()
                for chunk in self._receive(answer, _length(answer)):
                    content += chunk
                    if len(content) > _LARGEST_TEXT:
                        raise ModernPubMedError("is no list of files", file=url, remedy=_ADDRESS)
                return content.decode("utf-8", errors="replace"), answer.headers

        return self._persist(url, once)

    def size(self, url: str) -> int | None:
        """How many bytes a file has; None where the server does not say.

        Raises:
            ModernPubMedError: There is no such file, or the server cannot be reached.
        """

        def once() -> int | None:
            with self._open(url, method="HEAD") as answer:
                return _length(answer)

        return self._persist(url, once)

    def published(self, url: str) -> Published:
        """The MD5 that NLM publishes for a file, in ``URL.md5``.

        Raises:
            ModernPubMedError: There is none, or the server cannot be reached.
        """
        text, _ = self.read(f"{url}.md5")
        found = Published.read(text)
        if found is None:
            raise ModernPubMedError("holds no MD5", file=f"{url}.md5", remedy="try again later")
        return found

    def fetch(
        self, url: str, path: Path, published: Published, progress: Progress | None = None
    ) -> Published:
        """Fetches a file, verified, in place of what is at ``path``; goes on where it was left.

        Args:
            url: Its address.
            path: Where it goes, with its ``.md5`` beside it, once it is verified.
            published: What ``url.md5`` holds.
            progress: Called with the number of bytes that were just received, below zero where
                received ones turn out to be worthless.

        Returns:
            What ``url.md5`` holds now, where NLM replaced the file meanwhile.

        Raises:
            ModernPubMedError: The server cannot be reached, there is no such file, or what comes
                does not match. What was at ``path`` is then still there.
        """
        progress = progress or _ignore
        partial = _partial(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress(_held_bytes(partial))
        for version in range(_VERSIONS):
            if version:
                # It may be the MD5 that is old: NLM replaces one file after the other.
                published = self.published(url)
            self._complete(url, partial, published.md5, progress)
            if (found := file_md5(partial)) == published.md5:
                _settle(partial)
                partial.replace(path)
                write_beside(path, published)
                forget(path)
                return published
            _discard(partial, progress)
        raise ModernPubMedError(
            f"its MD5 is {found}, NLM's is {published.md5}",
            file=url,
            remedy="try again later: NLM may be replacing it",
        )

    def _complete(self, url: str, partial: Path, md5: str, progress: Progress) -> None:
        """Attempts until the file is there as a whole, unverified."""
        self._persist(
            url,
            lambda: self._download(url, partial, md5, progress),
            lambda: _held_bytes(partial),
        )

    def _download(self, url: str, partial: Path, md5: str, progress: Progress) -> None:
        """One attempt at the rest of a file, or at all of it."""
        held = _Held.read(partial, md5)
        if held is not None and held.size == held.total:
            return
        headers = {}
        if held is not None:
            headers = {"Range": f"bytes={held.size}-", "If-Range": held.validator}
        with self._open(url, headers) as answer:
            length = _length(answer)
            start = 0
            if answer.status == 206 and held is not None:
                if not held.continued_by(answer):
                    _discard(partial, progress)
                    raise _AgainError("the server went on with another version")
                start = held.size
            elif answer.status != 200:
                # Not even the range that we asked for exists: what we hold is of no version.
                _discard(partial, progress)
                raise _AgainError(f"the server answered {answer.status}")
            total = None if length is None else start + length
            if start == 0:
                _discard(partial, progress)
                _Held.write(partial, md5, answer, total)
            with _named(partial), partial.open("ab") as file:
                for chunk in self._receive(answer, length):
                    file.write(chunk)
                    file.flush()
                    progress(len(chunk))

    def _open(self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
        """The server's answer; 416 is one too, other errors are raised."""
        self._wait_for_turn()
        agent = f"modernpubmed/{code_version()} (mirrors PubMed; python-urllib)"
        # The scheme was checked by ``address``.
        request = urllib.request.Request(  # noqa: S310
            url, headers={"User-Agent": agent, **(headers or {})}, method=method
        )
        try:
            answer = urllib.request.urlopen(request, timeout=self.manners.silence)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return error
            with error:
                reason = f"the server answers {error.code} {error.reason}"
                if error.code in _PASSING:
                    raise _AgainError(
                        reason, _retry_after(error.headers.get("Retry-After"))
                    ) from error
                raise ModernPubMedError(
                    f"cannot be fetched ({reason})", file=url, remedy=_ADDRESS
                ) from error
        except http.client.InvalidURL as error:
            raise ModernPubMedError(str(error), file=url, remedy=_ADDRESS) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ModernPubMedError(
                    f"not the server it claims to be ({cause})",
                    file=url,
                    remedy="check the clock, the certificates, and who is between",
                ) from error
            raise _AgainError(str(cause) or type(cause).__name__) from error
        if url.startswith("https:") and not answer.url.startswith("https:"):
            answer.close()
            raise ModernPubMedError(f"leads to {answer.url}", file=url, remedy=_ADDRESS)
        return answer

    def _receive(self, answer: Any, length: int | None) -> Iterator[bytes]:
        """The answer's bytes as they come in; all of them, or an error."""
        since, recent, received = time.monotonic(), 0, 0
        while length is None or received < length:
            try:
                chunk = answer.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _AgainError(str(error) or type(error).__name__) from error
            if self._stopped.is_set():
                raise StoppedError
            if not chunk:
                break
            yield chunk
            received += len(chunk)
            recent += len(chunk)
            if (seconds := time.monotonic() - since) >= self.manners.silence:
                if recent < _SLOWEST * seconds:
                    raise _AgainError("slower than 1 KB/s")
                since, recent = time.monotonic(), 0
        if length is not None and received < length:
            raise _AgainError(f"the connection ended after {received:,} of {length:,} bytes")

    def _persist(self, url: str, once: Callable[[], T], reached: Callable[[], int] = int) -> T:
        """Calls ``once`` until it works, or has failed too often without progress.

        ``reached`` says how many bytes there are; only ever more of them than before count, so
        that a server that always breaks off at the same byte is given up.
        """
        failures, furthest = 0, reached()
        while True:
            try:
                return once()
            except _AgainError as error:
                if reached() >= furthest + _PROGRESS:
                    failures, furthest = 0, reached()
                failures += 1
                if error.wait is not None and error.wait > self.manners.longest_wait:
                    raise UnreachableError(
                        f"{error}, and wants {error.wait:,.0f} seconds of rest",
                        file=url,
                        remedy="run it again after that",
                    ) from error
                if failures >= self.manners.attempts:
                    raise UnreachableError(
                        f"cannot be fetched in {failures} attempts ({error})",
                        file=url,
                        remedy=_NEXT_TIME,
                    ) from error
                self._rest(failures, error.wait)

    def _rest(self, failures: int, wait: float | None) -> None:
        pause = min(60.0, self.manners.pause * 2 ** (failures - 1)) * random.uniform(0.5, 1.5)  # noqa: S311
        if wait is not None:
            # The server is asking all of us.
            with self._lock:
                self._next = max(self._next, time.monotonic() + wait)
        self._sleep(pause)

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + 1 / self.manners.requests_a_second
        self._sleep(turn - time.monotonic())

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(seconds, 0)):
            raise StoppedError


@dataclass(frozen=True, slots=True)
class _Held:
    """What is known of the bytes in a partial file."""

    size: int
    total: int | None
    validator: str

    @classmethod
    def read(cls, partial: Path, md5: str) -> _Held | None:
        """None where nothing can be gone on with: nothing there, or of another version."""
        try:
            size = partial.stat().st_size
            said = json.loads(_note(partial).read_bytes())
            whole = said["total"] == size
            if size and said["md5"] == md5 and (said["validator"] or whole):
                return cls(size, said["total"], said["validator"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None

    @staticmethod
    def write(partial: Path, md5: str, answer: Any, total: int | None) -> None:
        note = {"md5": md5, "validator": _validator(answer), "total": total}
        # Half a note is none.
        _note(partial).write_text(json.dumps(note))

    def continued_by(self, answer: Any) -> bool:
        """Whether the answer is the rest of these bytes, of the same version."""
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        return (
            match is not None
            and int(match[1]) == self.size
            and (self.total is None or match[2] in ("*", str(self.total)))
            # A server may ignore If-Range, yet say that its file is another one.
            and _validator(answer) in ("", self.validator)
        )


def address(base: str) -> str:
    """An address of a folder, with the slash that joins names to it.

    >>> address("http://localhost:8000/pubmed")
    'http://localhost:8000/pubmed/'

    Raises:
        ModernPubMedError: It is not one of HTTP.
    """
    if not base.startswith(("https://", "http://")):
        raise ModernPubMedError("is no address of HTTP", file=base, remedy="give https://…")
    return base if base.endswith("/") else f"{base}/"


def write_beside(path: Path, published: Published) -> None:
    """Writes ``FILE.md5``, byte for byte as NLM has it."""
    write_whole(path.with_name(f"{path.name}.md5"), published.text)


def write_whole(path: Path, text: str) -> None:
    """Writes a file, by another name first: always the same, so that a kill leaves no second one.

    That is why this is not ``manifest.replacing``: it is for one writer at a time.
    """
    temporary = _partial(path)
    temporary.write_text(text, newline="")
    temporary.replace(path)


def forget(path: Path) -> None:
    """Removes what was fetched of ``path`` without being verified."""
    _discard(_partial(path), _ignore)


def _discard(partial: Path, progress: Progress) -> None:
    progress(-_held_bytes(partial))
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _held_bytes(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _settle(partial: Path) -> None:
    """To the disk before it gets its name: a power cut must not leave the name with less."""
    with _named(partial), partial.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file in errors of writing, which do not say where they happened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _validator(answer: Any) -> str:
    """What names a version for If-Range: a strong ETag, else the date, else nothing."""
    tag: str = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    date: str = answer.headers.get("Last-Modified", "")
    return date


def _length(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _retry_after(text: str | None) -> float | None:
    """Seconds; the header holds them, or a date."""
    text = (text or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _ignore(_: int) -> None: ...
