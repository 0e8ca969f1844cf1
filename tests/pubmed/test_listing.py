from __future__ import annotations

from datetime import date

import pytest

from modernpubmed.pubmed.listing import read_listing

MIB = 1 << 20
APACHE = """<pre>Name   Last modified      Size  <hr><a href="/pubmed/">Parent Directory</a>   -
<a href="README.txt">README.txt</a>              2025-12-01 10:32  4.5K
<a href="pubmed26n0002.xml.gz">pubmed26n0002.xml.gz</a>   2026-01-10 14:05  9.5M
<a href="pubmed26n0002.xml.gz.md5">pubmed26n0002.xml.gz.md5</a>    2026-01-11 14:06   60
<a href="pubmed26n0001.xml.gz">pubmed26n0001.xml.gz</a>   2026-01-10 14:05   19M
<a href="pubmed26n0001.xml.gz.md5">pubmed26n0001.xml.gz.md5</a>    2026-01-10 14:06   60
<hr></pre><a href="https://example.gov/2020">Policy</a></body></html>"""
TABLE = """<tr><td><img src="x.gif" alt="[   ]"></td><td><a href="pubmed26n0001.xml.gz">pubmed26n00
</a></td><td align="right">2026-01-10 14:05  </td><td align="right"> 19M</td><td>&nbsp;</td></tr>
<tr><td><img src="x.gif"></td><td><a href="pubmed26n0001.xml.gz.md5">pubmed26n00</a></td>
<td align="right">2026-01-10 14:06  </td><td align="right"> 60 </td><td>&nbsp;</td></tr>"""
NGINX = """<a href='./pubmed26n0001.xml.gz'>pubmed26n0001.xml..&gt;</a> 10-Jan-2026 14:05  19922944
<a href='./pubmed26n0001.xml.gz.md5'>pubmed26n0001.xml..&gt;</a> 10-Jan-2026 14:06  60"""
NGINX_JSON = """[{"name":"pubmed26n0001.xml.gz","type":"file",
"mtime":"Sat, 10 Jan 2026 14:05:00 GMT","size":19922944},{"name":"pubmed26n0001.xml.gz.md5",
"type":"file","mtime":"Sat, 10 Jan 2026 14:06:00 GMT","size":60}]"""
OBJECTS = """<Contents><Key>pubmed/baseline/pubmed26n0001.xml.gz</Key><LastModified>
2026-01-10T14:05:01.000Z</LastModified><ETag>"e72c"</ETag><Size>19922944</Size></Contents>
<Contents><Key>pubmed/baseline/pubmed26n0001.xml.gz.md5</Key><LastModified>2026-01-10T14:06:01.000Z
</LastModified><ETag>"e72d"</ETag><Size>60</Size></Contents>"""


@pytest.mark.parametrize("page", [APACHE, TABLE, NGINX, NGINX_JSON, OBJECTS])
def test_the_indexes_of_servers(page: str):
    first, *others = read_listing(page)
    assert (first.name, first.day, first.size) == (
        "pubmed26n0001.xml.gz",
        date(2026, 1, 10),
        19 * MIB,
    )
    assert [one.name for one in others] == (["pubmed26n0002.xml.gz"] if page == APACHE else [])
    # Any change of either row shows.
    for old in ("14:05", "14:06", "19922944" if "19922944" in page else "19M"):
        assert read_listing(page.replace(old, "14:07"))[0].about != first.about


def test_the_younger_row_counts():
    assert read_listing(APACHE)[1].day == date(2026, 1, 11)
    assert read_listing(APACHE)[1].size == round(9.5 * MIB)


@pytest.mark.parametrize(
    "page",
    [
        "pubmed26n0001.xml.gz\npubmed26n0001.xml.gz.md5\n",
        '<li><a href="pubmed26n0001.xml.gz">pubmed26n0001.xml.gz</a></li>',
        '<a href="https://x.gov/pubmed/baseline/pubmed26n0001.xml.gz">baseline 1</a>',
    ],
)
def test_indexes_that_say_no_more_than_names(page: str):
    (one,) = read_listing(page)
    assert (one.name, one.day, one.size) == ("pubmed26n0001.xml.gz", None, None)


def test_what_is_no_file_of_nlms():
    page = "pubmed26n0001.xml pubmed26n0001.xml.gz.asc mypubmed26n0001.xml.gz pubmed6n1.xml.gz"
    assert read_listing(page) == []
    assert read_listing("pubmed26n0001.xml.gz.md5") == []
    assert read_listing("pubmed26n0001.xml.gz 2026-13-45 14:05")[0].day is None
