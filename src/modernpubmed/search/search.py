"""From a query to the nearest documents of an index, exactly.

Every vector is compared (LanceDB's flat scan), so the ranking is that of the cosine and of nothing
else. Only the encoder that made the index may search it: vectors of two models do not share a
space, and cosines between them would be numbers without meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modernpubmed.errors import ModernPubMedError
from modernpubmed.protocols import TextEncoder
from modernpubmed.search.index import Index


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found.

    Attributes:
        rank: 1 is the best.
        score: Cosine of query and document, -1 to 1.
        id: The document's id, unique in its index.
        title: As indexed.
        text: As indexed, whole.
        pmid: Where known.
        year: Where known.
        journal: Where known.
    """

    rank: int
    score: float
    id: str
    title: str
    text: str
    pmid: int | None = None
    year: int | None = None
    journal: str | None = None


_COLUMNS = ["id", "title", "text", "pmid", "year", "journal", "_distance"]


def search(
    index: Index,
    query: str,
    encoder: TextEncoder,
    k: int = 10,
    *,
    years: tuple[int, int] | None = None,
) -> list[Hit]:
    """The ``k`` documents nearest to a query, best first.

    Args:
        index: From ``open_index``.
        query: Free text.
        encoder: The one that made the index.
        k: How many at most; fewer come when the index (or the years) hold fewer.
        years: First and last publication year, both inclusive; documents without year are then
            left out.

    Raises:
        ModernPubMedError: Another encoder made the index, the query is blank, or ``k`` is less
            than one.
    """
    return search_many(index, [query], encoder, k, years=years)[0]


def search_many(
    index: Index,
    queries: Sequence[str],
    encoder: TextEncoder,
    k: int = 10,
    *,
    years: tuple[int, int] | None = None,
) -> list[list[Hit]]:
    """``search`` for many queries in one scan; the order is kept.

    Raises:
        ModernPubMedError: As in ``search``; a blank query is named by its number.
    """
    _check_encoder(index, encoder)
    if k < 1:
        raise ModernPubMedError(f"k is {k}", remedy="ask for at least one document")
    for number, query in enumerate(queries, start=1):
        if not query.strip():
            raise ModernPubMedError("a blank query", record=f"query {number}", remedy="write one")
    if not queries:
        return []
    vectors = list(encoder.encode_query(list(queries)))
    request = index.table.search(
        vectors if len(vectors) > 1 else vectors[0], vector_column_name="vector"
    )
    request = request.distance_type("cosine").limit(k)
    if years is not None:
        request = request.where(f"year BETWEEN {int(years[0])} AND {int(years[1])}", prefilter=True)
    rows = request.select(_COLUMNS).to_arrow().to_pylist()
    found: list[list[dict[str, Any]]] = [[] for _ in queries]
    for row in rows:
        found[row.pop("query_index", 0)].append(row)
    return [_hits(group) for group in found]


def _hits(rows: list[dict[str, Any]]) -> list[Hit]:
    # Equal scores stand in the order of their ids: the same question has the same answer.
    rows.sort(key=lambda row: (row["_distance"], row["id"]))
    return [
        Hit(rank=rank, score=1.0 - row.pop("_distance"), **row)
        for rank, row in enumerate(rows, start=1)
    ]


def _check_encoder(index: Index, encoder: TextEncoder) -> None:
    settings = index.manifest.settings
    if settings.get("fingerprint") != encoder.fingerprint:
        raise ModernPubMedError(
            f"made with the encoder {settings.get('encoder')}, not with this {encoder.name}",
            file=index.path,
            remedy=f"search with {settings.get('encoder')}, or index again with {encoder.name}",
        )
