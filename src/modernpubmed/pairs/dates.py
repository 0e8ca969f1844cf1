"""When an article was published, as far as its record says: the first and last day it may be.

NLM's ``PubDate`` is a day, a month, a season or a year, or the free text of ``MedlineDate``
("1998 Dec-1999 Jan"; https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html#pubdate).
Given up: seasons, which differ by hemisphere and by publisher: they are taken for their year.
"""

from __future__ import annotations

import calendar
import re
from datetime import date

from modernpubmed.errors import ModernPubMedError

_MONTHS = {name.casefold(): number for number, name in enumerate(calendar.month_abbr) if number > 0}
_PART = re.compile(r"(?P<year>\b(?:1[5-9]|20)\d\d\b)|(?P<day>\b\d{1,2}\b)|(?P<word>[^\W\d]+)")
_ISO = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")

#: Why a record is outside a span of time.
TOO_EARLY, TOO_LATE = "published before the span", "published after the span"
NO_DATE, INEXACT = "no publication date", "publication date not exact enough"

Span = tuple[date, date]
#: The first and the last day asked for; None is any.
Asked = tuple[date | None, date | None]


def publication_span(text: str | None, year: int | None = None) -> Span | None:
    """The first and the last day that a publication date may mean; None where it says nothing.

    Args:
        text: ``Article.date``.
        year: ``Article.year`` or ``Pair.year``, for where there is no text.

    >>> [str(day) for day in publication_span("2019 Feb")]
    ['2019-02-01', '2019-02-28']
    >>> [str(day) for day in publication_span("1998 Dec-1999 Jan")]
    ['1998-12-01', '1999-01-31']
    >>> publication_span("2020 Mar 15-30") == (date(2020, 3, 15), date(2020, 3, 30))
    True
    >>> publication_span("2001 Spring") == publication_span(None, 2001)
    True
    """
    spans: list[Span] = []
    month: int | None = None
    known: int | None = None
    for side in (text or "").split("-"):
        numbers: list[int] = []
        here: int | None = None
        for part in _PART.finditer(side):
            if part["year"]:
                known, month = int(part["year"]), None
            elif part["day"]:
                numbers.append(int(part["day"]))
            else:
                here = _MONTHS.get(part["word"][:3].casefold(), here)
        # "2024 03 15" has its month in figures, "Mar 15-30" its month on the other side.
        if here is None and len(numbers) == 2:
            here, numbers = numbers[0], numbers[1:]
        month = here or month
        if known is not None:
            spans.append(_span(known, month, numbers[0] if month and numbers else None))
    if not spans:
        return None if year is None else _span(year, None, None)
    return min(first for first, _ in spans), max(last for _, last in spans)


def outside(text: str | None, year: int | None, asked: Asked) -> str | None:
    """Why a record is not known to lie in a span of time; None where it is.

    Args:
        text: As in ``publication_span``.
        year: Likewise.
        asked: The span.

    >>> outside("2019 Feb", None, asked_span("2019-03", None))
    'published before the span'
    """
    first, last = asked
    if first is None and last is None:
        return None
    published = publication_span(text, year)
    if published is None:
        return NO_DATE
    if first is not None and published[1] < first:
        return TOO_EARLY
    if last is not None and published[0] > last:
        return TOO_LATE
    whole = (first is None or first <= published[0]) and (last is None or published[1] <= last)
    return None if whole else INEXACT


def asked_span(since: str | date | None, until: str | date | None) -> Asked:
    """The span that two dates name, as ``day_of`` reads them.

    Raises:
        ModernPubMedError: One of them is no date, or nothing lies between them.
    """
    days: list[date | None] = []
    for text, last in ((since, False), (until, True)):
        day = None if text is None else day_of(text, last=last)
        if text is not None and day is None:
            raise ModernPubMedError(
                f"{text!r} is no date", remedy="write it as 2024, 2024-03 or 2024-03-15"
            )
        days.append(day)
    first, last_day = days
    if first is not None and last_day is not None and first > last_day:
        raise ModernPubMedError(
            f"nothing lies between {first} and {last_day}", remedy="give since before until"
        )
    return first, last_day


def day_of(text: str | date, *, last: bool) -> date | None:
    """The first or last day of a date written as ``2024``, ``2024-03`` or ``2024-03-15``.

    >>> day_of("2024-02", last=True)
    datetime.date(2024, 2, 29)
    >>> day_of("spring 2024", last=True) is None
    True
    """
    if isinstance(text, date):
        return text
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = (None if part is None else int(part) for part in match.groups())
    try:
        if day is not None:
            return date(year or 0, month or 0, day)
        if month is not None and not 1 <= month <= 12:
            return None
        return _span(year or 0, month, None)[last]
    except ValueError:
        return None


def _span(year: int, month: int | None, day: int | None) -> Span:
    if month is None or not 1 <= month <= 12:
        return date(year, 1, 1), date(year, 12, 31)
    days = calendar.monthrange(year, month)[1]
    if day is None or not 1 <= day <= days:
        return date(year, month, 1), date(year, month, days)
    return date(year, month, day), date(year, month, day)
