from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.fetch import fetch_newest_updatefile


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def publish(folder: Path, name: str, content: bytes, md5: str | None = None) -> None:
    (folder / name).write_bytes(content)
    digest = md5 or hashlib.md5(content).hexdigest()  # noqa: S324
    (folder / f"{name}.md5").write_text(f"MD5({name})= {digest}\n")


def test_the_newest_is_fetched_verified_and_then_kept(served, tmp_path: Path):
    folder, base = served
    content = gzip.compress(b"<PubmedArticleSet/>" * 100)
    publish(folder, "pubmed25n1999.xml.gz", b"older year, higher number")
    publish(folder, "pubmed26n1400.xml.gz", b"older")
    publish(folder, "pubmed26n1401.xml.gz", content)
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    path = fetch_newest_updatefile(out, base=base, report=lambda a, b: seen.append((a, b)))
    assert path.read_bytes() == content
    assert path.name == "pubmed26n1401.xml.gz"
    assert seen[-1] == (len(content), len(content))
    assert sorted(p.name for p in out.iterdir()) == [path.name, f"{path.name}.md5"]
    seen.clear()
    assert fetch_newest_updatefile(out, base=base, report=lambda a, b: seen.append((a, b))) == path
    assert seen == []
    path.write_bytes(b"damaged on disk")
    fetch_newest_updatefile(out, base=base)
    assert path.read_bytes() == content


def test_what_does_not_match_its_md5_is_not_kept(served, tmp_path: Path):
    folder, base = served
    publish(folder, "pubmed26n1400.xml.gz", b"bytes", md5="0" * 32)
    with pytest.raises(ModernPubMedError, match=r"pubmed26n1400.*MD5"):
        fetch_newest_updatefile(tmp_path / "out", base=base)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_server_without_files_and_no_server(served, tmp_path: Path):
    _, base = served
    with pytest.raises(ModernPubMedError, match="lists no updatefile"):
        fetch_newest_updatefile(tmp_path, base=base)
    with pytest.raises(ModernPubMedError, match="cannot be fetched"):
        fetch_newest_updatefile(tmp_path, base="http://127.0.0.1:9/")
