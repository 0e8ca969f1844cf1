"""Ours against pubmed_parser: records a second, memory, and where our time goes.

Both read the same gzip'd files in one process, in turns; ``--files`` takes genuine ones, otherwise
one is made of invented records as rich as NLM's of 2026. pubmed_parser also hands out authors,
grants, chemicals, keywords and references, which we do not read; we hand out sections, languages,
copyright, other abstracts, corrections and qualifiers, which it does not. Neither can be told not to.

Ratios are of wall time and of processor time; on a busy machine believe the latter.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pubmed_parser
from lxml import etree

from _side_by_side import show
from modernpubmed.pubmed import parse
from modernpubmed.pubmed.convert import convert
from modernpubmed.pubmed.source import read_chunks
from modernpubmed.pubmed.workers import convert_all
from modernpubmed.records import Article

RECORDS = 3_000
TARGET = 4.0

_SENTENCE = (
    "In a cohort of {n} adults followed for {m} months, the adjusted risk of readmission was lower "
    "with early <i>ambulatory</i> review than with usual care (10<sup>{e}</sup> cells per mL). "
)
# ruff: noqa: E501
_AUTHOR = """          <Author ValidYN="Y">
            <LastName>Nobody{k}</LastName>
            <ForeName>Ann {k}</ForeName>
            <Initials>A</Initials>
            <Identifier Source="ORCID">0000-0000-0000-000{k}</Identifier>
            <AffiliationInfo>
              <Affiliation>Department of Invented Medicine {k}, University of Nowhere, Nowhere {n}, Utopia.</Affiliation>
            </AffiliationInfo>
          </Author>
"""
_HEADING = """        <MeshHeading>
          <DescriptorName UI="D00{k:04}" MajorTopicYN="{major}">Heading number {k}</DescriptorName>
{qualifier}        </MeshHeading>
"""
_QUALIFIER = """          <QualifierName UI="Q0001{k:02}" MajorTopicYN="N">statistics &amp; numerical data</QualifierName>
"""
_REFERENCE = """        <Reference>
          <Citation>Nobody A, et al. An invented paper, number {k}. J Inv Res. 2019;{k}(2):{n}.</Citation>
          <ArticleIdList>
            <ArticleId IdType="doi">10.1000/inv.{n}.{k}</ArticleId>
            <ArticleId IdType="pubmed">{k}{n}</ArticleId>
          </ArticleIdList>
        </Reference>
"""
_RECORD = """  <PubmedArticle>
    <MedlineCitation Status="MEDLINE" Owner="NLM" IndexingMethod="Automated">
      <PMID Version="1">{n}</PMID>
      <DateCompleted>
        <Year>2026</Year>
        <Month>01</Month>
        <Day>05</Day>
      </DateCompleted>
      <DateRevised>
        <Year>2026</Year>
        <Month>01</Month>
        <Day>06</Day>
      </DateRevised>
      <Article PubModel="Print-Electronic">
        <Journal>
          <ISSN IssnType="Electronic">0000-0000</ISSN>
          <JournalIssue CitedMedium="Internet">
            <Volume>{m}</Volume>
            <Issue>2</Issue>
            <PubDate>
              <Year>2025</Year>
              <Month>Mar</Month>
            </PubDate>
          </JournalIssue>
          <Title>Journal of Invented Results</Title>
          <ISOAbbreviation>J Inv Res</ISOAbbreviation>
        </Journal>
        <ArticleTitle>Early review and readmission in {n} adults: an invented cohort.</ArticleTitle>
        <Pagination>
          <StartPage>{m}</StartPage>
          <MedlinePgn>{m}-99</MedlinePgn>
        </Pagination>
        <ELocationID EIdType="doi" ValidYN="Y">10.1000/inv.{n}</ELocationID>
        <Abstract>
          <AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">{text}</AbstractText>
          <AbstractText Label="RESULTS" NlmCategory="RESULTS">{text}{text}{text}</AbstractText>
          <AbstractText Label="CONCLUSION" NlmCategory="CONCLUSIONS">{text}</AbstractText>
          <CopyrightInformation>© 2025. The Author(s).</CopyrightInformation>
        </Abstract>
        <AuthorList CompleteYN="Y">
{authors}        </AuthorList>
        <Language>eng</Language>
        <GrantList CompleteYN="Y">
          <Grant>
            <GrantID>R01 {n}</GrantID>
            <Acronym>HL</Acronym>
            <Agency>NHLBI NIH HHS</Agency>
            <Country>United States</Country>
          </Grant>
        </GrantList>
        <PublicationTypeList>
          <PublicationType UI="D016428">Journal Article</PublicationType>
          <PublicationType UI="D016448">Multicenter Study</PublicationType>
        </PublicationTypeList>
        <ArticleDate DateType="Electronic">
          <Year>2025</Year>
          <Month>02</Month>
          <Day>01</Day>
        </ArticleDate>
      </Article>
      <MedlineJournalInfo>
        <Country>United States</Country>
        <MedlineTA>J Inv Res</MedlineTA>
        <NlmUniqueID>0000001</NlmUniqueID>
        <ISSNLinking>0000-0000</ISSNLinking>
      </MedlineJournalInfo>
      <ChemicalList>
        <Chemical>
          <RegistryNumber>0</RegistryNumber>
          <NameOfSubstance UI="D000001">Inventin</NameOfSubstance>
        </Chemical>
      </ChemicalList>
      <CitationSubset>IM</CitationSubset>
      <MeshHeadingList>
{mesh}      </MeshHeadingList>
      <KeywordList Owner="NOTNLM">
        <Keyword MajorTopicYN="N">Readmission</Keyword>
        <Keyword MajorTopicYN="N">Ambulatory care</Keyword>
        <Keyword MajorTopicYN="N">Cohort</Keyword>
        <Keyword MajorTopicYN="N">Invention</Keyword>
      </KeywordList>
    </MedlineCitation>
    <PubmedData>
      <History>
        <PubMedPubDate PubStatus="received">
          <Year>2024</Year>
          <Month>12</Month>
          <Day>1</Day>
        </PubMedPubDate>
        <PubMedPubDate PubStatus="pubmed">
          <Year>2025</Year>
          <Month>2</Month>
          <Day>2</Day>
          <Hour>6</Hour>
          <Minute>0</Minute>
        </PubMedPubDate>
      </History>
      <PublicationStatus>ppublish</PublicationStatus>
      <ArticleIdList>
        <ArticleId IdType="pubmed">{n}</ArticleId>
        <ArticleId IdType="doi">10.1000/inv.{n}</ArticleId>
      </ArticleIdList>
      <ReferenceList>
{references}      </ReferenceList>
    </PubmedData>
  </PubmedArticle>
"""


def record(n: int) -> str:
    """An invented record: six authors, eight headings, sixteen references, as NLM's have."""
    headings = "".join(
        _HEADING.format(
            k=n % 500 + k,
            major="NY"[k == 1],
            qualifier=_QUALIFIER.format(k=k) if k % 2 else "",
        )
        for k in range(8)
    )
    return _RECORD.format(
        n=n,
        m=n % 60,
        text=_SENTENCE.format(n=n, m=n % 60, e=n % 9 + 1),
        authors="".join(_AUTHOR.format(k=k, n=n) for k in range(6)),
        mesh=headings,
        references="".join(_REFERENCE.format(k=k, n=n) for k in range(16)),
    )


def write(path: Path, first: int, records: int) -> Path:
    """A file of invented records in NLM's form."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
        file.writelines(record(n) for n in range(first, first + records))
        file.write("</PubmedArticleSet>\n")
    return path


def ours(files: Sequence[Path]) -> int:
    """Every article of the files as an ``Article``."""
    return sum(isinstance(found, Article) for path in files for found in parse(path))


def converted(files: Sequence[Path]) -> int:
    """Every article of the files in Parquet."""
    with tempfile.TemporaryDirectory() as out:
        return sum(convert(path, Path(out) / path.stem).articles for path in files)


def theirs(files: Sequence[Path]) -> int:
    """Every article of the files as pubmed_parser's dictionary."""
    return sum(1 for path in files for _ in pubmed_parser.parse_medline_xml(str(path)))


def inflated(files: Sequence[Path]) -> int:
    """Inflating alone."""
    return sum(len(chunk) for path in files for chunk in read_chunks(path))


def floor(files: Sequence[Path]) -> None:
    """Inflating and libxml2 alone: the tree is built and let go, and nobody looks at it."""
    for path in files:
        parser = etree.XMLPullParser(
            events=("pi",), resolve_entities=False, no_network=True, huge_tree=True
        )
        parser.feed(b"<?mark?>")
        [(_, mark)] = parser.read_events()
        chunks = read_chunks(path)
        declaration, end, rest = next(chunks).partition(b"?>")
        parser.feed(rest if end else declaration)
        for chunk in chunks:
            parser.feed(chunk)
            root = mark.getnext()
            if root is not None and (complete := len(root) - 1) > 0:
                del root[:complete]
        parser.close()


Way = Callable[[Sequence[Path]], object]
SIDES: dict[str, Way] = {
    "parse": ours, "convert": converted, "pubmed_parser": theirs, "inflate": inflated, "floor": floor,
}  # fmt: skip


#: Each side as a program of its own, which imports no more than it needs.
ALONE = {
    "parse": """
import sys, pathlib
from modernpubmed.pubmed import parse
for name in sys.argv[1:]:
    for record in parse(pathlib.Path(name)):
        pass
""",
    "convert": """
import sys, pathlib, tempfile
from modernpubmed.pubmed.convert import convert
with tempfile.TemporaryDirectory() as out:
    for number, name in enumerate(sys.argv[1:]):
        convert(pathlib.Path(name), pathlib.Path(out) / str(number))
""",
    "pubmed_parser": """
import sys, pubmed_parser
for name in sys.argv[1:]:
    for record in pubmed_parser.parse_medline_xml(name):
        pass
""",
}
SAY_PEAK = """
with open("/proc/self/status") as status:
    print(int(status.read().partition("VmHWM:")[2].split()[0]) / 1024)
"""


def main() -> None:
    """Checks that both read the same records, and measures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", nargs="*", type=Path, help="genuine files")
    options.add_argument("--records", type=int, default=RECORDS)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = given.files or [write(folder / "pubmed26n9001.xml.gz", 1, given.records)]
        articles = ours(files)
        assert articles == theirs(files)
        timed(files, articles, given.rounds)
        for name, program in ALONE.items():
            print(f"peak memory, {name}: {peak(program, files):.0f} MB")
        size = 4 * given.records
        scaling([write(folder / f"pubmed26n{n:04}.xml.gz", n * size, size) for n in range(4)])


def timed(files: Sequence[Path], articles: int, rounds: int) -> None:
    """All sides in turns; records a second, what share is whose, and our ratios."""
    wall: dict[str, list[float]] = {name: [] for name in SIDES}
    cpu: dict[str, list[float]] = {name: [] for name in SIDES}
    converted(files)  # the first use of Arrow imports what it finds
    for number in range(rounds):
        for name in list(SIDES) if number % 2 else reversed(SIDES):
            start = time.perf_counter(), time.process_time()
            SIDES[name](files)
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    for name in SIDES:
        best, usual = min(cpu[name]), statistics.median(cpu[name])
        print(
            f"{name}: {articles / usual:,.0f} records a CPU second ({1e6 * usual / articles:.0f} µs"
            f" each, at best {1e6 * best / articles:.0f}), {articles / statistics.median(wall[name]):,.0f} a second"
        )
    for clock, seconds in (("processor time", cpu), ("wall time", wall)):
        for name in ("parse", "convert"):
            show(
                f"{name}: records a second against pubmed_parser, {clock}",
                [b / a for a, b in zip(seconds[name], seconds["pubmed_parser"], strict=True)],
                TARGET,
            )
    for name in ("parse", "convert"):
        shares = [b / a for a, b in zip(cpu[name], cpu["floor"], strict=True)]
        show(f"{name}: share of inflating and libxml2 alone", shares, None)


def scaling(files: Sequence[Path]) -> None:
    """The same files with one process and with two."""
    ratios = []
    for _ in range(3):
        seconds = []
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as out:
                jobs = [(path, Path(out) / path.stem) for path in files]
                start = time.perf_counter()
                assert len(list(convert_all(jobs, workers=workers))) == len(files)
                seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    show("convert: two processes against one, four files", ratios, None)


def peak(program: str, files: Sequence[Path]) -> float:
    """The most memory that a fresh process has for one side, in MB."""
    command = [sys.executable, "-c", program + SAY_PEAK, *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


if __name__ == "__main__":
    main()
