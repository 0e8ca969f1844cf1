"""The demonstration on an ontology and an NLM file of our own, with the model in the package."""

from __future__ import annotations

import gzip
import re
import warnings
from pathlib import Path

import pytest

from modernpubmed import demo
from modernpubmed.concepts import Concept, Ontology, Synonym
from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.metrics import METRICS

PHENOTYPES = {
    "Face blindness": ("People known well are not told by their faces.", "Prosopagnosia"),
    "Yellow newborn": ("Jaundice of skin and eyes in the first weeks.", "Neonatal jaundice"),
    "Hidden blood in urine": ("Red cells that only a microscope shows in urine.", "Microhematuria"),
    "Excess calcium in urine": ("More calcium is passed than is normal.", "Hypercalciuria"),
    "Impaired hearing": ("Sounds are heard faintly or not at all.", "Bilateral deafness"),
    "Raised sugar in blood": ("Too much glucose circulates before a meal.", "Hyperglycemia"),
    "Palpitations": ("The beat of one's own heart is felt.", "Skipped heart beat"),
    "Swelling of the ankle": ("Fluid gathers about the joint of the foot.", "Puffy ankles"),
    "Brittle nails": ("Plates of the fingertips that split easily.", "Fragile nails"),
    "Webbed toes": ("Skin joins neighbouring digits of the foot.", "Syndactyly of feet"),
    "Flat feet": ("The arch of the sole touches the ground.", "Pes planus"),
    "Premature greying": ("Hair loses its pigment early in life.", "Early canities"),
}
#: What each of the demonstration's three searches and three mentions must bring first.
FOUND = {
    demo.SEARCHES[0]: "Face blindness",
    demo.SEARCHES[1]: "Hidden blood in urine",
    demo.SEARCHES[2]: "Yellow newborn",
    demo.MENTIONS[0]: "Impaired hearing",
    demo.MENTIONS[1]: "Palpitations",
    demo.MENTIONS[2]: "Swelling of the ankle",
}

ARTICLES = {
    "Walking groups and low mood after retirement": (
        "We asked whether regular exercise helps people over seventy with depression. Half of the "
        "volunteers walked three times a week, and the others met to read. After a year of "
        "walking, the scores of depression were lower than in the readers, and more people slept "
        "through the night."
    ),
    "Why tumours of the lung stop responding to PD-1 antibodies": (
        "Cancer of the lung that at first shrinks with checkpoint inhibitors often grows again. "
        "We compared biopsies taken before treatment with those taken at relapse, and found that "
        "the cells had lost the molecules by which they are recognised. Resistance was already "
        "present in a few cells at the start."
    ),
    "A neural network and two radiologists look at the thorax": (
        "A program was trained on images of the chest and was then given films that it had not "
        "seen. It found as many of the shadows as the radiologists did, and was wrong more often "
        "about the heart. Reading together with the program was the fastest of the three ways "
        "that we tried."
    ),
    "Bees and the flowering of apple trees": (
        "The number of bees in an orchard was counted from the first blossom to the last, in "
        "twelve orchards of the same size. In the years with a cold spring there were fewer bees "
        "and fewer apples, and this was so whether or not hives had been brought by the growers "
        "of the region."
    ),
    "A long report on the colour of rivers": (
        "The water of the river was brown in spring and green in summer, and we describe why. "
        + "The samples from the bank were compared with those from the middle of the stream. " * 40
    ),
}


def ontology() -> Ontology:
    concepts = tuple(
        Concept(f"XP:{number:04}", name, (Synonym(synonym),), definition)
        for number, (name, (definition, synonym)) in enumerate(PHENOTYPES.items(), start=1)
    )
    undefined = Concept("XP:0099", "Something that nobody has defined")
    return Ontology("xp", "xp/2030-01-01", (*concepts, undefined), 5, Path("xp.obo"))


def record(pmid: int, title: str, abstract: str, language: str = "eng") -> str:
    body = f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract>" if abstract else ""
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article>"
        f"<ArticleTitle>{title}</ArticleTitle>{body}<Language>{language}</Language></Article>"
        "</MedlineCitation></PubmedArticle>"
    )


@pytest.fixture
def nlm_file(tmp_path: Path) -> Path:
    records = [record(9000 + n, *texts) for n, texts in enumerate(ARTICLES.items())]
    records += [
        record(9101, "Editorial.", next(iter(ARTICLES.values()))),
        record(9102, "A title without an abstract", ""),
        record(9103, "Another title without an abstract", ""),
        record(9104, "El color de los ríos", "El agua del río es verde en verano. " * 12, "spa"),
        "<PubmedBookArticle><BookDocument/></PubmedBookArticle>",
        "<DeleteCitation><PMID>9104</PMID></DeleteCitation>",
    ]
    path = tmp_path / "pubmed30n0001.xml.gz"
    text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.fixture
def fetched(nlm_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a file was asked for, NLM's server being our file."""
    folders: list[Path] = []

    def fetch(folder: Path, **_: object) -> Path:
        folders.append(folder)
        return nlm_file

    monkeypatch.setattr(demo, "fetch_newest_updatefile", fetch)
    return folders


def silent(_: str, done: int, total: int) -> None:
    assert total > 0
    assert done <= total


def first_below(text: str, question: str) -> str:
    """The line below a question."""
    lines = text.splitlines()
    return lines[lines.index(f'  "{question}"') + 1]


def test_the_ontology_is_measured_searched_and_matched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "hpo", ontology)
    monkeypatch.setattr(demo, "DEFINITION_STEP", 1)
    said: list[str] = []
    comparison = demo.on_phenotypes(said.append, silent)
    text = "\n".join(said)
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("modernpubmed-mini, the model in the package: 384 dimensions, ")
    cosines = [float(row) for row in re.findall(r"^  ([ -]\d\.\d\d)  “", text, re.M)]
    assert len(cosines) == 2
    assert cosines[0] > 0.6 > 0.3 > cosines[1]
    assert "(xp/2030-01-01): 13 concepts with 12 synonyms; 5 obsolete ones" in text
    assert "Among all 12 definitions:" in text

    [table] = comparison.tables
    assert table.models == ("modernpubmed-mini", "BM25")
    assert [row.metric for row in table.rows] == list(METRICS)
    for row in table.rows:
        assert re.search(
            rf"^  {re.escape(row.metric)} +{row.values[0]:.4f} +{row.values[1]:.4f} ", text, re.M
        )
    values = {row.metric: row.values for row in table.rows}
    assert values["nDCG@10"][0] > values["nDCG@10"][1] > 0
    assert "(12 queries, 12 documents)" in text

    for question, name in FOUND.items():
        assert name in first_below(text, question), question
    # The synonym that matched, where it was not the name.
    assert "  Palpitations  (Skipped heart beat)\n" in text
    assert re.search(r"^All of this took \d+ s on \d+ processors, without torch\.$", text, re.M)
    assert said[-1] == demo.NEXT


def test_a_sample_of_the_definitions_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "hpo", ontology)
    said: list[str] = []
    comparison = demo.on_phenotypes(said.append, silent)
    assert "Among 3 of the 12 definitions (one in 4):" in "\n".join(said)
    assert comparison.results[0].query_ids == ("XP:0001", "XP:0005", "XP:0009")


def test_an_nlm_file_is_parsed_measured_and_searched(fetched: list[Path], tmp_path: Path):
    said: list[str] = []
    comparison = demo.on_pubmed(said.append, silent, tmp_path / "kept")
    text = "\n".join(said)
    assert fetched == [tmp_path / "kept"]
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(
        r"^pubmed30n0001\.xml\.gz: 8 articles, parsed in \d+ s \(left out: 1 deleted, 1 book\)\.$",
        text,
        re.M,
    )
    assert (
        "5 pairs of title and abstract made of them (left out: 2 no abstract, 1 generic title)."
        in text
    )
    assert "Among all 5 abstracts:" in text
    assert comparison.results[0].query_ids == ("9000", "9001", "9002", "9003", "9004")
    assert comparison.results[0].metrics["nDCG@10"] == 1.0
    assert "modernpubmed-mini cut 0 queries and 1 documents to its length" in text
    for question, title in zip(demo.PUBMED_SEARCHES, ARTICLES, strict=False):
        assert first_below(text, question).endswith(title)
    assert said[-1] == demo.NEXT


@pytest.mark.usefixtures("fetched")
def test_only_the_first_pairs_of_a_file_are_encoded_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo, "MOST_PAIRS", 3)
    said: list[str] = []
    comparison = demo.on_pubmed(said.append, silent, tmp_path)
    assert "Among 3 of the 5 abstracts (the first):" in "\n".join(said)
    assert comparison.results[0].documents == 3


def test_one_pair_is_enough_and_none_is_refused(nlm_file: Path):
    def of_one(*records: str) -> list[str]:
        nlm_file.write_text(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>")
        said: list[str] = []
        demo.of_nlm_file(nlm_file, demo._load(said.append), said.append, silent)
        return said

    title, abstract = next(iter(ARTICLES.items()))
    text = "\n".join(of_one(record(1, title, abstract)))
    assert "1 pairs of title and abstract made of them (left out: none)." in text
    assert text.count(title) == len(demo.PUBMED_SEARCHES)
    with pytest.raises(ModernPubMedError, match=r"no usable pair is left \(no abstract 1\)"):
        of_one(record(1, title, ""))


def test_the_same_title_twice_is_one_pair(nlm_file: Path):
    (title, abstract), (_, other) = list(ARTICLES.items())[:2]
    records = record(1, title, abstract) + record(2, title.upper(), other)
    nlm_file.write_text(f"<PubmedArticleSet>{records}</PubmedArticleSet>")
    said: list[str] = []
    comparison = demo.of_nlm_file(nlm_file, demo._load(said.append), said.append, silent)
    assert "(left out: 1 same anchor)" in "\n".join(said)
    assert comparison.results[0].query_ids == ("1",)


@pytest.mark.usefixtures("fetched")
def test_warnings_are_as_before_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "hpo", ontology)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        demo.on_pubmed(lambda text: None, silent, tmp_path)
        demo.on_phenotypes(lambda text: None, silent)
        assert warnings.filters == before
        assert [one for one in caught if one.category is TruncationWarning] == []
        warnings.warn("a long text was cut", TruncationWarning, stacklevel=1)
    assert [one.category for one in caught] == [TruncationWarning]


def test_a_line_that_is_too_long_ends_in_an_ellipsis(nlm_file: Path):
    title = "Walking groups and the mood of people who have retired: " + "a very long title " * 6
    nlm_file.write_text(
        f"<PubmedArticleSet>{record(1, title, next(iter(ARTICLES.values())))}</PubmedArticleSet>"
    )
    said: list[str] = []
    demo.of_nlm_file(nlm_file, demo._load(said.append), said.append, silent)
    line = first_below("\n".join(said), demo.PUBMED_SEARCHES[0])
    assert len(line) == 100
    assert line.endswith("…")
