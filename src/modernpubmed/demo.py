"""The demonstration: the main job on real text, with the model in the package and without torch.

Two forms. ``on_phenotypes`` needs no network: the Human Phenotype Ontology, from a package, stands
in for a corpus. ``on_pubmed`` does the same on the newest file that NLM has published. Each says
as it goes what it does, how long that took, and at the end what to do next.
"""

from __future__ import annotations

import os
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.concepts import Concept, build_matcher, hpo, name_to_definition_suite
from modernpubmed.encoder import Encoder, TruncationWarning
from modernpubmed.evaluation.compare import compare
from modernpubmed.evaluation.comparison import Comparison
from modernpubmed.evaluation.rendering import render_text
from modernpubmed.evaluation.similarity import similarity_examples
from modernpubmed.manifest import Manifest
from modernpubmed.pairs import build_pairs, read_pairs
from modernpubmed.pubmed import parse_files
from modernpubmed.pubmed.fetch import fetch_newest_updatefile
from modernpubmed.search import Document, build_index, open_index, search_many
from modernpubmed.suites import Suite

#: Questions in one's own words; none is an HPO name or definition. The sample holds an answer to
#: each, which it would not to any question (docs/lab-notes.md lists some that go wrong, and why).
SEARCHES = (
    "difficulty recognising familiar faces",
    "blood in the urine seen only under the microscope",
    "yellow skin and eyes in a newborn",
)
#: What a clinical note might say.
MENTIONS = (
    "can't hear well on both sides since birth",
    "heart skips beats",
    "swollen ankles by the end of the day",
)
#: Searches for an arbitrary day of PubMed.
PUBMED_SEARCHES = (
    "does exercise help older adults with depression",
    "resistance to immune checkpoint inhibitors in lung cancer",
    "artificial intelligence reading chest radiographs",
)
#: Every how many-th concept has its definition encoded: all 16,449 would take two minutes on two
#: cores by themselves. Fewer documents are easier to tell apart, so the output says how many.
DEFINITION_STEP = 4
#: How many pairs of an NLM file are encoded, the first ones: a few minutes on two cores, where all
#: of them, some tens of thousands, would take an hour.
MOST_PAIRS = 2000

_WIDTH = 100

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]


class _Remembering:
    """An encoder that keeps its vectors, since the demonstration meets the same texts again."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.name = encoder.name
        self.dimension = encoder.dimension
        self.fingerprint = encoder.fingerprint

    @property
    def truncated(self) -> int:
        return self._encoder.truncated

    def encode(self, texts: Sequence[str], *, prompt: str = "") -> NDArray[np.float32]:
        prompted = [prompt + text for text in texts]
        new = [text for text in dict.fromkeys(prompted) if text not in self._known]
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in prompted])

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode(texts, prompt=self._encoder.prompts["query"])

    def encode_document(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode(texts, prompt=self._encoder.prompts["document"])


def on_phenotypes(say: Say, report: Report) -> Comparison:
    """The demonstration on the Human Phenotype Ontology.

    Args:
        say: Called with each piece of output.
        report: Called with what is under way, how much of it is done, and of how much.

    Returns:
        The comparison with BM25 that it printed.

    Raises:
        ModernPubMedError: The extras ``search`` or ``hpo`` are not installed.
    """
    start = time.perf_counter()
    with _uninterrupted():
        encoder = _load(say)
        ontology = hpo()
        concepts = ontology.concepts
        release = "" if ontology.version is None else f" ({ontology.version})"
        _paragraph(
            f"The Human Phenotype Ontology{release}: {len(concepts):,} concepts with "
            f"{sum(len(c.synonyms) for c in concepts):,} synonyms; {ontology.obsolete:,} obsolete "
            "ones left out. Never used in training.",
            say,
        )
        clock = time.perf_counter()
        matcher = build_matcher(
            concepts,
            encoder,
            report=lambda done, total: report("encoding names and synonyms", done, total),
        )
        say(f"Names and synonyms encoded in {time.perf_counter() - clock:.0f} s.")

        defined = [concept for concept in concepts if concept.definition]
        sample = defined[::DEFINITION_STEP]
        suite = name_to_definition_suite(sample, name="HPO name → definition")
        _paragraph(
            "1. Does a concept's name find its definition? "
            + _among(len(sample), len(defined), "definitions", f"one in {DEFINITION_STEP}"),
            say,
        )
        comparison = _against_bm25(encoder, suite, say, report)

        _paragraph("2. Searching these definitions in one's own words (cosine, id, name):", say)
        names = {concept.curie: concept.name for concept in sample}
        _search(encoder, [_definition(concept) for concept in sample], SEARCHES, names, say)

        _paragraph(
            "3. Matching what a clinical note says to all concepts (cosine, id, name, and the "
            "synonym that matched):",
            say,
        )
        for found in matcher.match_many(MENTIONS, k=3):
            say(f'\n  "{found.mention}"')
            for match in found.matches:
                form = "" if match.form == match.name else f"  ({match.form})"
                say(_fit(f"    {match.score:5.2f}  {match.curie}  {match.name}{form}"))
    _end(start, say)
    return comparison


def on_pubmed(say: Say, report: Report, folder: Path) -> Comparison:
    """The demonstration on the newest updatefile that NLM has published.

    Args:
        say: Called with each piece of output.
        report: Called with what is under way, how much of it is done, and of how much.
        folder: Where the file is kept, for the next time.

    Returns:
        The comparison with BM25 that it printed.

    Raises:
        ModernPubMedError: NLM cannot be reached, or the extra ``search`` is not installed.
    """
    start = time.perf_counter()
    encoder = _load(say)
    file = fetch_newest_updatefile(
        folder, report=lambda done, total: report("fetching NLM's newest file", done, total)
    )
    comparison = of_nlm_file(file, encoder, say, report)
    _end(start, say)
    return comparison


def of_nlm_file(file: Path, encoder: _Remembering, say: Say, report: Report) -> Comparison:
    """Articles, pairs, metrics and searches of one NLM file; see ``on_pubmed``.

    Raises:
        ModernPubMedError: The file is damaged, or no pair can be made of it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clock = time.perf_counter()
        articles = parse_files([file], Path(scratch) / "articles")
        seconds = time.perf_counter() - clock
        _paragraph(
            f"{file.name}: {articles.counts['articles']:,} articles, parsed in {seconds:.0f} s "
            f"(left out: {_left_out(articles)}).",
            say,
        )
        pairs = build_pairs([Path(scratch) / "articles"], Path(scratch) / "pairs", dev_share=1.0)
        found = pairs.counts["dev"]
        _paragraph(
            f"{found:,} pairs of title and abstract made of them (left out: {_left_out(pairs)}).",
            say,
        )
        kept = list(islice(read_pairs(Path(scratch) / "pairs" / "dev.parquet"), MOST_PAIRS))
    ids = tuple(str(pair.pmid) for pair in kept)
    suite = Suite(
        name="title → abstract",
        query_ids=ids,
        queries=tuple(pair.anchor for pair in kept),
        corpus_ids=ids,
        corpus=tuple(pair.positive for pair in kept),
        qrels={name: {name: 1} for name in ids},
    )
    _paragraph(
        "1. Does a title find its abstract? " + _among(len(ids), found, "abstracts", "the first"),
        say,
    )
    with _uninterrupted():
        comparison = _against_bm25(encoder, suite, say, report)
        _paragraph("2. Searching these abstracts in one's own words (cosine, PMID, title):", say)
        documents = [Document(str(pair.pmid), text=pair.positive, pmid=pair.pmid) for pair in kept]
        names = {str(pair.pmid): pair.anchor for pair in kept}
        _search(encoder, documents, PUBMED_SEARCHES, names, say)
    return comparison


NEXT = """
What next:
  your own PubMed files   modernpubmed parse pubmed26n*.xml.gz --out articles/
  index them for search   modernpubmed index articles/ --out index/
  search them             modernpubmed search index/ "your question"
  title–abstract pairs    modernpubmed pairs articles/ --out pairs/
  train on them           pip install 'modernpubmed[train]', then docs/training.md
  compare models          modernpubmed compare MODEL OTHER --suite BEIR_FOLDER
  today's PubMed          modernpubmed demo --pubmed"""


def _load(say: Say) -> _Remembering:
    clock = time.perf_counter()
    encoder = Encoder.load()
    say(
        f"{encoder.name}, the model in the package: {encoder.dimension} dimensions, texts of up to "
        f"{encoder.max_tokens} tokens,\nloaded in {time.perf_counter() - clock:.1f} s."
    )
    remembering = _Remembering(encoder)
    say("\nTwo pairs of texts and their similarity (cosine):\n")
    for example in similarity_examples(remembering):
        say(_fit(f"  {example.cosine:5.2f}  “{example.pair.first}” – “{example.pair.second}”"))
    return remembering


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """No warning for each batch that cuts a text: the comparison's table counts them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        yield


def _against_bm25(encoder: _Remembering, suite: Suite, say: Say, report: Report) -> Comparison:
    clock = time.perf_counter()
    comparison = compare([encoder], [suite], progress=report)
    # The similarity examples have been shown; the worst queries are for the report.
    text = render_text(replace(comparison, examples=(), hurt=()))
    say("\n" + "\n".join(f"  {line}".rstrip() for line in text.rstrip().splitlines()))
    say(f"  (encoded and ranked in {time.perf_counter() - clock:.0f} s)")
    return comparison


def _search(
    encoder: _Remembering,
    documents: Sequence[Document],
    queries: Sequence[str],
    names: dict[str, str],
    say: Say,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        build_index(documents, encoder, path)
        answers = search_many(open_index(path), list(queries), encoder, k=3)
    for query, hits in zip(queries, answers, strict=True):
        say(f'\n  "{query}"')
        for hit in hits:
            say(_fit(f"    {hit.score:5.2f}  {hit.id}  {names[hit.id]}"))


def _definition(concept: Concept) -> Document:
    return Document(concept.curie, text=concept.definition or "")


def _among(some: int, every: int, what: str, which: str) -> str:
    if some == every:
        return f"Among all {every:,} {what}:"
    return f"Among {some:,} of the {every:,} {what} ({which}):"


def _left_out(manifest: Manifest) -> str:
    reasons = [f"{count:,} {reason}" for reason, count in manifest.dropped.items() if count]
    return ", ".join(reasons) or "none"


def _paragraph(text: str, say: Say) -> None:
    say("\n" + textwrap.fill(text, _WIDTH))


def _fit(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _end(start: float, say: Say) -> None:
    seconds = time.perf_counter() - start
    say(f"\nAll of this took {seconds:.0f} s on {os.cpu_count()} processors, without torch.")
    say(NEXT)
