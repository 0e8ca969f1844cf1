"""The demonstration: the main job on real text, with the model in the package and without torch.

Two forms. ``on_phenotypes`` needs no network: the Human Phenotype Ontology, from a package, stands
in for a corpus. ``on_pubmed`` does the same on the newest file that NLM has published. Each says
as it goes what it does, how long that took, and at the end what to do next.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.concepts import Concept, build_matcher, hpo, name_to_definition_suite
from modernpubmed.encoder import Encoder, TruncationWarning
from modernpubmed.evaluation.compare import Comparison, compare, render_text
from modernpubmed.pairs import build_pairs, read_pairs
from modernpubmed.pubmed import parse_files
from modernpubmed.pubmed.fetch import fetch_newest_updatefile
from modernpubmed.search import Document, build_index, open_index, search_many
from modernpubmed.suites import Suite

#: Questions as one would type them into a literature search; none is an HPO name or definition.
SEARCHES = (
    "attacks in which the child stares and does not respond for a few seconds",
    "why do my fingers turn white and numb in the cold",
    "kidney stones and too much calcium in the urine",
)
#: Free text as it stands in a clinical note.
MENTIONS = (
    "can't hear well on both sides since birth",
    "high blood sugar after fasting overnight",
    "pt reports double vision, esp. when tired",
)
#: Searches for an arbitrary day of PubMed.
PUBMED_SEARCHES = (
    "does exercise help older adults with depression",
    "resistance to immune checkpoint inhibitors in lung cancer",
    "artificial intelligence reading chest radiographs",
)
#: Every how many-th concept has its definition encoded. All 16,449 would take about two minutes
#: on two cores and change no figure by more than the sample does.
DEFINITION_STEP = 4

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
    encoder = _load(say)
    ontology = hpo()
    concepts = ontology.concepts
    say(
        f"\nThe Human Phenotype Ontology ({ontology.version}): {len(concepts):,} concepts, "
        f"{sum(len(c.synonyms) for c in concepts):,} synonyms. Never used in training."
    )
    clock = time.perf_counter()
    matcher = build_matcher(
        concepts,
        encoder,
        report=lambda done, total: report("encoding names and synonyms", done, total),
    )
    say(f"Names and synonyms encoded in {time.perf_counter() - clock:.0f} s.")

    defined = [concept for concept in concepts if concept.definition][::DEFINITION_STEP]
    suite = name_to_definition_suite(defined, name="HPO name → definition")
    say(
        f"\nFinding each definition by its concept's name, among {len(suite.corpus):,} "
        f"(every {DEFINITION_STEP}th concept that has one):\n"
    )
    comparison = _against_bm25(encoder, suite, say, report)

    say("\nLiterature-style searches of these definitions (cosine, id, name):")
    names = {concept.curie: concept.name for concept in defined}
    _search(encoder, [_definition(concept) for concept in defined], SEARCHES, names, say)

    say("\nFree-text mentions matched to HPO concepts (cosine, id, name, matched form):")
    for found in matcher.match_many(MENTIONS, k=3):
        say(f'\n  "{found.mention}"')
        for match in found.matches:
            form = "" if match.form == match.name else f"  ({match.form})"
            say(f"    {match.score:.2f}  {match.curie}  {match.name}{form}"[:_WIDTH])
    say(f"\nAll of it: {time.perf_counter() - start:.0f} s, without torch. {_processors()}")
    say(NEXT)
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
    say(f"\nAll of it: {time.perf_counter() - start:.0f} s, without torch. {_processors()}")
    say(NEXT)
    return comparison


def of_nlm_file(file: Path, encoder: _Remembering, say: Say, report: Report) -> Comparison:
    """Articles, pairs, metrics and searches of one NLM file; see ``on_pubmed``."""
    with tempfile.TemporaryDirectory() as scratch:
        clock = time.perf_counter()
        articles = parse_files([file], Path(scratch) / "articles")
        say(
            f"\n{file.name}: {articles.counts['articles']:,} articles parsed in "
            f"{time.perf_counter() - clock:.0f} s."
        )
        pairs = build_pairs([Path(scratch) / "articles"], Path(scratch) / "pairs", dev_share=1.0)
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in pairs.dropped.items())
        say(f"{pairs.counts['dev']:,} title–abstract pairs; left out: {dropped or 'none'}.")
        kept = list(read_pairs(Path(scratch) / "pairs" / "dev.parquet"))[:2000]
    ids = tuple(str(pair.pmid) for pair in kept)
    suite = Suite(
        name="title → abstract",
        query_ids=ids,
        queries=tuple(pair.anchor for pair in kept),
        corpus_ids=ids,
        corpus=tuple(pair.positive for pair in kept),
        qrels={name: {name: 1} for name in ids},
    )
    say(f"\nFinding each abstract by its title, among {len(ids):,}:\n")
    comparison = _against_bm25(encoder, suite, say, report)
    say("\nSearches (cosine, PMID, title):")
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
        f"{encoder.name}: {encoder.dimension} dimensions, texts up to {encoder.max_tokens} tokens, "
        f"loaded in {time.perf_counter() - clock:.1f} s."
    )
    # The comparison's table counts what was cut; a warning for each batch would only interrupt.
    warnings.simplefilter("ignore", TruncationWarning)
    return _Remembering(encoder)


def _against_bm25(encoder: _Remembering, suite: Suite, say: Say, report: Report) -> Comparison:
    clock = time.perf_counter()
    comparison = compare([encoder], [suite], progress=report)
    text = render_text(comparison)
    say("\n".join(f"  {line}".rstrip() for line in text.rstrip().splitlines()))
    say(f"  ({time.perf_counter() - clock:.0f} s)")
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
            say(f"    {hit.score:.2f}  {hit.id}  {names[hit.id]}"[:_WIDTH])


def _definition(concept: Concept) -> Document:
    return Document(concept.curie, text=concept.definition or "")


def _processors() -> str:
    return f"({os.cpu_count()} processors.)"
