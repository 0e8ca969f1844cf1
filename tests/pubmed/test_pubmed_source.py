import gzip
import hashlib

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.source import read_chunks, verify_md5

TEXT = b"<PubmedArticleSet/>" * 20_000


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz", "a"])
def test_kind_is_read_off_the_bytes_not_the_name(tmp_path, name):
    plain, zipped = tmp_path / name, tmp_path / f"zipped-{name}"
    plain.write_bytes(TEXT)
    zipped.write_bytes(gzip.compress(TEXT))
    assert b"".join(read_chunks(plain)) == TEXT
    assert b"".join(read_chunks(zipped)) == TEXT


def test_several_gzip_members_are_one_file(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(TEXT) + gzip.compress(b"<!-- end -->"))
    assert b"".join(read_chunks(path)) == TEXT + b"<!-- end -->"


def flipped(data):
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]  # in the stored CRC-32


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data[: len(data) // 2], "damaged gzip"),
        (lambda data: data[:-4], "damaged gzip"),
        (flipped, "damaged gzip"),
        (lambda data: data[:2] + b"garbage", "damaged gzip"),
        (lambda _: b"", "the file is empty"),
        (lambda _: gzip.compress(b""), "the gzip holds nothing"),
    ],
    ids=["half", "no length", "checksum", "header", "empty", "empty inside"],
)
def test_damaged_files_are_refused(tmp_path, damage, cause):
    path = tmp_path / "pubmed26n0001.xml.gz"
    path.write_bytes(damage(gzip.compress(TEXT)))
    with pytest.raises(ModernPubMedError) as caught:
        list(read_chunks(path))
    assert caught.value.cause.startswith(cause)
    assert caught.value.file == str(path)
    assert "\n" not in str(caught.value)
    assert "Remedy: fetch the file again." in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_missing_file_and_folder_are_refused(tmp_path, make):
    make(tmp_path / "a.xml")
    with pytest.raises(ModernPubMedError, match="cannot be read"):
        list(read_chunks(tmp_path / "a.xml"))


@pytest.mark.parametrize("form", ["MD5(a.xml.gz)= {}\n", "{}  a.xml.gz\n", "{} *a.xml.gz", "{}"])
def test_md5_sidecar_forms(tmp_path, form):
    path = tmp_path / "a.xml.gz"
    path.write_bytes(TEXT)
    assert verify_md5(path) is False
    sidecar = tmp_path / "a.xml.gz.md5"
    sidecar.write_text(form.format(hashlib.md5(TEXT).hexdigest()))  # noqa: S324
    assert verify_md5(path) is True
    sidecar.write_text(form.format("0" * 32))
    with pytest.raises(ModernPubMedError, match="its MD5 is") as caught:
        verify_md5(path)
    assert caught.value.file == str(path)


def test_md5_sidecar_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "a.xml.gz"
    path.write_bytes(TEXT)
    (tmp_path / "a.xml.gz.md5").write_text("<html>404</html>")
    with pytest.raises(ModernPubMedError, match="no MD5 checksum"):
        verify_md5(path)
