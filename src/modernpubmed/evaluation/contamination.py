"""How much of a suite a model has seen in training, and how it does on the rest.

A text of a suite counts as seen if a training text is the same (case, spacing and punctuation
apart) or a near-duplicate, as ``related.KnownTexts`` has it; decontamination while pairs are made
(``modernpubmed pairs --decontaminate``) asks the same. A query is clean if neither it nor a
document relevant to it was seen. That is strict: a disease's name that was an anchor anywhere
makes its query unclean, though its definition may never have been shown; ``exact_pairs`` counts
those whose answer was. Reporting both scores follows Brown et al. 2020 (arXiv:2005.14165, app. C).

The suites are held in memory and the training pairs pass by once, so any number of pairs will do.
Given up: a query that stands inside a longer training text, paraphrases, and what the base model
was trained on, of which no manifest speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.evaluate import Result
from modernpubmed.evaluation.measured import Contamination, Estimate
from modernpubmed.evaluation.significance import bootstrap_mean
from modernpubmed.folding import fingerprint, folded
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.related import NEAR, KnownTexts, is_long, jaccard, keys_of, shingles_of
from modernpubmed.suites import Suite, suite_checksum

_EXAMPLES = 5
_TEXT_COLUMNS = ("anchor", "positive", "negatives")

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class _Side:
    """One side of a suite (queries or documents): where its texts stand, and what was seen."""

    known: KnownTexts
    seen: NDArray[np.int8] = field(init=False)
    why: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seen = np.zeros(len(self.known.texts), dtype=np.int8)

    def mark(self, text: str, mark: int, keys: Sequence[int] | None, original: str) -> list[int]:
        """Marks what a training text makes seen; returns the positions of the same text."""
        same = self.known.same(mark)
        for position in same:
            if self.seen[position] != _EXACT:
                self.seen[position] = _EXACT
                self.why[position] = f"exact: “{_short(original)}”"
        for position in () if keys is None else self.known.candidates(keys):
            if not self.seen[position] and jaccard(text, self.known.texts[position]) >= NEAR:
                self.seen[position] = _NEAR
                self.why[position] = f"near: “{_short(original)}”"
        return same


_EXACT, _NEAR = 2, 1


@dataclass(frozen=True, slots=True)
class _Watched:
    """A suite while the training pairs pass by."""

    suite: Suite
    queries: _Side
    documents: _Side
    relevant: Sequence[frozenset[int]]
    paired: NDArray[np.bool_]

    def clean(self) -> NDArray[np.bool_]:
        return np.array(
            [
                not self.queries.seen[place] and not any(self.documents.seen[list(wanted)])
                for place, wanted in enumerate(self.relevant)
            ],
            dtype=np.bool_,
        )


def training_pairs(
    model: str | Path, pairs: Sequence[str | Path]
) -> tuple[dict[str, str], dict[Path, str]]:
    """The pairs that a model's manifest names, and which of them are at hand.

    Args:
        model: A model folder.
        pairs: As in ``measure_contamination``.

    Returns:
        SHA-256 by the manifest's name, and SHA-256 by file of those given.

    Raises:
        ModernPubMedError: No manifest of a model that names pairs, no pairs, or pairs of another.
    """
    folder = Path(model)
    manifest = Manifest.read(folder)
    trained = {
        key: checksum
        for key, checksum in manifest.inputs.items()
        if key == "train_pairs" or key.startswith("train_pairs/")
    }
    if manifest.kind != "model" or not trained:
        raise ModernPubMedError(
            "the manifest names no training pairs",
            file=folder / "manifest.json",
            remedy="give a model that modernpubmed train made",
        )
    checksums = {file: sha256(file) for file in _pair_files(pairs)}
    for file, checksum in checksums.items():
        if checksum not in trained.values():
            raise ModernPubMedError(
                f"{folder.resolve().name} was not trained on these pairs",
                file=file,
                record=f"SHA-256 {checksum[:12]}…",
                remedy=f"give the pairs its manifest names: {', '.join(trained)}",
            )
    return trained, checksums


def measure_contamination(
    model: str | Path,
    pairs: Sequence[str | Path],
    suites: Sequence[Suite],
    *,
    results: Sequence[Result] = (),
    metric: str = "nDCG@10",
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[Contamination, ...]:
    """The overlap of a model's training pairs with suites, and its scores without it.

    Args:
        model: A model folder with the ``manifest.json`` of its training.
        pairs: The Parquet files of pairs it was trained on, or folders of pairs (their
            ``train.parquet``, or one in each folder below). They are known by their checksum,
            whatever they are called; pairs that the model was not trained on are refused.
        suites: What to look for.
        results: Results of this model (those of others are passed over).
        metric: The metric of the scores.
        name: The model's name in the results; None is the folder's name.
        progress: Called with the number of pairs read, and of how many.

    Returns:
        One for each suite. ``unseen_sources`` holds the training data that the manifest names
        but that was not given: where it is not empty the counts are lower bounds.

    Raises:
        ModernPubMedError: No manifest of a model, no pairs, pairs of another model or that cannot
            be read, or a result on another version of a suite.
    """
    name = name or Path(model).resolve().name
    trained, checksums = training_pairs(model, pairs)
    files = list(checksums)
    watched = [_watch(suite) for suite in suites]
    texts = _look(files, watched, progress)
    given = set(checksums.values())
    sources = {key: checksum for key, checksum in trained.items() if checksum in given}
    unseen = {key: checksum for key, checksum in trained.items() if checksum not in given}
    found = []
    for one in watched:
        full, clean = _estimates(name, one, results, metric)
        found.append(
            Contamination(
                model=name,
                suite=one.suite.name,
                version=suite_checksum(one.suite),
                metric=metric,
                training_texts=texts,
                exact_queries=int((one.queries.seen == _EXACT).sum()),
                near_queries=int((one.queries.seen == _NEAR).sum()),
                exact_documents=int((one.documents.seen == _EXACT).sum()),
                near_documents=int((one.documents.seen == _NEAR).sum()),
                exact_pairs=int(one.paired.sum()),
                clean_queries=int(one.clean().sum()),
                full=full,
                clean=clean,
                examples=_examples(one),
                sources=sources,
                unseen_sources=unseen,
            )
        )
    return tuple(found)


def _watch(suite: Suite) -> _Watched:
    places = {identifier: place for place, identifier in enumerate(suite.corpus_ids)}
    return _Watched(
        suite,
        _Side(KnownTexts(suite.queries)),
        _Side(KnownTexts(suite.corpus)),
        [
            frozenset(places[document] for document in suite.relevant(query_id))
            for query_id in suite.query_ids
        ],
        np.zeros(len(suite.queries), dtype=np.bool_),
    )


def _look(files: Sequence[Path], suites: Sequence[_Watched], progress: Progress | None) -> int:
    """Lets all training pairs pass by; returns how many different texts they hold."""
    known: set[int] = set()
    total = 0
    for file in files:
        with _opened(file) as parquet:
            total += parquet.metadata.num_rows
    for number, texts in enumerate(_rows(files)):
        if progress is not None and number % 1000 == 0:
            progress("training pairs compared", number, total)
        matches: list[list[tuple[list[int], list[int]]]] = [[] for _ in suites]
        for original in texts:
            text = folded(original)
            mark = fingerprint(text)
            # A text that came by before can still complete a pair, but marks nothing new.
            keys = None
            if mark not in known and is_long(text):
                keys = keys_of(shingles_of(text)).tolist()
            known.add(mark)
            for place, one in enumerate(suites):
                matches[place].append(
                    (
                        one.queries.mark(text, mark, keys, original),
                        one.documents.mark(text, mark, keys, original),
                    )
                )
        for one, (anchor, positive, *_) in zip(suites, matches, strict=True):
            # Either side of a training pair may be the suite's query.
            for queries, documents in ((anchor[0], positive[1]), (positive[0], anchor[1])):
                for query in queries:
                    if not one.relevant[query].isdisjoint(documents):
                        one.paired[query] = True
    if progress is not None:
        progress("training pairs compared", total, total)
    return len(known)


def _rows(files: Sequence[Path]) -> Iterator[list[str]]:
    """The texts of each training pair: anchor, positive, then its negatives if it has any."""
    for file in files:
        with _opened(file) as parquet:
            columns = [name for name in _TEXT_COLUMNS if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(batch_size=1024, columns=columns):
                for row in batch.to_pylist():
                    yield [row["anchor"], row["positive"], *(row.get("negatives") or ())]


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            if not {"anchor", "positive"} <= set(parquet.schema_arrow.names):
                raise ModernPubMedError(
                    "no columns anchor and positive",
                    file=file,
                    remedy="give the Parquet files that modernpubmed pairs wrote",
                )
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"cannot be read as pairs ({error})", file=file, remedy="make them again"
        ) from error


def _pair_files(pairs: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for given in map(Path, pairs):
        if given.is_file():
            found = [given]
        else:
            found = sorted({*given.glob("train.parquet"), *given.glob("*/train.parquet")})
        if not found:
            raise ModernPubMedError(
                "no pairs here",
                file=given,
                remedy="give a Parquet file of pairs, or a folder with train.parquet",
            )
        files += found
    if not files:
        raise ModernPubMedError("no pairs to compare with", remedy="give the training pairs")
    return list(dict.fromkeys(files))


def _estimates(
    name: str, one: _Watched, results: Sequence[Result], metric: str
) -> tuple[Estimate | None, Estimate | None]:
    """The model's score on all queries and on the clean ones."""
    suite = one.suite
    own = [result for result in results if (result.model, result.suite) == (name, suite.name)]
    if not own:
        return None, None
    if own[0].suite_version != suite_checksum(suite):
        raise ModernPubMedError(
            f"the result of {name} is of another version of this suite",
            file=suite.name,
            remedy="evaluate the model again on the suite as it is now",
        )
    values, clean = np.array(own[0].per_query[metric]), one.clean()
    return bootstrap_mean(values), bootstrap_mean(values[clean]) if clean.any() else None


def _examples(one: _Watched) -> tuple[str, ...]:
    suite = one.suite
    return tuple(
        f"{what} {ids[place]} “{_short(texts[place])}” {why}"
        for what, ids, texts, side in (
            ("query", suite.query_ids, suite.queries, one.queries),
            ("document", suite.corpus_ids, suite.corpus, one.documents),
        )
        for place, why in sorted(side.why.items())[:_EXAMPLES]
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
