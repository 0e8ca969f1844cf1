"""Reading text: what each room stands on, held to Python's own ways of reading."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines, table_rows, text_lines

FORMS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zstd": zstandard.compress,
    "zstd frames": lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:]),
}
TEXT = "fièvre\n\nline\u2028separator\r\nlone\rreturn\nno end"
LINES = [
    (1, "fièvre\n"),
    (2, "\n"),
    (3, "line\u2028separator\r\n"),
    (4, "lone\rreturn\n"),
    (5, "no end"),
]
SHAPE = '{"a": 1}'


def write(folder: Path, content: bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def message(read) -> str:
    with pytest.raises(ModernPubMedError) as caught:
        list(read)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_lines_whatever_the_form_and_the_pieces(tmp_path, monkeypatch, form, piece):
    monkeypatch.setattr("modernpubmed.lines._CHUNK", piece)
    assert list(text_lines(write(tmp_path, FORMS[form](TEXT.encode())))) == LINES


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_file_has_no_lines_and_no_objects(tmp_path, form):
    path = write(tmp_path, FORMS[form](b""))
    assert list(text_lines(path)) == []
    assert message(json_lines(path, SHAPE)) == (
        f'{path}: the file is empty. Remedy: write each line as {{"a": 1}}.'
    )


def test_a_byte_order_mark_is_passed_over_once(tmp_path):
    path = write(tmp_path, "\ufeffa\n\ufeffb\n".encode())
    assert list(text_lines(path)) == [(1, "a\n"), (2, "\ufeffb\n")]
    assert list(json_lines(write(tmp_path, "\ufeff{}".encode()), SHAPE)) == [(1, {})]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(alphabet="ab é\u2028\u0085\x0b\n\r", max_size=60), st.integers(1, 9))
def test_lines_are_those_of_python(tmp_path, monkeypatch, text, piece):
    monkeypatch.setattr("modernpubmed.lines._CHUNK", piece)
    path = write(tmp_path, text.encode())
    with path.open(encoding="utf-8", newline="\n") as file:
        assert list(text_lines(path)) == list(enumerate(file, start=1))


NUMBERS = "".join(f"{number * 7919**9 % 10**30}\n" for number in range(3000)).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.gz", gzip.compress(NUMBERS)[:-9]),
        ("header.gz", gzip.compress(NUMBERS)[:5]),
        ("checksum.gz", gzip.compress(NUMBERS)[:-8] + b"0000" + gzip.compress(NUMBERS)[-4:]),
        ("cut.zst", zstandard.compress(NUMBERS)[:-5]),
        ("header.zst", zstandard.compress(NUMBERS)[:6]),
        ("garbage.zst", zstandard.compress(NUMBERS)[:30] + b"x" * 900),
        ("after.zst", zstandard.compress(NUMBERS) + b"trailing"),
        ("page.gz", b"<html>404</html>\n"),
        ("page.zst", b"<html>404</html>\n"),
        ("gzip.zst", gzip.compress(NUMBERS)),
        ("nothing.gz", b""),
    ],
)
def test_damaged_data_are_refused_never_cut_short(tmp_path, name, content):
    path = write(tmp_path, content, name)
    assert message(text_lines(path)).startswith(f"{path}: after line ")
    assert ": cannot be read (" in message(text_lines(path))


def test_lines_before_the_damage_are_given_and_counted(tmp_path):
    frame = zstandard.compress(b"one\ntwo\n")
    read = text_lines(write(tmp_path, frame + frame[:6]))
    assert [next(read), next(read)] == [(1, "one\n"), (2, "two\n")]
    assert "after line 2: cannot be read (it ends in the middle of a frame)" in message(read)


def test_missing_files_and_folders(tmp_path):
    none = tmp_path / "none"
    for read in (text_lines(none), json_lines(none, SHAPE), table_rows(none, ["a"])):
        assert message(read).startswith(f"{none}: cannot be read (No such file or directory). ")
    assert "cannot be read (Is a directory)" in message(text_lines(tmp_path))


def test_what_is_not_utf8_is_refused_by_its_line(tmp_path):
    path = write(tmp_path, b'{"a": 1}\n{"a": "\xe9"}\n')
    assert "after line 1: cannot be read as UTF-8 text ('utf-8' codec" in message(text_lines(path))
    assert "file: line 2: cannot be read as UTF-8 text" in message(json_lines(path, SHAPE))


def test_json_lines_keep_the_number_of_their_line(tmp_path):
    path = write(tmp_path, '{"a": "é\u2028"}\n\n \r\n{"b": [1]}\r\n'.encode())
    assert list(json_lines(path, SHAPE)) == [(1, {"a": "é\u2028"}), (4, {"b": [1]})]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"a": ', "line 3: not JSON (Expecting value"),
        (b"{} {}", "line 3: not JSON (Extra data"),
        (b"[1]", "line 3: not a JSON object."),
        (b"null", "line 3: not a JSON object."),
        (b"9" * 5000, "line 3: not JSON (Exceeds the limit"),
    ],
)
def test_a_line_that_is_no_object_is_refused(tmp_path, line, cause):
    text = message(json_lines(write(tmp_path, b"{}\n\n" + line + b"\n{}\n"), SHAPE))
    assert f"file: {cause}" in text
    assert text.endswith('Remedy: write each line as {"a": 1}.')


@pytest.mark.parametrize("form", FORMS)
def test_tables(tmp_path, form):
    content = 'id\tb\ta\n1\tsays "no"\té\r\n\n2\t\tx,y\n'
    rows = [(2, {"id": "1", "b": 'says "no"', "a": "é"}), (4, {"id": "2", "b": "", "a": "x,y"})]
    path = write(tmp_path, FORMS[form](content.encode()))
    assert list(table_rows(path, ["a", "b"])) == rows


def test_comma_separated_tables_are_those_of_the_csv_module(tmp_path):
    content = 'a,b\r\n"x, ""y""","two\r\nlines"\r\n\r\né,\r\n'
    path = write(tmp_path, content.encode())
    rows = list(table_rows(path, ["a"], delimiter=","))
    assert [row for _, row in rows] == list(csv.DictReader(io.StringIO(content, newline="")))
    assert [number for number, _ in rows] == [3, 5]


@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (b"", "line 1: the header does not name the columns a and b", "make a,b line 1"),
        (b"a,c\n", "line 1: the header does not name the columns a and b", "make a,b line 1"),
        (b"a,b\n1,2\n\n1\n", "line 4: 1 columns where the header has 2", "put fields with commas"),
        (b"a,b\n1,2,3\n", "line 2: 3 columns where the header has 2", "put fields with commas"),
        (b'a,b\n1,2\n"1"x,2\n', "line 2: cannot be read (", "save it as a UTF-8 table"),
        (b'a,b\n"1,2\n', "line 1: cannot be read (unexpected end of data)", "a UTF-8 table"),
        (b"a,b\n1\r1,2\n", "line 1: cannot be read (new-line", "save it as a UTF-8 table"),
        (b"a,b\n\xff,2\n", "line 1: cannot be read as UTF-8 text", "save it as UTF-8"),
    ],
)
def test_bad_tables(tmp_path, content, cause, remedy):
    text = message(table_rows(write(tmp_path, content), ["a", "b"], delimiter=","))
    assert cause in text
    assert remedy in text.partition("Remedy: ")[2]
    tabs = content.replace(b",", b"\t")
    if b'"' not in content:
        assert cause in message(table_rows(write(tmp_path, tabs), ["a", "b"]))
