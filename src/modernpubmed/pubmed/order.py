"""NLM's names of files, and the order that they carry.

``pubmed26n1334.xml.gz`` is file 1334 of the year 2026: the baseline counts from 1, and the
updatefiles go on where it ends (https://pubmed.ncbi.nlm.nih.gov/download/). Older files are called
``medline16n0902``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_START = re.compile(r"^(?:pubmed|medline)(\d\d)n(\d{4,})\b")
_NAME = re.compile(r"((?:pubmed|medline)(\d\d)n(\d{4,}))\.xml(?:\.gz)?")


@dataclass(frozen=True, slots=True, order=True)
class Number:
    """Where a file stands among NLM's.

    Attributes:
        year: The last two digits of the year of its baseline.
        number: Its number in that year, from 1.
    """

    year: int
    number: int

    @classmethod
    def of(cls, name: str) -> Self | None:
        """That of a file's name; None of a name that NLM does not give.

        >>> Number.of("pubmed26n1334.xml.gz"), Number.of("pubmed26n1334.xml.gz.md5")
        (Number(year=26, number=1334), None)
        """
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"pubmed{self.year:02}n{self.number:04}"


def stem(name: str) -> str:
    """An NLM file's name without its ending.

    >>> stem("medline16n0902.xml.gz")
    'medline16n0902'
    """
    match = _NAME.fullmatch(name)
    return name if match is None else match[1]


def nlm_order(paths: Sequence[Path]) -> list[Path]:
    """The paths in the order in which their records replace each other.

    Files with other names than NLM's come after, as given.

    >>> [p.name for p in nlm_order([Path("mine.xml"), Path("pubmed26n0002.xml"),
    ...                             Path("medline16n0902.xml.gz"), Path("pubmed26n0001.xml")])]
    ['medline16n0902.xml.gz', 'pubmed26n0001.xml', 'pubmed26n0002.xml', 'mine.xml']
    """

    def key(path: Path) -> tuple[bool, int, int]:
        match = _START.match(path.name)
        return (True, 0, 0) if match is None else (False, int(match[1]), int(match[2]))

    return sorted(paths, key=key)
