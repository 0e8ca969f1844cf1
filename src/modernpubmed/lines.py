"""Files of text, read line by line: plain, gzip or Zstandard; JSON lines; tables.

One way to read for every room, so that each of them unpacks, counts and refuses alike. What a file
is, is read off its first bytes; a name that promises compression which is not there is refused,
since that is how a saved error page looks. A stream that is cut short or damaged is an error, never
an early end. The rooms decide what a line means.

Lines end with a line feed, as in Unix and Windows files; given up: the lone carriage return of the
oldest Mac files.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import zstandard
from isal import igzip

from modernpubmed.errors import ModernPubMedError

_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PROMISED = {".gz": _GZIP, ".zst": _ZSTD}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DamagedError(Exception):
    """Compressed data that end too early, fail their checksum, or are none."""


#: How a refusal is worded, by the exception behind it; ``{error}`` is what that says itself.
_CAUSES: Mapping[type[Exception], str] = {
    OSError: "cannot be read ({error})",
    DamagedError: "cannot be read ({error})",
    UnicodeDecodeError: "cannot be read as UTF-8 text ({error})",
    csv.Error: "cannot be read ({error})",
    ValueError: "not JSON ({error})",
    TypeError: "not a JSON object",
}


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, numbered from 1, each with the line end it has.

    Args:
        path: A file, plain or compressed by gzip or Zstandard. An empty one has no lines. A byte
            order mark is passed over.

    Raises:
        ModernPubMedError: The file is missing or unreadable, its compressed data are damaged, or a
            line is not UTF-8 (names the line before it). Raised when that place is reached.
    """
    for number, line in _byte_lines(path):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            place = f"after line {number - 1}"
            raise _refusal(error, path, place, "save it as UTF-8") from error
        yield number, text


def json_lines(path: Path, shape: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with the number of its line; blank lines are none.

    Args:
        path: A file, plain or compressed by gzip or Zstandard.
        shape: What a line looks like, for the remedy.

    Raises:
        ModernPubMedError: As in ``text_lines``, or the file holds no object, or a line is not UTF-8
            or no JSON object (names the line).
    """
    remedy = f"write each line as {shape}"
    empty = True
    for number, line in _byte_lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            record = json.loads(line.decode())
            if not isinstance(record, dict):
                raise TypeError(type(record).__name__)
        except (ValueError, TypeError) as error:
            raise _refusal(error, path, f"line {number}", remedy) from error
        yield number, record
    if empty:
        raise ModernPubMedError("the file is empty", file=path, remedy=remedy)


def table_rows(
    path: Path, columns: Iterable[str], *, delimiter: Literal["\t", ","] = "\t"
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table, by the names in its first line, each with the number of its line.

    Between tabs, quotation marks are text; between commas they are those of RFC 4180. Blank lines
    are none.

    Args:
        path: A file, plain or compressed by gzip or Zstandard.
        columns: Those that must be there; others may be.
        delimiter: What stands between fields.

    Raises:
        ModernPubMedError: As in ``text_lines``, or the first line lacks a column, or a row has more
            or fewer fields than that, or broken quotes.
    """
    columns = tuple(columns)
    tabs = delimiter == "\t"
    rows = csv.reader(
        (line for _, line in text_lines(path)),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    number = 0
    try:
        header = next(rows, [])
        if not set(columns) <= set(header):
            raise ModernPubMedError(
                f"the header does not name the columns {' and '.join(columns)}",
                file=path,
                record="line 1",
                remedy=f"make {('<TAB>' if tabs else ',').join(columns)} line 1",
            )
        places = {name: header.index(name) for name in header}
        number = rows.line_num
        for row in rows:
            number = rows.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise ModernPubMedError(
                    f"{len(row)} columns where the header has {len(header)}",
                    file=path,
                    record=f"line {number}",
                    remedy="give each row one line"
                    + ("" if tabs else ", and put fields with commas in quotes"),
                )
            yield number, {name: row[place] for name, place in places.items()}
    except csv.Error as error:
        raise _refusal(error, path, f"after line {number}", "save it as a UTF-8 table") from error


def _byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for number, line in enumerate(_split(_unpacked(path)), start=1):
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except OSError as error:
        place = f"after line {number}" if number else None
        remedy = "check the path and its permissions"
        raise _refusal(error, path, place, remedy) from error
    except DamagedError as error:
        place = f"after line {number}"
        raise _refusal(error, path, place, "make or fetch it again") from error


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []  # pieces of one line, so that a long one is joined once
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for other in others:
            yield b"".join(rest) + b"\n"
            rest = [other]
    if last := b"".join(rest):
        yield last


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        start = file.read(len(_ZSTD))
    promised = _PROMISED.get(path.suffix)
    if promised is not None and not start.startswith(promised):
        raise DamagedError(f"named {path.suffix}, but its content is none")
    if start.startswith(_GZIP):
        return _gzip_chunks(path)
    return _zstd_chunks(path) if start == _ZSTD else _plain_chunks(path)


def _plain_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _gzip_chunks(path: Path) -> Iterator[bytes]:
    try:
        with igzip.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error, igzip.isal_zlib.error) as error:
        raise DamagedError(error) from error


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    # The library's stream reader takes a file cut short for one that ended; this does not.
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    try:
        for chunk in _plain_chunks(path):
            data = chunk
            while data:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(data)
                data = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise DamagedError(error) from error
    if not frame.eof:
        raise DamagedError("it ends in the middle of a frame")


def _refusal(error: Exception, path: Path, place: str | None, remedy: str) -> ModernPubMedError:
    cause = next(_CAUSES[kind] for kind in type(error).__mro__ if kind in _CAUSES)
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ModernPubMedError(cause.format(error=said), file=path, record=place, remedy=remedy)
