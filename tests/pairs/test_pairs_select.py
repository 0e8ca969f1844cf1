import pytest

from modernpubmed.folding import folded
from modernpubmed.pairs import Tally, select
from modernpubmed.pairs.select import (
    GENERIC_TITLES,
    MIN_ABSTRACT,
    REASONS,
    clean_abstract,
    clean_title,
)
from modernpubmed.records import AbstractSection, Article, Correction, Pair

TEXT = (
    "We gave the invented drug to forty mice with made-up disease and followed them for a year. "
    "The survival of the treated mice was longer than that of the controls, and side effects were "
    "rare. The drug is ready for a trial in imaginary patients."
)
assert len(TEXT) >= MIN_ABSTRACT


def article(title="Invented drug in mice.", text=TEXT, **fields):
    sections = (AbstractSection(text),) if text else ()
    return Article(1, title, sections=sections, **{"languages": ("eng",), **fields})


def outcome(record):
    """The pair it became, or the reason it was dropped for."""
    tally = Tally()
    pairs = list(select([record], tally, source="here"))
    assert len(pairs) + tally.dropped.total() == 1
    assert set(tally.dropped) <= set(REASONS)
    return pairs[0] if pairs else next(iter(tally.dropped))


def test_an_article_becomes_a_pair():
    sections = (AbstractSection(TEXT, "AIM", "OBJECTIVE"), AbstractSection("Good.", "RESULTS"))
    source = Article(9, "Invented drug.", sections=sections, languages=("eng",), year=2001)
    assert outcome(source) == Pair(
        "Invented drug.", f"{TEXT} Good.", 9, "title-abstract", "here", 2001
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"languages": ("ger",)}, "not English"),
        ({"text": ""}, "no abstract"),
        ({"text": TEXT[: MIN_ABSTRACT - 1]}, "abstract too short"),
        ({"title": ""}, "no title"),
        ({"title": "[Not Available]."}, "generic title"),
        ({"title": "Letter to the Editor."}, "generic title"),
        ({"title": "EDITORIAL"}, "generic title"),
        ({"title": "Authors' reply."}, "generic title"),
        ({"title": "AI."}, "title too short"),
        ({"title": "Some invented properties of"}, "title cut off"),
        ({"title": "A layer of imaginary oxide ("}, "title cut off"),
        ({"publication_types": ("Journal Article", "Retracted Publication")}, "retracted"),
        ({"corrections": (Correction("RetractionIn"),)}, "retracted"),
        ({"title": "RETRACTED: Invented drug in mice."}, "retracted"),
        ({"title": "WITHDRAWN: Invented drug in mice."}, "retracted"),
        ({"title": "Invented drug [retracted by Nobody A]"}, "retracted"),
        ({"publication_types": ("Retraction of Publication",)}, "retraction notice or erratum"),
        ({"publication_types": ("Published Erratum",)}, "retraction notice or erratum"),
        ({"corrections": (Correction("ErratumFor"),)}, "retraction notice or erratum"),
        ({"title": "Author Correction: Invented drug"}, "retraction notice or erratum"),
        ({"title": "Erratum to 'Invented drug'"}, "retraction notice or erratum"),
        ({"title": "Retraction: Invented drug"}, "retraction notice or erratum"),
        ({"title": "Expression of concern: Invented drug"}, "retraction notice or erratum"),
        ({"corrections": (Correction("RetractedandRepublishedIn"),)}, "retracted"),
        (
            {"corrections": (Correction("CorrectedandRepublishedIn"),)},
            "republished in corrected form",
        ),
        ({"corrections": (Correction("PartialRetractionOf"),)}, "retraction notice or erratum"),
        ({"corrections": (Correction("CommentOn", pmid=3),)}, "comment or reply"),
        ({"publication_types": ("Letter", "Comment")}, "comment or reply"),
        ({"title": "Reply to Nobody et al."}, "comment or reply"),
        ({"title": "Re: Invented drug in mice."}, "comment or reply"),
        ({"title": "Response to the letter of A. Nobody"}, "comment or reply"),
        ({"title": "Authors’ response: invented drug"}, "comment or reply"),
        ({"title": "Comment on 'Invented drug in mice'"}, "comment or reply"),
    ],
)
def test_what_is_dropped(fields, reason):
    assert outcome(article(**fields)) == reason


@pytest.mark.parametrize(
    "fields",
    [
        {"text": TEXT[:MIN_ABSTRACT]},
        {"title": "Gout."},
        {"title": "Correction of scoliosis in mice."},
        {"title": "Withdrawal of the drug."},
        {"title": "Response to treatment."},
        {"title": "Editorial policies of journals."},
        {"title": "Lid retraction: a review."},
        {"title": "What patients look for"},
        {"title": "Deficiency of vitamin A"},
        {"languages": ("ger",), "translated": True},
        {"languages": ("ger", "eng")},
        {"languages": ()},
        {"corrections": (Correction("ErratumIn"), Correction("RetractionOfNothing"))},
        {"corrections": (Correction("CommentIn"), Correction("UpdateOf", pmid=3))},
        {"publication_types": ("Letter",)},
        {"title": "Comments from mice: a survey."},
    ],
)
def test_what_stays(fields):
    assert isinstance(outcome(article(**fields)), Pair)


@pytest.mark.parametrize(
    "text",
    [
        "Administramos el fármaco inventado a cuarenta ratones con una enfermedad imaginaria y los "
        "seguimos durante un año. La supervivencia de los ratones tratados fue mayor que la de los "
        "controles y los efectos adversos fueron raros.",
        "Wir gaben vierzig Mäusen mit einer erdachten Krankheit das erfundene Mittel und "
        "beobachteten sie ein Jahr lang. Das Überleben der behandelten Mäuse war länger als das "
        "der Kontrollen, und Nebenwirkungen waren selten.",
        "架空の薬を四十匹のマウスに投与し、一年間観察した。" * 10,
    ],
)
def test_abstracts_in_other_languages_are_dropped(text):
    assert len(text) >= MIN_ABSTRACT
    assert outcome(article(text=text)) == "not English"
    assert outcome(Pair("A title", text)) == "not English"


def test_text_rules_hold_for_ready_made_pairs():
    pair = Pair(
        "[Invented drug]. [German]", f"{TEXT}(ABSTRACT TRUNCATED AT 250 WORDS)", 7, source="s"
    )
    assert outcome(pair) == Pair("Invented drug", TEXT, 7, source="s")
    assert outcome(Pair("Editorial.", TEXT)) == "generic title"
    assert outcome(Pair("Retraction notice", TEXT)) == "retraction notice or erratum"
    assert outcome(Pair("Invented drug", "Too short.")) == "abstract too short"


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("Invented drug.[see comment].", "Invented drug."),
        (
            "Invented drug.[see comment][update of Imag J. 2001;(2):C1; PMID: 1].1454",
            "Invented drug.",
        ),
        ("[Invented drug (author's transl)].", "Invented drug"),
        ("Invented drug: a review.1", "Invented drug: a review"),
        ("  Invented\n drug ", "Invented drug"),
        # untouched
        ("The gene maps to 19p13.3", "The gene maps to 19p13.3"),
        ("Channels with Kir6.2", "Channels with Kir6.2"),
        ("A trial of drugs [ISRCTN12345678]", "A trial of drugs [ISRCTN12345678]"),
        ("[18F]FDG in mice [1].", "[18F]FDG in mice [1]."),
        ("[A]. [B].", "[A]. [B]."),
    ],
)
def test_titles_are_cleaned(title, cleaned):
    assert clean_title(title)[0] == cleaned
    assert clean_title(cleaned) == (cleaned, [])


@pytest.mark.parametrize(
    "tail",
    [
        "(ABSTRACT TRUNCATED AT 250 WORDS)",
        " (ABSTRACT TRUNCATED AT 400 WORDS).",
        "(ABSTRACT TRUNCATED)",
        " [References: 31]",
        " This article is protected by copyright. All rights reserved.",
        " © 2019 The Authors. Journal of Examples published by Nobody, Inc. on behalf of None.",
        " Copyright © 2019 Nobody. All rights reserved.",
        " Copyright 2001 Nobody AG, Basel",
        " (PsycINFO Database Record (c) 2020 APA, all rights reserved).",
        " ©RSNA, 2021.",
        " © The Author(s) 2010",
        " 2021 Journal of Examples. All rights reserved.",
        " (copyright) 2012 Nobody Ltd. [References: 31]",
    ],
)
def test_abstracts_are_cleaned(tail):
    text, notes = clean_abstract(TEXT + tail)
    assert text == TEXT
    assert notes
    assert clean_abstract(text) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        f"We used PROGRAM© on the copyright law of 2019. {TEXT}",
        f"{TEXT} Students discussed copyright in 2019 and after.",
        f"{TEXT} Three forms were seen: (a) red, (b) green and (c) blue.",
        f"{TEXT} In 2021 most of it was over.",
    ],
)
def test_what_only_looks_like_a_copyright_line_stays(text):
    assert clean_abstract(text) == (text, [])


def test_everything_is_counted():
    tally = Tally()
    records = [
        article(),
        article(title="Editorial."),
        article(text=""),
        Pair("Invented drug", f"Invented drug! {TEXT} [References: 3]"),
        Pair("Reply", TEXT),
    ]
    assert len(list(select(records, tally))) == 2
    assert tally.seen == {"articles": 3, "pairs": 2}
    assert tally.dropped == {"generic title": 2, "no abstract": 1}
    assert tally.noted == {"abstract opens with its title": 1, "reference count removed": 1}


def test_the_list_of_generic_titles_is_in_its_normal_form():
    assert len(GENERIC_TITLES) > 100
    assert {title for title in GENERIC_TITLES if folded(title) != title} == set()
