"""The report's pictures: SVG made of figures, with colours that the page's style sheet decides.

Plain strings rather than a plotting library: a picture must follow the page into dark mode and to
paper, which takes CSS variables in the marks, and must be readable as text, which takes ``<text>``
elements. Every shape carries its figure as a ``<title>``, shown when one points at it. Marks of
model number i have the class ``m{i}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from modernpubmed.evaluation.measured import Discrimination, Estimate, Speed

_WIDTH = 860.0


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot.

    Attributes:
        label: What it is about.
        model: Number of the rival, for the colour.
        difference: Ours minus theirs, with its interval.
        note: What stands at the right: the figure and its p-value.
        significant: Whether the mark is filled.
    """

    label: str
    model: int
    difference: Estimate
    note: str
    significant: bool


def forest(rows: Sequence[ForestRow], *, title: str, axis: str) -> str:
    """Differences with their intervals, one line each, around a line at zero."""
    left, right, height = 250.0, 250.0, 22.0
    ends = [0.0, *(end for row in rows for end in (row.difference.low, row.difference.high))]
    ticks = _ticks(min(ends), max(ends))
    scale = _Scale(ticks[0], ticks[-1], left, _WIDTH - right)
    bottom = 16 + height * len(rows)
    parts = [_line(scale(tick), 10, scale(tick), bottom, "grid") for tick in ticks]
    parts.append(_line(scale(0), 6, scale(0), bottom, "zero"))
    label = None
    for number, row in enumerate(rows):
        y = 16 + height * (number + 0.5)
        if row.label != label:
            if number:
                parts.append(_line(0, y - height / 2, _WIDTH, y - height / 2, "rule"))
            parts.append(_text(0, y + 4, row.label))
            label = row.label
        low, high = scale(row.difference.low), scale(row.difference.high)
        mark = "dot" if row.significant else "dot hollow"
        parts.append(
            f'<g class="m{row.model}"><title>{escape(row.label)}: {escape(row.note)}</title>'
            f"{_line(low, y, high, y, 'whisker')}"
            f'<circle class="{mark}" cx="{scale(row.difference.value):.1f}" cy="{y:.1f}" '
            'r="4.5"/></g>'
        )
        parts.append(_text(_WIDTH - right + 14, y + 4, row.note, "small"))
    parts += [_text(scale(t), bottom + 16, _signed(t), "small middle") for t in ticks]
    parts.append(_text((left + _WIDTH - right) / 2, bottom + 34, axis, "small middle"))
    return _svg(bottom + 42, title, parts)


def grouped_bars(
    groups: Sequence[str],
    bars: Mapping[str, Sequence[Estimate | None]],
    *,
    title: str,
    axis: str,
    reference: float | None = None,
    reference_label: str = "",
) -> str:
    """Shares from 0 to 1 as bars with intervals: one group of bars a line, one bar a model."""
    left, right, bar, gap = 150.0, 60.0, 11.0, 10.0
    scale = _Scale(0, 1, left, _WIDTH - right)
    height = bar * len(bars) + gap
    bottom = 20 + height * len(groups)
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = [_line(scale(tick), 14, scale(tick), bottom, "grid") for tick in ticks]
    for number, group in enumerate(groups):
        top = 20 + height * number
        parts.append(_text(left - 10, top + (height - gap) / 2 + 4, group, "end"))
        for place, (model, values) in enumerate(bars.items()):
            value = values[number]
            y = top + bar * place
            if value is None:
                parts.append(_text(left + 4, y + bar - 2, "not measured", "tiny"))
                continue
            middle = y + bar / 2 - 0.5
            words = f"{group}, {model}: {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
            parts.append(
                f'<g class="m{place}"><title>{escape(words)}</title>'
                f'<rect class="bar" x="{left}" y="{y:.1f}" height="{bar - 1.5}" '
                f'width="{max(scale(value.value) - left, 0.5):.1f}"/>'
                f"{_line(scale(value.low), middle, scale(value.high), middle, 'whisker over')}"
                f"{_text(scale(value.high) + 5, y + bar - 2, f'{value.value:.2f}', 'tiny')}</g>"
            )
    if reference is not None:
        parts.append(_line(scale(reference), 14, scale(reference), bottom, "zero"))
        parts.append(_text(scale(reference), 10, reference_label, "tiny middle"))
    parts += [_text(scale(t), bottom + 16, f"{t:.0%}", "small middle") for t in ticks]
    parts.append(_text((left + _WIDTH - right) / 2, bottom + 34, axis, "small middle"))
    return _svg(bottom + 42, title, parts)


def distributions(found: Discrimination, *, title: str) -> str:
    """The cosines of related, unrelated and non-medical pairs, each as an area of its own."""
    bins = len(next(iter(found.histograms.values())))
    left, bottom, top = 20.0, 170.0, 18.0
    used = [
        place for counts in found.histograms.values() for place, count in enumerate(counts) if count
    ]
    first, last = max(min(used) - 1, 0), min(max(used) + 2, bins)
    scale = _Scale(-1 + 2 * first / bins, -1 + 2 * last / bins, left, _WIDTH - 20)
    shares = {
        group: [count / max(sum(counts), 1) for count in counts]
        for group, counts in found.histograms.items()
    }
    highest = max(max(values) for values in shares.values())
    parts = [
        _line(scale(tick), top, scale(tick), bottom, "grid")
        for tick in _ticks(scale.low, scale.high)
        if scale.low <= tick <= scale.high
    ]
    for number, (group, values) in enumerate(shares.items()):
        points = [(scale(-1 + 2 * first / bins), bottom)]
        for place in range(first, last):
            y = bottom - (bottom - top) * values[place] / highest
            points += [(scale(-1 + 2 * place / bins), y), (scale(-1 + 2 * (place + 1) / bins), y)]
        points.append((points[-1][0], bottom))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polygon class="area g{number}" points="{path}"><title>{escape(group)}: '
            f"{found.pairs[group]:,} pairs</title></polygon>"
        )
    parts.append(_line(left, bottom, _WIDTH - 20, bottom, "zero"))
    parts += [
        _text(scale(tick), bottom + 16, f"{tick:g}", "small middle")
        for tick in _ticks(scale.low, scale.high)
        if scale.low <= tick <= scale.high
    ]
    parts.append(_text(_WIDTH / 2, bottom + 34, "cosine similarity", "small middle"))
    return _svg(bottom + 42, title, parts)


def speed_and_quality(
    speeds: Sequence[Speed], quality: Mapping[str, float], *, title: str, axis: str
) -> str:
    """Quality against speed (a logarithmic axis), the size of the files as the area of the disc."""
    shown = [speed for speed in speeds if speed.model in quality]
    left, bottom, top = 70.0, 260.0, 20.0
    low = math.floor(math.log10(min(speed.low for speed in shown)) * 2) / 2
    high = math.ceil(math.log10(max(speed.high for speed in shown)) * 2 + 0.5) / 2
    across = _Scale(low, high, left, _WIDTH - 40)
    values = [quality[speed.model] for speed in shown]
    ticks = _ticks(min(values) - 0.01, max(values) + 0.01)
    up = _Scale(ticks[0], ticks[-1], bottom, top)
    parts = []
    for tick in ticks:
        parts.append(_line(left, up(tick), _WIDTH - 40, up(tick), "grid"))
        parts.append(_text(left - 8, up(tick) + 4, f"{tick:.2f}", "small end"))
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            x = power + math.log10(factor)
            if low <= x <= high:
                parts.append(_line(across(x), top, across(x), bottom, "grid"))
                parts.append(
                    _text(across(x), bottom + 16, f"{factor * 10.0**power:g}", "small middle")
                )
    largest = max([speed.megabytes for speed in shown] + [1.0])
    for number, speed in enumerate(speeds):
        if speed not in shown:
            continue
        x, y = across(math.log10(speed.texts_per_second)), up(quality[speed.model])
        slowest, fastest = across(math.log10(speed.low)), across(math.log10(speed.high))
        radius = 6 + 16 * math.sqrt(speed.megabytes / largest)
        words = (
            f"{speed.model}: {speed.texts_per_second:.0f} texts/s "
            f"[{speed.low:.0f}, {speed.high:.0f}], {speed.megabytes:.0f} MB"
        )
        parts.append(
            f'<g class="m{number}"><title>{escape(words)}</title>'
            f"{_line(slowest, y, fastest, y, 'whisker')}"
            f'<circle class="disc" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/></g>'
        )
        parts.append(_text(x, y - radius - 6, speed.model, "small middle"))
    parts.append(_text((left + _WIDTH - 40) / 2, bottom + 34, "texts a second", "small middle"))
    parts.append(_text(left, 10, axis, "small"))
    return _svg(bottom + 42, title, parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places in the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * share


def _ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round values from at most ``low`` to at least ``high``."""
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.4f}".rstrip("0")


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, name: str = "") -> str:
    kind = f' class="{name}"' if name else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
