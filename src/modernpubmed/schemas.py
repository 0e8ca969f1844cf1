"""Arrow schemas of the types that flow through the house (``records``).

Apart from them, so that who only reads NLM's XML needs no Arrow: it is half of the memory.
"""

from __future__ import annotations

import pyarrow as pa

_SECTION = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("category", pa.string()),
    ]
)

#: Arrow schema of a table of articles; the columns are ``Article``'s fields, in order.
ARTICLE_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("translated", pa.bool_(), nullable=False),
        pa.field("vernacular_title", pa.string()),
        pa.field("sections", pa.list_(_SECTION), nullable=False),
        pa.field("copyright", pa.string()),
        pa.field(
            "other_abstracts",
            pa.list_(
                pa.struct(
                    [
                        pa.field("kind", pa.string(), nullable=False),
                        pa.field("language", pa.string(), nullable=False),
                        pa.field("sections", pa.list_(_SECTION), nullable=False),
                        pa.field("copyright", pa.string()),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("languages", pa.list_(pa.string()), nullable=False),
        pa.field("date", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("journal", pa.string()),
        pa.field("journal_abbreviation", pa.string()),
        pa.field("issn", pa.string()),
        pa.field("publication_types", pa.list_(pa.string()), nullable=False),
        pa.field(
            "mesh",
            pa.list_(
                pa.struct(
                    [
                        pa.field("ui", pa.string()),
                        pa.field("name", pa.string(), nullable=False),
                        pa.field("major", pa.bool_(), nullable=False),
                        pa.field(
                            "qualifiers",
                            pa.list_(
                                pa.struct(
                                    [
                                        pa.field("ui", pa.string()),
                                        pa.field("name", pa.string(), nullable=False),
                                        pa.field("major", pa.bool_(), nullable=False),
                                    ]
                                )
                            ),
                            nullable=False,
                        ),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field(
            "corrections",
            pa.list_(
                pa.struct(
                    [
                        pa.field("kind", pa.string(), nullable=False),
                        pa.field("source", pa.string()),
                        pa.field("pmid", pa.int64()),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("status", pa.string()),
        pa.field("doi", pa.string()),
    ]
)

#: Arrow schema of a table of pairs; the columns are ``Pair``'s fields, in order.
PAIR_SCHEMA = pa.schema(
    [
        pa.field("anchor", pa.string(), nullable=False),
        pa.field("positive", pa.string(), nullable=False),
        pa.field("pmid", pa.int64()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("concept", pa.string()),
        pa.field("mesh", pa.list_(pa.string()), nullable=False),
        pa.field("links", pa.list_(pa.int64()), nullable=False),
    ]
)

#: Arrow schema of pairs with mined hard negatives, best first: texts like the positive, the
#: score (cosine similarity to the anchor) of each, and that of the positive.
MINED_SCHEMA = pa.schema(
    [
        *PAIR_SCHEMA,
        pa.field("negatives", pa.list_(pa.string()), nullable=False),
        pa.field("negative_scores", pa.list_(pa.float32()), nullable=False),
        pa.field("positive_score", pa.float32(), nullable=False),
    ]
)
