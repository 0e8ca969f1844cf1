"""A corpus on disk: what is in its folder, and the one moment at which its state changes.

::

    CORPUS/
      manifest.json               which files count, in order, and which bits: the commit point
      live/AS-OF-HASH.npy         one bit a row: is it in the latest state
      files/NAME-MD5/             one NLM file, converted (articles, deletions, report)
      keys/NAME-MD5.npy           its (PMID, Version, row), sorted

Everything but the manifest has a name that its content decides, is written to a temporary name and
renamed, and is never changed afterwards. So a killed run leaves the old manifest with all that it
names, and whatever it had finished is found and used by the next one. The manifest is replaced
last, in one rename; then, and only then, what nothing names any more is removed.

The state is a function of the files alone, without dates or histories: the same files give the
same bytes, in one run or in a hundred, killed or not. Therefore the manifest's ``created`` is
empty; ``as_of`` says which file was the last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modernpubmed.articles import CORPUS_KIND, CORPUS_LAYOUT, corpus_manifest, live_bits
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import MANIFEST_NAME, Manifest, refuse_other_files, replacing
from modernpubmed.pubmed.convert import FileReport
from modernpubmed.pubmed.keys import events, tally, touched, write_keys
from modernpubmed.pubmed.latest import DELETED, DELETION, IDLE, LIVE, OLDER, SUPERSEDED
from modernpubmed.pubmed.order import Number, stem

FILES, KEYS, LIVE_BITS = "files", "keys", "live"

# More changed keys than this are not looked up one by one: everything is computed again.
_LOOKED_UP = 8_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One NLM file in a corpus.

    Attributes:
        report: What was found when it was converted.
        live: How many of its records are in the latest state.
    """

    report: FileReport
    live: int = 0

    @property
    def folder(self) -> str:
        """The name of its folder, which its content decides."""
        return folder_name(self.report.name, self.report.md5)

    @property
    def number(self) -> Number:
        """Its place among NLM's files."""
        number = Number.of(self.report.name)
        if number is None:
            raise ModernPubMedError("this is no name of NLM's", file=self.report.name)
        return number

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {**self.report.as_dict(), "folder": self.folder, "live": self.live}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of the manifest."""
        report = {name: values[name] for name in values if name not in ("folder", "live")}
        return cls(FileReport.from_dict(report), values["live"])


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus as its manifest describes it.

    Attributes:
        path: Its folder.
        entries: The files that count, in NLM's order.
        totals: How many records and deletions came to each outcome, by ``_TOTALS``.
        unapplied: Files that were given last time and do not count, with the reason.
        failures: How many of these are bad.
        live: The file of bits, below ``path``; empty where no file counts.
    """

    path: Path
    entries: tuple[Entry, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    unapplied: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    live: str = ""

    @classmethod
    def open(cls, path: Path) -> Self:
        """The corpus in a folder; where there is nothing yet, an empty one is begun there.

        Raises:
            ModernPubMedError: The folder holds something else.
        """
        begun = _temporary(path)
        if begun and begun == {child.name for child in path.iterdir()}:
            # A run was killed before there was anything else.
            for name in begun:
                shutil.rmtree(path / name)
        own = {FILES, KEYS, LIVE_BITS, *begun}
        refuse_other_files(path, CORPUS_KIND, own, "this is no corpus")
        if (path / MANIFEST_NAME).is_file():
            return cls.read(path)
        corpus = cls(path)
        corpus.manifest().write(path)
        return corpus

    @classmethod
    def read(cls, path: Path) -> Self:
        """The corpus in a folder.

        Raises:
            ModernPubMedError: There is none, or it is of another layout.
        """
        manifest = corpus_manifest(path)
        settings, dropped = manifest.settings, manifest.dropped
        return cls(
            path,
            tuple(map(Entry.from_dict, settings["files"])),
            {name: {**manifest.counts, **dropped}[name] for name in _TOTALS},
            settings["unapplied"],
            manifest.counts["failures"],
            settings["live"],
        )

    @property
    def year(self) -> int | None:
        """The year of its baseline, two digits."""
        return self.entries[-1].number.year if self.entries else None

    @property
    def as_of(self) -> str:
        """The name of the last file that counts, without its ending."""
        return stem(self.entries[-1].report.name) if self.entries else ""

    @property
    def gaps(self) -> list[str]:
        """Files before the last that do not count, as ``gaps`` says them."""
        return gaps([entry.number for entry in self.entries])

    def keys(self, entry: Entry) -> Path:
        """The keys of a file."""
        return self.path / KEYS / f"{entry.folder}.npy"

    def manifest(self) -> Manifest:
        """What is written to ``manifest.json``."""
        reports = [entry.report for entry in self.entries]
        total = {name: self.totals.get(name, 0) for name in _TOTALS}
        return Manifest(
            kind=CORPUS_KIND,
            inputs={report.name: report.sha256 for report in reports},
            settings={
                "layout": CORPUS_LAYOUT,
                "as_of": self.as_of,
                "live": self.live,
                "gaps": self.gaps,
                "unapplied": dict(self.unapplied),
                "files": [entry.as_dict() for entry in self.entries],
            },
            counts={
                "files": len(reports),
                "md5 checked": sum(report.md5_checked for report in reports),
                "articles read": sum(report.articles for report in reports),
                "articles": total["articles"],
                "revisions": total["superseded"],
                "deletions": sum(report.deletions for report in reports),
                "deletions of nothing": total["deletions of nothing"],
                "failures": self.failures,
            },
            dropped={
                "superseded": total["superseded"],
                "deleted": total["deleted"],
                "older version": total["older version"],
                "book": sum(report.books for report in reports),
            },
            created="",
        )


#: Totals over all files, and the outcome that each counts.
_TOTALS = {
    "articles": LIVE,
    "superseded": SUPERSEDED,
    "deleted": DELETED,
    "older version": OLDER,
    "deletions of nothing": IDLE,
}


def folder_name(name: str, md5: str) -> str:
    """The folder of an NLM file: republished bytes get another one.

    >>> folder_name("pubmed20n1015.xml.gz", "5e72894eb9bc4dfd6745c02e53e54f85")
    'pubmed20n1015-5e72894eb9bc'
    """
    return f"{stem(name)}-{md5[:12]}"


def gaps(numbers: Sequence[Number]) -> list[str]:
    """The runs of files of a year that are missing before its last: from 1, sorted numbers given.

    >>> gaps([Number(26, 3), Number(26, 4), Number(26, 6)])
    ['pubmed26n0001 to pubmed26n0002', 'pubmed26n0005']
    """
    found, expected = [], 1
    for number in numbers:
        if number.number > expected:
            found.append(span(expected, number))
        expected = number.number + 1
    return found


def span(first: int, end: Number) -> str:
    """The files from a number to before another one.

    >>> span(3, Number(26, 5))
    'pubmed26n0003 to pubmed26n0004'
    """
    start, last = Number(end.year, first), Number(end.year, end.number - 1)
    return str(start) if start == last else f"{start} to {last}"


def with_state(before: Corpus, entries: Sequence[Entry]) -> Corpus:
    """The corpus of some other files, its bits written; ``before`` is not changed.

    Where most files are those of ``before``, only the PMIDs of the others are looked at.

    Args:
        before: The corpus as it is.
        entries: The files that are to count, in NLM's order, at least one; all converted. Their
            ``live`` is computed here.
    """
    path = before.path
    _make_missing_keys(before, entries)
    old, new = ([before.keys(entry) for entry in some] for some in (before.entries, entries))
    kept = set(old).intersection(new)
    changed = [file for file in dict.fromkeys([*old, *new]) if file not in kept]
    sizes = {
        before.keys(entry): entry.report.articles + entry.report.deletions
        for entry in (*before.entries, *entries)
    }
    looked_up = sum(sizes[file] for file in changed)
    pmids, known = None, np.zeros(len(_TOTALS), np.int64)
    outcomes = list(_TOTALS.values())
    rows = np.array([entry.report.articles for entry in entries])
    start = np.cumsum(-(-rows // 8)) - -(-rows // 8)
    bits = np.zeros(int(sum(-(-rows // 8))) * 8, np.uint8)
    if kept and looked_up <= min(_LOOKED_UP, sum(sizes.values()) // 2):
        pmids = touched(changed)
        known = np.array([before.totals[name] for name in _TOTALS]) - tally(old, pmids)[outcomes]
        _copy_bits(before, entries, start, bits)
    for keys, place, outcome in events(new, pmids):
        record = keys["row"] != DELETION
        at = start[place[record]] * 8 + keys["row"][record]
        bits[at] = outcome[record] == LIVE
        known = known + np.bincount(outcome, minlength=max(outcomes) + 1)[outcomes]
    live = [
        int(bits[8 * first : 8 * first + count].sum())
        for first, count in zip(start.tolist(), rows.tolist(), strict=True)
    ]
    packed = np.packbits(bits)
    as_of = stem(entries[-1].report.name)
    name = f"{LIVE_BITS}/{as_of}-{hashlib.sha256(packed.tobytes()).hexdigest()[:12]}.npy"
    with replacing(path / name) as temporary, temporary.open("wb") as file:
        np.save(file, packed)
    settle(path / name)
    return Corpus(
        path,
        tuple(replace(entry, live=count) for entry, count in zip(entries, live, strict=True)),
        dict(zip(_TOTALS, known.tolist(), strict=True)),
        live=name,
    )


def _copy_bits(
    before: Corpus, entries: Sequence[Entry], start: NDArray[Any], bits: NDArray[np.uint8]
) -> None:
    """Takes over the bits of the files that both have."""
    old = live_bits(before.path, before.manifest())
    places: dict[str, slice] = {}
    at = 0
    for entry in before.entries:
        size = -(-entry.report.articles // 8)
        places[entry.folder] = slice(at, at + size)
        at += size
    for entry, first in zip(entries, start.tolist(), strict=True):
        if entry.folder in places:
            part = np.unpackbits(old[places[entry.folder]])
            bits[8 * first : 8 * first + part.size] = part


def _make_missing_keys(corpus: Corpus, entries: Sequence[Entry]) -> None:
    folder = corpus.path / KEYS
    folder.mkdir(exist_ok=True)
    there = {child.name for child in folder.iterdir()}
    for entry in (*corpus.entries, *entries):
        if (target := corpus.keys(entry)).name not in there:
            write_keys(corpus.path / FILES / entry.folder, target)
            settle(target)


def commit(corpus: Corpus) -> None:
    """Makes a corpus what its folder holds; the one rename that everything waits for.

    Its files are on the disk before, not only in the machine's memory, so that this holds when the
    power fails too.
    """
    manifest = corpus.manifest()
    if Manifest.read(corpus.path) == manifest:
        return
    for name in (FILES, KEYS, LIVE_BITS):
        if (folder := corpus.path / name).is_dir():
            _sync(folder)
    with replacing(corpus.path / MANIFEST_NAME) as temporary:
        manifest.write(temporary)
        _sync(temporary)
    _sync(corpus.path)


def settle(path: Path) -> None:
    """Waits until a file, or each file of a folder and its name in it, is on the disk."""
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(corpus: Corpus, waiting: Collection[str]) -> None:
    """Removes what neither counts nor waits for its turn: leftovers of killed runs, old contents.

    Args:
        corpus: The corpus, committed.
        waiting: Folders of files that are converted and do not count yet.
    """
    for path in leftovers(corpus, waiting):
        if path.is_dir():
            # Out of its name first: half a folder must not look like a whole one.
            gone = path if path.name.startswith(".") else path.with_name(f".{path.name}.gone")
            shutil.rmtree(path.rename(gone))
        else:
            path.unlink()


def leftovers(corpus: Corpus, waiting: Collection[str] = ()) -> list[Path]:
    """What is in a corpus's folder and is not part of it."""
    folders = {entry.folder for entry in corpus.entries} | set(waiting)
    own = {
        corpus.path / FILES: folders,
        corpus.path / KEYS: {f"{folder}.npy" for folder in folders},
        corpus.path / LIVE_BITS: {Path(corpus.live).name},
    }
    found = [corpus.path / name for name in _temporary(corpus.path)]
    for folder, names in own.items():
        if folder.is_dir():
            found += [child for child in folder.iterdir() if child.name not in names]
    return sorted(found)


def _temporary(path: Path) -> set[str]:
    """Names of what ``replacing`` left beside the manifest when it was killed."""
    start = f".{MANIFEST_NAME}."
    return {child.name for child in path.glob(f"{start}*")} if path.is_dir() else set()
