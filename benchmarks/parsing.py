"""Our parser against pubmed_parser, on a gzip'd file of invented records in NLM's form."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pubmed_parser

from _side_by_side import side_by_side
from modernpubmed.pubmed import parse
from modernpubmed.records import Article

RECORDS = 2_000

_SENTENCE = (
    "In a cohort of {n} adults followed for {m} months, the adjusted risk of readmission was lower "
    "with early <i>ambulatory</i> review than with usual care (10<sup>{e}</sup> cells per mL). "
)
# ruff: noqa: E501
_RECORD = """<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM">
<PMID Version="1">{n}</PMID><DateRevised><Year>2026</Year><Month>01</Month><Day>05</Day></DateRevised>
<Article PubModel="Print"><Journal><ISSN IssnType="Print">0000-0000</ISSN><JournalIssue
CitedMedium="Print"><Volume>{m}</Volume><PubDate><Year>2025</Year><Month>Mar</Month></PubDate>
</JournalIssue><Title>Journal of Invented Results</Title><ISOAbbreviation>J Inv Res</ISOAbbreviation>
</Journal><ArticleTitle>Early review and readmission in {n} adults: an invented cohort.</ArticleTitle>
<Abstract><AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">{text}</AbstractText>
<AbstractText Label="RESULTS" NlmCategory="RESULTS">{text}{text}{text}</AbstractText>
<AbstractText Label="CONCLUSION" NlmCategory="CONCLUSIONS">{text}</AbstractText></Abstract>
<AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Nobody</LastName><ForeName>A</ForeName>
<Initials>A</Initials></Author></AuthorList><Language>eng</Language><PublicationTypeList>
<PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList></Article>
<MeshHeadingList><MeshHeading><DescriptorName UI="D000328" MajorTopicYN="N">Adult</DescriptorName>
</MeshHeading><MeshHeading><DescriptorName UI="D010359" MajorTopicYN="Y">Patient Readmission
</DescriptorName><QualifierName UI="Q000706" MajorTopicYN="N">statistics</QualifierName>
</MeshHeading></MeshHeadingList></MedlineCitation><PubmedData><ArticleIdList>
<ArticleId IdType="pubmed">{n}</ArticleId></ArticleIdList></PubmedData></PubmedArticle>
"""


def main() -> None:
    """Writes the file, checks that both read the same titles, and times them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pubmed26n9999.xml.gz"
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
            for n in range(1, RECORDS + 1):
                text = _SENTENCE.format(n=n, m=n % 60, e=n % 9 + 1)
                file.write(_RECORD.format(n=n, m=n % 60, text=text))
            file.write("</PubmedArticleSet>\n")

        def ours() -> list[str]:
            return [record.title for record in parse(path) if isinstance(record, Article)]

        def theirs() -> list[str]:
            return [record["title"] for record in pubmed_parser.parse_medline_xml(str(path))]

        titles = [title.rstrip(".") for title in ours()]
        assert titles == [title.rstrip(".") for title in theirs()]
        side_by_side(f"parse {RECORDS} gzip'd records: ours against pubmed_parser", ours, theirs)


if __name__ == "__main__":
    main()
