"""NLM files of our own making, in a mirror's tree."""

import gzip
import hashlib

import pytest


class Nlm:
    """Writes NLM files to ``folder``, as a mirror has them."""

    def __init__(self, folder):
        self.folder = folder

    @staticmethod
    def record(pmid, title="a title", version=1, abstract=""):
        if abstract:
            abstract = f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract>"
        return (
            f"<PubmedArticle><MedlineCitation><PMID Version='{version}'>{pmid}</PMID>"
            f"<Article><ArticleTitle>{title}</ArticleTitle>{abstract}</Article>"
            f"</MedlineCitation></PubmedArticle>"
        )

    @staticmethod
    def delete(*pmids, version=1):
        inner = "".join(f"<PMID Version='{version}'>{pmid}</PMID>" for pmid in pmids)
        return f"<DeleteCitation>{inner}</DeleteCitation>"

    def path(self, number, year=26):
        return self.folder / "updatefiles" / f"pubmed{year:02}n{number:04}.xml.gz"

    def write(self, number, *records, year=26, md5=True):
        text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
        return self.put(number, gzip.compress(text.encode(), mtime=0), year=year, md5=md5)

    def put(self, number, content, *, year=26, md5=True):
        """Any bytes, with their MD5, with another one (a string), or without (False)."""
        path = self.path(number, year)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        sidecar = path.with_name(f"{path.name}.md5")
        sidecar.unlink(missing_ok=True)
        if md5:
            digest = md5 if isinstance(md5, str) else hashlib.md5(content).hexdigest()  # noqa: S324
            sidecar.write_text(f"MD5({path.name})= {digest}\n")
        return path


@pytest.fixture
def nlm(tmp_path):
    return Nlm(tmp_path / "mirror")
