import gzip

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed import ParseCounts, parse
from modernpubmed.pubmed.parse import _SAFELY
from modernpubmed.records import (
    AbstractSection,
    Article,
    Correction,
    Deletion,
    MeshHeading,
    MeshQualifier,
    OtherAbstract,
)

FULL = """
<PubmedArticle>
  <MedlineCitation Status="MEDLINE" Owner="NLM">
    <PMID Version="2">101</PMID>
    <DateRevised><Year>2031</Year><Month>01</Month><Day>02</Day></DateRevised>
    <Article PubModel="Print">
      <Journal>
        <ISSN IssnType="Electronic">1234-5678</ISSN>
        <JournalIssue CitedMedium="Internet"><Volume>1</Volume>
          <PubDate><Year>2030</Year><Month>Dec</Month><Day>07</Day></PubDate></JournalIssue>
        <Title>Journal of invented &amp; tested cases</Title>
        <ISOAbbreviation>J Inv Test</ISOAbbreviation>
      </Journal>
      <ArticleTitle>Effect of <i>Examplea</i> on CO<sub>2</sub>: a
        trial.</ArticleTitle>
      <ELocationID EIdType="pii" ValidYN="Y">S1</ELocationID>
      <ELocationID EIdType="doi" ValidYN="N">10.1/wrong</ELocationID>
      <ELocationID EIdType="doi" ValidYN="Y">10.1/right</ELocationID>
      <Abstract>
        <AbstractText Label="PATIENTS AND METHODS" NlmCategory="METHODS">We gave
          10<sup>6</sup> units.</AbstractText>
        <AbstractText Label="RESULTS" NlmCategory="RESULTS">It <b>worked</b>.</AbstractText>
        <AbstractText Label="NOTE">No category.</AbstractText>
        <AbstractText/>
        <CopyrightInformation>© 2030 Nobody.</CopyrightInformation>
      </Abstract>
      <AuthorList><Author><LastName>A</LastName></Author></AuthorList>
      <Language>eng</Language><Language>spa</Language>
      <PublicationTypeList>
        <PublicationType UI="D016428">Journal Article</PublicationType>
        <PublicationType UI="D016441">Retracted Publication</PublicationType>
      </PublicationTypeList>
      <ArticleDate><Year>2029</Year><Month>11</Month><Day>01</Day></ArticleDate>
    </Article>
    <MedlineJournalInfo><MedlineTA>Other</MedlineTA></MedlineJournalInfo>
    <CommentsCorrectionsList>
      <CommentsCorrections RefType="RetractionIn"><RefSource>J Inv Test. 2031;2:3</RefSource>
        <PMID Version="1">202</PMID></CommentsCorrections>
      <CommentsCorrections RefType="CommentIn"><RefSource>Lost. 1</RefSource>
      </CommentsCorrections>
    </CommentsCorrectionsList>
    <MeshHeadingList>
      <MeshHeading><DescriptorName UI="D000001" MajorTopicYN="N">Liver</DescriptorName>
        <QualifierName UI="Q000001" MajorTopicYN="Y">drug effects</QualifierName>
        <QualifierName UI="Q000002" MajorTopicYN="N">pathology</QualifierName></MeshHeading>
      <MeshHeading><DescriptorName UI="D000002" MajorTopicYN="Y">Mice</DescriptorName>
      </MeshHeading>
    </MeshHeadingList>
    <OtherAbstract Type="Publisher" Language="spa">
      <AbstractText Label="MÉTODOS">Dimos 10<sup>6</sup>.</AbstractText>
      <CopyrightInformation>© Nadie</CopyrightInformation></OtherAbstract>
    <OtherAbstract Type="plain-language-summary"><AbstractText>Plainly.</AbstractText>
    </OtherAbstract>
  </MedlineCitation>
  <PubmedData>
    <ArticleIdList><ArticleId IdType="pubmed">101</ArticleId>
      <ArticleId IdType="doi">10.1/list</ArticleId></ArticleIdList>
    <ReferenceList><Reference><ArticleIdList><ArticleId IdType="doi">10.1/other</ArticleId>
      </ArticleIdList></Reference></ReferenceList>
  </PubmedData>
</PubmedArticle>
"""

EXPECTED = Article(
    pmid=101,
    version=2,
    title="Effect of Examplea on CO2: a trial.",
    sections=(
        AbstractSection("We gave 10^6 units.", "PATIENTS AND METHODS", "METHODS"),
        AbstractSection("It worked.", "RESULTS", "RESULTS"),
        AbstractSection("No category.", "NOTE", None),
    ),
    copyright="© 2030 Nobody.",
    other_abstracts=(
        OtherAbstract("Publisher", "spa", (AbstractSection("Dimos 10^6.", "MÉTODOS"),), "© Nadie"),
        OtherAbstract("plain-language-summary", "eng", (AbstractSection("Plainly."),)),
    ),
    languages=("eng", "spa"),
    date="2030 Dec 07",
    year=2030,
    journal="Journal of invented & tested cases",
    journal_abbreviation="J Inv Test",
    issn="1234-5678",
    publication_types=("Journal Article", "Retracted Publication"),
    mesh=(
        MeshHeading(
            "D000001",
            "Liver",
            False,
            (MeshQualifier("Q000001", "drug effects", True), MeshQualifier("Q000002", "pathology")),
        ),
        MeshHeading("D000002", "Mice", True),
    ),
    corrections=(
        Correction("RetractionIn", "J Inv Test. 2031;2:3", 202),
        Correction("CommentIn", "Lost. 1", None),
    ),
    status="MEDLINE",
    doi="10.1/right",
)


def record(pmid=1, title="A title.", article="", citation="", date="<Year>2000</Year>"):
    return (
        f"<PubmedArticle><MedlineCitation Status='MEDLINE'>"
        f"{'' if pmid is None else f'<PMID>{pmid}</PMID>'}"
        f"<Article><Journal><JournalIssue><PubDate>{date}</PubDate></JournalIssue></Journal>"
        f"<ArticleTitle>{title}</ArticleTitle>{article}</Article>{citation}"
        f"</MedlineCitation></PubmedArticle>"
    )


def written(tmp_path, *records, root="PubmedArticleSet", name="pubmed26n0001.xml"):
    path = tmp_path / name
    head = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE x SYSTEM "https://nowhere.invalid/x">'
    path.write_text(f"{head}\n<{root}>{''.join(records)}</{root}>", encoding="utf-8")
    return path


def one(tmp_path, *args, **kwargs):
    [article] = parse(written(tmp_path, record(*args, **kwargs)))
    return article


def test_every_field_of_a_full_record(tmp_path):
    assert list(parse(written(tmp_path, FULL))) == [EXPECTED]


def test_gzip_gives_the_same(tmp_path):
    path = written(tmp_path, FULL, record(5))
    zipped = tmp_path / "a.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert list(parse(zipped)) == list(parse(path))


def test_the_2016_form(tmp_path):
    citation = """
    <MedlineCitation Owner="NLM" Status="In-Process"><PMID Version="1">301</PMID>
      <DateCreated><Year>2007</Year></DateCreated>
      <Article PubModel="Print"><Journal><ISSN IssnType="Print">0000-0001</ISSN>
        <JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue>
        <Title>Old journal</Title></Journal>
        <ArticleTitle>An old title.</ArticleTitle>
        <Abstract><AbstractText>Old text.</AbstractText></Abstract>
        <Language>eng</Language></Article>
      <MeshHeadingList><MeshHeading><DescriptorName MajorTopicYN="Y">Liver</DescriptorName>
      </MeshHeading></MeshHeadingList>
    </MedlineCitation>
    <DeleteCitation><PMID Version="1">7</PMID><PMID>8</PMID></DeleteCitation>"""
    counts = ParseCounts()
    path = written(tmp_path, citation, root="MedlineCitationSet")
    assert list(parse(path, counts)) == [
        Article(
            pmid=301,
            title="An old title.",
            sections=(AbstractSection("Old text."),),
            languages=("eng",),
            date="1998 Dec-1999 Jan",
            year=1998,
            journal="Old journal",
            issn="0000-0001",
            mesh=(MeshHeading(None, "Liver", True),),
            status="In-Process",
        ),
        Deletion(7, 1),
        Deletion(8, 1),
    ]
    assert counts == ParseCounts(articles=1, deletions=2)


def test_books_are_counted_and_skipped(tmp_path):
    book = "<PubmedBookArticle><BookDocument><PMID>9</PMID></BookDocument></PubmedBookArticle>"
    delete = "<DeleteCitation><PMID Version='3'>4</PMID></DeleteCitation>"
    counts = ParseCounts()
    records = list(parse(written(tmp_path, record(1), book, record(2), delete), counts))
    assert [r.pmid for r in records] == [1, 2, 4]
    assert records[2] == Deletion(4, 3)
    assert counts == ParseCounts(articles=2, deletions=1, books=1)


def language(code):
    return f"<Language>{code}</Language>"


VERNACULAR = "<VernacularTitle>Über <i>Beispiele</i>.</VernacularTitle>"


@pytest.mark.parametrize(
    ("title", "article", "expected"),
    [
        ("[On examples].", language("ger"), ("On examples.", True)),
        ("[Are these examples?]", language("ger"), ("Are these examples?", True)),
        ("[Are these examples?].", language("ger"), ("Are these examples?", True)),
        (
            "[On [<sup>18</sup>F]FDG in [all] examples].",
            language("jpn"),
            ("On [18F]FDG in [all] examples.", True),
        ),
        ("[On examples].", language("eng") + VERNACULAR, ("On examples.", True)),
        ("[On examples].", language("eng") + language("fre"), ("On examples.", True)),
        # not translations, or not only one
        ("[On examples].", language("eng"), ("[On examples].", False)),
        ("[<sup>18</sup>F]FDG in examples.", language("ger"), ("[18F]FDG in examples.", False)),
        ("[3H]examples [1].", language("fre"), ("[3H]examples [1].", False)),
        ("[On examples]. [And more].", language("ger"), ("[On examples]. [And more].", False)),
        ("[On examples.", language("ger"), ("[On examples.", False)),
        ("On examples.", language("ger"), ("On examples.", False)),
        ("[Not Available].", language("fre") + VERNACULAR, ("[Not Available].", False)),
        ("", language("eng"), ("", False)),
    ],
)
def test_translated_titles(tmp_path, title, article, expected):
    found = one(tmp_path, title=title, article=article)
    assert (found.title, found.translated) == expected
    assert found.vernacular_title == ("Über Beispiele." if VERNACULAR in article else None)


@pytest.mark.parametrize(
    ("date", "verbatim", "year"),
    [
        ("<Year>2001</Year><Month>Feb</Month><Day>3</Day>", "2001 Feb 3", 2001),
        ("<Year>2001</Year><Season>Spring</Season>", "2001 Spring", 2001),
        ("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>", "1998 Dec-1999 Jan", 1998),
        ("<MedlineDate>Winter 1976-1977</MedlineDate>", "Winter 1976-1977", 1976),
        ("<MedlineDate>no date</MedlineDate>", "no date", None),
        ("", None, None),
    ],
)
def test_dates(tmp_path, date, verbatim, year):
    article = one(tmp_path, date=date)
    assert (article.date, article.year) == (verbatim, year)


def test_doi_falls_back_to_the_records_own_id_list_only(tmp_path):
    own = "<ArticleIdList><ArticleId IdType='doi'>10.1/own</ArticleId></ArticleIdList>"
    references = (
        "<ReferenceList><Reference>" + own.replace("own", "other") + "</Reference></ReferenceList>"
    )
    for ids, doi in [(own + references, "10.1/own"), (references, None)]:
        text = record(1).replace(
            "</PubmedArticle>", f"<PubmedData>{ids}</PubmedData></PubmedArticle>"
        )
        [article] = parse(written(tmp_path, text))
        assert article.doi == doi


def refused(path):
    with pytest.raises(ModernPubMedError) as caught:
        list(parse(path))
    error = caught.value
    assert error.file == str(path)
    assert error.remedy
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize(
    ("bad", "cause", "place"),
    [
        (record(None), "no PMID", "record 3 (after PMID 12)"),
        (record(""), "no PMID", "record 3 (after PMID 12)"),
        (record("x12"), "the PMID is no number: 'x12'", "record 3 (after PMID 12)"),
        (record("-1"), "the PMID is no number: '-1'", "record 3 (after PMID 12)"),
        ("<PubmedArticle/>", "no MedlineCitation in it", "record 3 (after PMID 12)"),
        (
            "<DeleteCitation><PMID>1 2</PMID></DeleteCitation>",
            "the PMID is no number: '1 2'",
            "record 3 (after PMID 12)",
        ),
        (
            "<PubmedArticle><MedlineCitation><PMID>5</PMID></MedlineCitation></PubmedArticle>",
            "no Article element in it",
            "PMID 5",
        ),
        (
            record(5).replace("<PMID>", "<PMID Version='b'>"),
            "the PMID Version is no number: 'b'",
            "record 3 (after PMID 12)",
        ),
    ],
)
def test_bad_records_are_refused_with_their_place(tmp_path, bad, cause, place):
    error = refused(written(tmp_path, record(11), record(12), bad))
    assert (error.cause, error.record) == (cause, place)


def test_wrong_root_is_refused(tmp_path):
    error = refused(written(tmp_path, record(1), root="eSearchResult"))
    assert error.cause == "its root element is eSearchResult"
    assert "PubmedArticleSet" in error.remedy


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_xml_is_refused(tmp_path, share):
    path = written(tmp_path, *(record(n) for n in range(1, 1000)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert refused(path).cause.startswith("damaged or truncated XML")


@pytest.mark.parametrize("text", ["<?xml version='1.0'?>", "not XML", "<a", " "])
def test_no_xml_is_refused(tmp_path, text):
    path = tmp_path / "a.xml"
    path.write_text(text)
    assert refused(path).cause.startswith("damaged or truncated XML")


def test_an_empty_set_is_no_error(tmp_path):
    assert list(parse(written(tmp_path))) == []


def test_entities_are_not_expanded(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    path = tmp_path / "a.xml"
    path.write_text(
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}"><!ENTITY f "boom">]>'
        f"<PubmedArticleSet>{record(1, 'Title &e; &f;')}</PubmedArticleSet>"
    )
    [article] = parse(path)
    assert article.title == "Title &e; &f;"
    assert _SAFELY["no_network"]
    assert not _SAFELY["resolve_entities"]


def test_records_are_let_go_as_they_are_read(tmp_path):
    # One parsed record is about 4 KB of tree; 6,000 kept would be more than 24 MB.
    script = """
import resource, sys
from pathlib import Path
from modernpubmed.pubmed import parse
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
records = parse(Path(sys.argv[1]))
for _ in range(500): next(records)
start = peak()
n = 500 + sum(1 for _ in records)
assert n == 6_000, n
assert peak() - start < 8_000, f"grew by {peak() - start} KB"
"""
    import subprocess
    import sys

    path = written(tmp_path, *(FULL.replace("101", str(n)) for n in range(1000, 7_000)))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
