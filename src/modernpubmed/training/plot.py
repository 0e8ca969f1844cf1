"""A run's log as one picture: how training went, at a glance.

Eight small panels over the same steps. Raw values are points, the line through them is a running
mean over a twentieth of them; where a run mixes sources, each has its own colour in all panels,
since their losses are not comparable. Colours are Okabe and Ito's, which the colour-blind tell
apart. A figure that the log does not have leaves its panel empty and says so. The same log gives
the same SVG, byte for byte, with the same version of matplotlib.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.lines import text_lines
from modernpubmed.manifest import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What can be written, by the file's name.
FORMATS = (".png", ".svg")

#: Okabe & Ito 2008, *Color Universal Design*; yellow, which is faint on white, last.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442"
)  # fmt: skip
_GREY = "#767676"
_NUMBERS = (
    "loss", "learning_rate", "grad_norm", "accuracy", "padding", "tokens_per_second",
    "dev_ndcg@10", "dev_ci_low", "dev_ci_high",
)  # fmt: skip

#: Values by step; the name of a source, or of a reason for masking, before them.
_Series = dict[int, float]


def plot(run: Path, out: Path) -> list[Path]:
    """Draws a run's log.

    Args:
        run: The folder of a run (``OUT.run``) that has a ``log.jsonl``, or such a file.
        out: The picture, ``.png`` or ``.svg``; replaced if it exists.

    Returns:
        The files written: ``out``.

    Raises:
        ModernPubMedError: The log is missing, has no steps or a line that is none of ours (names
            the line; a last line that a kill cut short is passed over); ``out`` has another suffix.
        MissingExtraError: matplotlib is not installed.
    """
    if out.suffix.lower() not in FORMATS:
        raise ModernPubMedError(
            f"cannot draw a {out.suffix or 'file without suffix'}",
            file=out,
            remedy=f"name it {' or '.join(FORMATS)}",
        )
    log = run / "log.jsonl" if run.is_dir() else run
    records = _read(log)
    with needs_extra("plot", "plotting"):
        import matplotlib as mpl
        from matplotlib import style
        from matplotlib.figure import Figure
    # Whatever the user's own style is, the picture is ours; the salt makes names in SVG stable.
    with style.context("default"), replacing(out) as temporary:
        mpl.rcParams["svg.hashsalt"] = "modernpubmed"
        figure = Figure(figsize=(11, 12), layout="constrained")
        name = (log.parent.name if log.name == "log.jsonl" else log.name).removesuffix(".run")
        last, planned = records[-1]["step"], records[-1].get("steps")
        of = f" of {planned:,}" if isinstance(planned, int) and planned > last else ""
        figure.suptitle(f"{name}: {last:,}{of} steps", fontsize=14)
        axes = figure.subplots(4, 2, sharex=True)
        for panel, draw in zip(axes.flat, _panels(records), strict=True):
            draw(panel)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in axes[-1]:
            panel.set_xlabel("optimiser step")
        figure.savefig(
            temporary,
            dpi=150,
            metadata={"Date": None} if out.suffix.lower() == ".svg" else {"Software": None},
        )
    return [out]


def _read(log: Path) -> list[dict[str, Any]]:
    """The log's records, by step; every number that is drawn is finite."""
    records = []
    for number, line in text_lines(log):
        place, remedy = f"line {number}", "plot the log of a training run as it was written"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if not line.endswith("\n"):
                break
            raise ModernPubMedError(
                f"not JSON ({error})", file=log, record=place, remedy=remedy
            ) from error
        if wrong := _wrong(record):
            raise ModernPubMedError(wrong, file=log, record=place, remedy=remedy)
        records.append(record)
    if not records:
        raise ModernPubMedError(
            "no steps are logged", file=log, remedy="plot a run that has taken a step"
        )
    return sorted(records, key=lambda record: int(record["step"]))


def _wrong(record: Any) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    step = record.get("step")
    if type(step) is not int or step < 0:
        return f"step is {step!r}, not a number from 0"
    masked = record.get("masked")
    if not isinstance(masked, dict | None):
        return f"masked is {masked!r}, not counts by reason"
    numbers = {key: record[key] for key in _NUMBERS if record.get(key) is not None}
    numbers |= {f"masked {reason}": count for reason, count in (masked or {}).items()}
    for key, value in numbers.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"{key} is {value!r}, not a finite number"
    return None


def _panels(records: list[dict[str, Any]]) -> list[Callable[[Axes], None]]:
    """What draws each panel, in reading order."""
    sources = sorted({str(record.get("source") or "") for record in records if "loss" in record})

    def numbers(key: str, label: str, **options: Any) -> Callable[[Axes], None]:
        # All sources, so that one has the same colour in every panel.
        by_source: dict[str, _Series] = {source: {} for source in sources}
        for record in records:
            if record.get(key) is not None:
                source = str(record.get("source") or "")
                by_source.setdefault(source, {})[record["step"]] = float(record[key])
        return lambda axes: _draw(axes, by_source, label, **options)

    def all_sources(key: str, label: str, **options: Any) -> Callable[[Axes], None]:
        values = {r["step"]: float(r[key]) for r in records if r.get(key) is not None}
        return lambda axes: _draw(axes, {"": values}, label, **options)

    counts: dict[str, _Series] = {}
    masks = {r["step"]: r["masked"] for r in records if r.get("masked") is not None}
    for reason in sorted({reason for masked in masks.values() for reason in masked}):
        counts[reason] = {step: float(masked.get(reason, 0)) for step, masked in masks.items()}
    if masks and not counts:
        counts["none"] = dict.fromkeys(masks, 0.0)
    return [
        numbers("loss", "loss [nats]", legend=True),
        all_sources("learning_rate", "learning rate", raw=False, floor=True),
        all_sources("grad_norm", "gradient norm", floor=True),
        numbers("accuracy", "in-batch accuracy [%]", scale=100),
        lambda axes: _draw(axes, counts, "masked negatives a step", floor=True, legend=True),
        numbers("padding", "padding [% of tokens]", scale=100, floor=True),
        numbers("tokens_per_second", "tokens/s", floor=True),
        lambda axes: _draw_dev(axes, records),
    ]


def _draw(
    axes: Axes,
    series: Mapping[str, _Series],
    label: str,
    *,
    scale: float = 1.0,
    raw: bool = True,
    floor: bool = False,
    legend: bool = False,
) -> None:
    """Points with a running mean through them; without ``raw``, a line through the points."""
    axes.set_ylabel(label)
    if not any(series.values()):
        _say_nothing_is_logged(axes)
        return
    for number, (name, values) in enumerate(series.items()):
        if not values:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        dashes = ("-", "--", ":", "-.")[number // len(_COLOURS) % 4]
        steps = np.fromiter(values, dtype=np.int64)
        heights = np.fromiter(values.values(), dtype=np.float64) * scale
        if raw:
            # Thousands of points are one cloud: fainter, and a bitmap inside an SVG.
            faint = 0.35 if len(steps) < 2000 else 0.12
            axes.plot(steps, heights, ".", ms=3, alpha=faint, mew=0, color=colour, rasterized=True)
            heights = _smoothed(heights)
        axes.plot(steps, heights, dashes, lw=1.6, color=colour, label=name or None)
    if floor:
        axes.set_ylim(bottom=0)
    if legend and any(series):
        axes.legend(fontsize="small", frameon=False)


def _draw_dev(axes: Axes, records: list[dict[str, Any]]) -> None:
    axes.set_ylabel("dev nDCG@10")
    points = {r["step"]: r for r in records if r.get("dev_ndcg@10") is not None}
    if not points:
        _say_nothing_is_logged(axes)
        return
    heights = [record["dev_ndcg@10"] for record in points.values()]
    axes.plot(list(points), heights, "o-", ms=4, lw=1.6, color=_COLOURS[0])
    known = {
        step: (record["dev_ci_low"], record["dev_ci_high"])
        for step, record in points.items()
        if record.get("dev_ci_low") is not None and record.get("dev_ci_high") is not None
    }
    if known:
        lows, highs = zip(*known.values(), strict=True)
        label = "confidence interval"
        axes.vlines(list(known), lows, highs, lw=1, color=_COLOURS[0], alpha=0.6, label=label)
        axes.legend(fontsize="small", frameon=False, loc="lower right")


def _say_nothing_is_logged(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=_GREY)
    axes.set_yticks([])


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of a twentieth of the values around each; of fewer at the ends."""
    reach = len(values) // 40
    sums = np.concatenate(([0.0], np.cumsum(values)))
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return means
