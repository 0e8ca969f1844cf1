"""What a server's folder holds: NLM's files by name, read off its index page.

Servers write these pages in their own ways (Apache, nginx, Caddy, Python; HTML, JSON, plain text,
XML of object stores). What they share is that each file's name stands in a row with what the
server says of it, so that is all we rely on: our names are unmistakable, and the text from one
name to the next is about the first. It tells the size, roughly, and whether anything changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path

from modernpubmed.pubmed.order import nlm_order

#: NLM's folder, over HTTPS; it holds ``baseline/`` and ``updatefiles/``.
NLM = "https://ftp.ncbi.nlm.nih.gov/pubmed/"

_NAME = re.compile(r"(?<![\w.-])((?:pubmed|medline)\d\dn\d{4,}\.xml\.gz)(\.md5)?(?![\w.-])")
# Also the end of the tag in which a row begins, and the start of the one in which it ends.
_TAG = re.compile(r"^[^<>]*>|<[^<>]*>|<[^<>]*$")
#: Longer than any row; what comes after the last one may be.
_ROW = 600
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)(?!\d)")
_NAMED_DATE = re.compile(r"\b(\d{1,2})[- ]([A-Z][a-z]{2})[- ](\d{4})\b")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_TIME = re.compile(r"\d\d:\d\d(?::\d\d)?(?:\.\d+)?")
_SIZE = re.compile(r"(?<![\w.-])(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?(?![\w.-])")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True, slots=True)
class Listed:
    """One of NLM's files as a server's index shows it.

    Attributes:
        name: ``pubmed26n1335.xml.gz``.
        about: All that the index says of it and of its ``.md5``; the same as long as both are.
        day: When the younger of the two was changed, in the server's own time zone.
        size: In bytes, as exact as the index is (Apache's "19M" is within half a megabyte).
    """

    name: str
    about: str
    day: date | None
    size: int | None


def read_listing(page: str) -> list[Listed]:
    """NLM's files on an index page, in the order of their years and numbers.

    >>> read_listing('<a href="pubmed26n0001.xml.gz">pubmed26n0001.xml.gz</a> 2026-01-10 14:05 19M')
    [Listed(name='pubmed26n0001.xml.gz', about='2026-01-10 14:05 19M',
            day=datetime.date(2026, 1, 10), size=19922944)]
    """
    # By name, and by whether it is of the ".md5".
    said: dict[str, dict[bool, list[str]]] = {}
    matches = list(_NAME.finditer(page))
    for match, following in zip_longest(matches, matches[1:]):
        text = page[match.end() : len(page) if following is None else following.start()]
        row = " ".join(_TAG.sub(" ", text[:_ROW]).split()).strip("\"', ")
        said.setdefault(match[1], {}).setdefault(match[2] is not None, []).append(row)
    listed: dict[Path, Listed] = {}
    for name, rows in said.items():
        data, md5 = (" ".join(filter(None, rows.get(part, []))) for part in (False, True))
        about = " | ".join(filter(None, (data, md5)))
        # A sidecar alone is no file.
        if False in rows:
            listed[Path(name)] = Listed(name, about, _youngest(about), _size(data))
    return [listed[path] for path in nlm_order([*listed])]


def _youngest(about: str) -> date | None:
    days = []
    for year, month, day in _ISO_DATE.findall(about):
        days.append((int(year), int(month), int(day)))
    for day, month, year in _NAMED_DATE.findall(about):
        if month in _MONTHS:
            days.append((int(year), _MONTHS.index(month) + 1, int(day)))
    try:
        return max((date(*one) for one in days), default=None)
    except ValueError:
        return None


def _size(row: str) -> int | None:
    told = row
    for pattern in (_ISO_DATE, _NAMED_DATE, _TIME):
        told = pattern.sub(" | ", told)
    # Without a date it is no row of an index, but a name in a text.
    sizes = [float(number) * 2 ** _UNITS[unit] for number, unit in _SIZE.findall(told)]
    return round(max(sizes)) if sizes and told != row else None
