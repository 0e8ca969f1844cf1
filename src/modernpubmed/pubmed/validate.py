"""Everything that must hold of a corpus, checked and said: the verb ``validate``.

Each check passes, warns (worth a look, and may be right), fails, is skipped (there is nothing to
check), or was NOT CHECKED (what it needs is not here): silence is never a pass. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.articles import ARTICLES_NAME, Part, article_batches, parts
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256
from modernpubmed.pubmed.consolidate import given_files
from modernpubmed.pubmed.convert import FileReport
from modernpubmed.pubmed.corpus import FILES, Corpus, leftovers
from modernpubmed.pubmed.keys import DELETIONS_NAME, load_keys, read_keys
from modernpubmed.pubmed.language import is_foreign
from modernpubmed.pubmed.recount import recount
from modernpubmed.schemas import ARTICLE_SCHEMA

Outcome = Literal["pass", "warn", "fail", "skip", "NOT CHECKED"]
Progress = Callable[[str, int, int], None]

# PubMed's oldest records are of 1781; its dates run a year ahead of the day they are published.
_FIRST_YEAR, _YEARS_AHEAD = 1700, 2
_NAMED = 5
_LONG = 100
_DAMAGED = "a table is damaged"
_KEYS = "keys are those of the tables"
_OF_RECORDS = (
    "one record a PMID",
    "no deleted PMID alive",
    "the newest record is shown",
    "nothing is lost",
    "the outcomes are as counted",
    "PMIDs and versions are positive",
    "dates are plausible",
    "abstracts are in English",
    "other abstracts are kept apart",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and whether it does.

    Attributes:
        name: What must hold.
        outcome: Whether it does.
        detail: How much was looked at, or what was found.
    """

    name: str
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        return f"{self.outcome:<11}  {self.name}: {self.detail}"


def validate(
    path: Path, mirror: Path | None = None, *, progress: Progress | None = None
) -> Iterator[Check]:
    """Checks a corpus; yields each check as it is done.

    Args:
        path: What ``consolidate`` made.
        mirror: The files it was made of; their checksums are NOT CHECKED without it.
        progress: Called with what is being done, how much of it is done, and of how much.
    """
    try:
        corpus = Corpus.read(path)
        read = list(parts(path))
    except ModernPubMedError as error:
        yield Check("the manifest and its bits", "fail", str(error))
        return
    files = len(corpus.entries)
    yield Check("the manifest and its bits", "pass", f"{files:,} files, as of {corpus.as_of}")
    yield _order(corpus)
    yield _gaps(corpus)
    yield _reports(corpus)
    tables = _tables(corpus)
    yield tables
    whole = tables.outcome == "pass"
    yield _keys(corpus) if whole else Check(_KEYS, "NOT CHECKED", _DAMAGED)
    yield _totals(corpus, read)
    yield _inputs(corpus, mirror, progress)
    yield _accounted(corpus, mirror)
    yield _md5(corpus)
    yield _leftovers(corpus)
    if not whole:
        yield from (Check(name, "NOT CHECKED", _DAMAGED) for name in _OF_RECORDS)
        return
    yield from _recounted(corpus, read, progress)
    yield from _contents(corpus, progress)


def _order(corpus: Corpus) -> Check:
    numbers = [entry.number for entry in corpus.entries]
    name = "files are in NLM's order, each once, of one year"
    if len({number.year for number in numbers}) > 1:
        return Check(name, "fail", "they are of several years")
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        return Check(name, "fail", "they are not")
    return Check(name, "pass", f"{numbers[0]} to {numbers[-1]}")


def _gaps(corpus: Corpus) -> Check:
    found = corpus.gaps
    return _unless(
        found, "no file is missing", "warn", "none is missing", f"missing: {_few(found)}"
    )


def _reports(corpus: Corpus) -> Check:
    wrong = []
    for entry in corpus.entries:
        folder = corpus.path / FILES / entry.folder
        try:
            if FileReport.read(folder) != entry.report:
                wrong.append(f"{entry.folder} (its report differs)")
        except ModernPubMedError as error:
            wrong.append(f"{entry.folder} ({error.cause})")
    count = f"{len(corpus.entries):,} reports agree with the manifest"
    return _unless(wrong, "every file's folder is there", "fail", count, _few(wrong))


def _tables(corpus: Corpus) -> Check:
    """Schema and number of rows of every table, from its own metadata."""
    wrong = []
    for entry in corpus.entries:
        folder = corpus.path / FILES / entry.folder
        for name, rows in (
            (ARTICLES_NAME, entry.report.articles),
            (DELETIONS_NAME, entry.report.deletions),
        ):
            try:
                with pq.ParquetFile(folder / name) as file:
                    schema, found = file.schema_arrow, file.metadata.num_rows
            except (pa.ArrowException, OSError) as error:
                wrong.append(f"{entry.folder}/{name} ({error})")
                continue
            wanted = ARTICLE_SCHEMA.names if name == ARTICLES_NAME else ["pmid", "version"]
            if schema.names != wanted or (name == ARTICLES_NAME and schema != ARTICLE_SCHEMA):
                wrong.append(f"{entry.folder}/{name} (other columns)")
            elif found != rows:
                wrong.append(f"{entry.folder}/{name} ({found:,} rows, {rows:,} reported)")
    count = f"{2 * len(corpus.entries):,} tables"
    return _unless(wrong, "tables have their schema and their rows", "fail", count, _few(wrong))


def _keys(corpus: Corpus) -> Check:
    wrong = []
    for entry in corpus.entries:
        try:
            keys = load_keys(corpus.keys(entry))
            if not np.array_equal(keys, read_keys(corpus.path / FILES / entry.folder)):
                wrong.append(f"{entry.folder} (they differ)")
        except ModernPubMedError as error:
            wrong.append(f"{entry.folder} ({error.cause})")
    count = f"{len(corpus.entries):,} files' keys"
    return _unless(wrong, _KEYS, "fail", count, _few(wrong))


def _totals(corpus: Corpus, read: Sequence[Part]) -> Check:
    wrong = [
        f"{entry.folder}: {int(part.live.sum()):,} bits set, the manifest says {entry.live:,}"
        for entry, part in zip(corpus.entries, read, strict=True)
        if int(part.live.sum()) != entry.live
    ]
    live, totals = sum(entry.live for entry in corpus.entries), corpus.totals
    if live != totals["articles"]:
        wrong.append(f"{live:,} live rows, {totals['articles']:,} articles")
    records = sum(entry.report.articles for entry in corpus.entries)
    gone = [totals[name] for name in ("superseded", "deleted", "older version")]
    if records != totals["articles"] + sum(gone):
        wrong.append(f"{records:,} records, but their outcomes are {totals}")
    orders = sum(entry.report.deletions for entry in corpus.entries)
    if orders != totals["deleted"] + totals["deletions of nothing"]:
        wrong.append(f"{orders:,} deletions, but their outcomes are {totals}")
    count = " + ".join(f"{number:,}" for number in (totals["articles"], *gone))
    said = f"{records:,} records read = {count} (live, superseded, deleted, older version)"
    return _unless(wrong, "counts add up", "fail", said, _few(wrong))


def _inputs(corpus: Corpus, mirror: Path | None, progress: Progress | None) -> Check:
    name = "the files are the ones it was made of"
    if mirror is None:
        return Check(name, "NOT CHECKED", "give --mirror to compare their checksums")
    try:
        given = given_files([mirror])
    except ModernPubMedError as error:
        return Check(name, "fail", str(error))
    wrong, absent = [], []
    for place, entry in enumerate(corpus.entries, start=1):
        file = given.get(entry.number)
        if file is None:
            absent.append(entry.report.name)
        elif sha256(file) != entry.report.sha256:
            wrong.append(f"{entry.report.name} has other bytes now")
        if progress is not None:
            progress("files compared", place, len(corpus.entries))
    if wrong:
        return Check(name, "fail", _few(wrong))
    same = f"{len(corpus.entries) - len(absent):,} have the SHA-256 that was recorded"
    return _unless(absent, name, "warn", same, f"{same}; not there: {_few(absent)}")


def _accounted(corpus: Corpus, mirror: Path | None) -> Check:
    name = "every input is accounted for"
    unused = [f"{file} ({why})" for file, why in corpus.unapplied.items()]
    if mirror is not None:
        counted = {entry.report.name for entry in corpus.entries} | set(corpus.unapplied)
        try:
            given = given_files([mirror])
        except ModernPubMedError:
            given = {}
        unused += [
            f"{p.name} (not consolidated yet)" for p in given.values() if p.name not in counted
        ]
    count = f"all {len(corpus.entries):,} given count"
    return _unless(unused, name, "warn", count, f"{len(unused):,} do not count: {_few(unused)}")


def _md5(corpus: Corpus) -> Check:
    unchecked = [entry.report.name for entry in corpus.entries if not entry.report.md5_checked]
    total = len(corpus.entries)
    count = f"{total - len(unchecked):,} of {total:,}"
    return _unless(
        unchecked,
        "files were checked against NLM's MD5",
        "warn",
        count,
        f"{count}; {_few(unchecked)} not",
    )


def _leftovers(corpus: Corpus) -> Check:
    found = [str(path.relative_to(corpus.path)) for path in leftovers(corpus)]
    detail = f"{len(found):,} neither count nor are read: {_few(found)}"
    return _unless(found, "nothing is left over in the folder", "warn", "nothing is", detail)


def _recounted(corpus: Corpus, read: Sequence[Part], progress: Progress | None) -> Iterator[Check]:
    events = sum(entry.report.articles + entry.report.deletions for entry in corpus.entries)
    found = recount(read, events, progress)
    said = {
        "twice": f"{corpus.totals['articles']:,} PMIDs",
        "deleted": f"{corpus.totals['deleted']:,} records deleted",
        "stale": f"{corpus.totals['superseded']:,} superseded",
        "lost": f"{found.counts['articles']:,} PMIDs are there",
    }
    for name, (kind, count) in zip(_OF_RECORDS, said.items(), strict=False):
        if faults := found.faults[kind]:
            yield Check(name, "fail", f"{faults:,} are not so, such as {found.examples[kind]}")
        elif kind == "deleted" and not any(entry.report.deletions for entry in corpus.entries):
            yield Check(name, "skip", "there is no deletion")
        else:
            yield Check(name, "pass", f"{count}, recounted by a dictionary")
    wrong = [
        f"{found.counts[name]:,} {name}, the manifest says {total:,}"
        for name, total in corpus.totals.items()
        if found.counts[name] != total
    ]
    yield _unless(wrong, _OF_RECORDS[4], "fail", f"{events:,} records and deletions", _few(wrong))


def _contents(corpus: Corpus, progress: Progress | None) -> Iterator[Check]:
    """What only the records themselves can say, in one pass over them."""
    latest = 2000 + (corpus.year or 0) + _YEARS_AHEAD
    seen = dated = sections = others = 0
    bad: list[int] = []
    odd: list[int] = []
    foreign: list[int] = []
    copied: list[int] = []
    columns = ["pmid", "version", "year", "sections", "other_abstracts"]
    for batch in article_batches(corpus.path, columns):
        pmid, version, year, abstract, other = (batch.column(name) for name in columns)
        pmids, years = pmid.to_numpy(), year.fill_null(0).to_numpy(zero_copy_only=False)
        bad += pmids[(pmids < 1) | (version.to_numpy() < 1)].tolist()
        odd += pmids[(years != 0) & ((years < _FIRST_YEAR) | (years > latest))].tolist()
        dated += int((years != 0).sum())
        texts = abstract.flatten().field("text")
        owners = np.repeat(pmids, abstract.value_lengths().to_numpy())
        foreign += owners[is_foreign(texts)].tolist()
        sections += len(texts)
        for row in np.flatnonzero(other.value_lengths().to_numpy()).tolist():
            others += 1
            own = {section["text"] for section in abstract[row].as_py()}
            theirs = {s["text"] for one in other[row].as_py() for s in one["sections"]}
            # "Ontario, Canada." is the same in both languages.
            copied += [int(pmids[row])] if any(len(t) >= _LONG for t in own & theirs) else []
        seen += batch.num_rows
        if progress is not None:
            progress("articles read", seen, corpus.totals["articles"])
    positive, plausible, english, apart = _OF_RECORDS[5:]
    yield _unless(bad, positive, "fail", f"{seen:,} articles", _pmids(bad))
    if dated:
        said = f"{dated:,} of {seen:,} articles have a year, {_FIRST_YEAR} to {latest}"
        yield _unless(odd, plausible, "warn", said, _pmids(odd))
    else:
        yield Check(plausible, "skip", "no article has a year")
    if sections:
        said = f"{sections:,} sections, by a rule of thumb"
        yield _unless(foreign, english, "warn", said, _pmids(foreign))
    else:
        yield Check(english, "skip", "there is no abstract")
    if others:
        said = f"{others:,} articles have one, and none of its text is in the abstract"
        yield _unless(copied, apart, "warn", said, _pmids(copied))
    else:
        yield Check(apart, "skip", "there is none")


def _unless(found: Sequence[object], name: str, else_: Outcome, well: str, detail: str) -> Check:
    return Check(name, else_, detail) if found else Check(name, "pass", well)


def _few(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED:,} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more


def _pmids(found: Sequence[int]) -> str:
    return f"{len(found):,}: PMID {_few([str(pmid) for pmid in found])}"
