from __future__ import annotations

from dataclasses import fields

import pyarrow as pa

from modernpubmed.records import (
    AbstractSection,
    Article,
    Correction,
    MeshHeading,
    MeshQualifier,
    OtherAbstract,
    Pair,
    article_from_row,
    article_to_row,
    pair_from_row,
    pair_to_row,
)
from modernpubmed.schemas import ARTICLE_SCHEMA, MINED_SCHEMA, PAIR_SCHEMA

ARTICLE = Article(
    pmid=12,
    version=2,
    title="Wheeze in toddlers",
    translated=True,
    vernacular_title="Sibilancias",
    sections=(AbstractSection("To see.", "AIM", "OBJECTIVE"), AbstractSection("Seen.")),
    copyright="© us",
    other_abstracts=(OtherAbstract("Publisher", "spa", (AbstractSection("Ver."),), "© them"),),
    languages=("spa", "eng"),
    date="1998 Dec-1999 Jan",
    year=1998,
    journal="Journal of Breath",
    publication_types=("Journal Article",),
    mesh=(MeshHeading("D012135", "Respiratory Sounds", True, (MeshQualifier("Q1", "x"),)),),
    corrections=(Correction("ErratumIn", "J Breath. 1999", 13),),
    status="MEDLINE",
    doi="10.1/x",
)


def test_schemas_name_exactly_the_fields():
    assert ARTICLE_SCHEMA.names == [field.name for field in fields(Article)]
    assert PAIR_SCHEMA.names == [field.name for field in fields(Pair)]


def test_an_article_survives_arrow_whole():
    table = pa.Table.from_pylist([article_to_row(ARTICLE)], schema=ARTICLE_SCHEMA)
    assert article_from_row(table.to_pylist()[0]) == ARTICLE


def test_a_pair_survives_arrow_whole():
    pair = Pair("a title", "an abstract", 5, "kind", "here", 2001, "X:1", ("Liver", "Mice"), (6, 7))
    table = pa.Table.from_pylist([pair_to_row(pair)], schema=PAIR_SCHEMA)
    assert pair_from_row(table.to_pylist()[0]) == pair


def test_mined_pairs_are_pairs_with_three_columns_more():
    assert MINED_SCHEMA.names[:-3] == PAIR_SCHEMA.names
    assert MINED_SCHEMA.names[-3:] == ["negatives", "negative_scores", "positive_score"]
    assert MINED_SCHEMA.remove(9).remove(9).remove(9).equals(PAIR_SCHEMA)


def test_the_abstract_is_the_text_without_labels():
    assert ARTICLE.abstract == "To see. Seen."
