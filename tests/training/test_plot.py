"""The picture of a run's log."""

import json
import sys
import xml.etree.ElementTree as ET  # our own file
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.training import plot as module
from modernpubmed.training.plot import plot

LABELS = [
    "loss [nats]",
    "learning rate",
    "gradient norm",
    "in-batch accuracy [%]",
    "masked negatives a step",
    "padding [% of tokens]",
    "tokens/s",
    "dev nDCG@10",
]


def record(step: int, **values: Any) -> dict[str, Any]:
    return {
        "step": step,
        "steps": 200,
        "source": "titles" if step % 3 else "synonyms",
        "loss": 1 / step,
        "learning_rate": 2e-5 * (1 - step / 200),
        "grad_norm": 1.5,
        "accuracy": 0.75,
        "masked": {"near-duplicate": step % 4},
        "padding": 0.02,
        "tokens_per_second": 900.5,
        **values,
    }


def write(folder: Path, records: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    dev = {"step": 50, "steps": 200, "dev_ndcg@10": 0.9, "dev_ci_low": 0.88, "dev_ci_high": 0.92}
    later = {"step": 100, "steps": 200, "dev_ndcg@10": 0.91}
    steps = [record(step) for step in range(1, 101)]
    return write(tmp_path / "mini.run", [*steps[:50], dev, *steps[50:], later])


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    made = []

    class Kept(Figure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Kept)
    return made


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The labelled lines of a panel."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def texts(figure: Any) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()}


@pytest.mark.usefixtures("figures")
def test_png_is_a_picture(run: Path):
    out = run.parent / "pictures" / "mini.png"
    assert plot(run, out) == [out]
    data = out.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1650
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.usefixtures("figures")
def test_svg_is_the_same_each_time(run: Path):
    one = plot(run, run.parent / "one.svg")[0]
    two = plot(run, run.parent / "two.SVG")[0]
    assert one.read_bytes() == two.read_bytes()
    assert ET.parse(one).getroot().tag.endswith("svg")  # noqa: S314
    assert b"<dc:date>" not in one.read_bytes()


@pytest.mark.usefixtures("figures")
def test_the_users_style_does_not_matter_and_is_not_changed(run: Path):
    import matplotlib as mpl

    plain = plot(run, run.parent / "plain.svg")[0].read_bytes()
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 30}):
        before = dict(mpl.rcParams)
        styled = plot(run, run.parent / "styled.svg")[0].read_bytes()
        assert dict(mpl.rcParams) == before
    assert styled == plain


def test_panels_show_what_was_logged(run: Path, figures: list[Any]):
    plot(run, run.parent / "a.svg")
    (figure,) = figures
    assert figure.get_suptitle() == "mini: 100 of 200 steps"
    panels = {axes.get_ylabel(): axes for axes in figure.axes}
    assert list(panels) == LABELS
    assert [axes.get_xlabel() for axes in figure.axes][-2:] == ["optimiser step"] * 2
    loss = lines(panels["loss [nats]"])
    assert list(loss) == ["synonyms", "titles"]
    assert loss["synonyms"][0] == list(range(3, 100, 3))
    # 33 values are fewer than two twentieths' reach: the line is the values themselves.
    assert loss["synonyms"][1] == pytest.approx([1 / step for step in range(3, 100, 3)])
    (rate,) = panels["learning rate"].lines
    assert list(rate.get_ydata()) == [2e-5 * (1 - step / 200) for step in range(1, 101)]
    assert {y for line in panels["in-batch accuracy [%]"].lines for y in line.get_ydata()} == {75}
    assert panels["padding [% of tokens]"].lines[0].get_ydata()[0] == pytest.approx(2)
    masked = lines(panels["masked negatives a step"])
    assert list(masked) == ["near-duplicate"]
    assert len(masked["near-duplicate"][0]) == 100
    dev = panels["dev nDCG@10"]
    assert (list(dev.lines[0].get_xdata()), list(dev.lines[0].get_ydata())) == (
        [50, 100],
        [0.9, 0.91],
    )
    (intervals,) = dev.collections
    assert [segment.tolist() for segment in intervals.get_segments()] == [[[50, 0.88], [50, 0.92]]]
    assert not texts(figure)


def test_a_source_has_one_colour_in_all_panels(run: Path, figures: list[Any]):
    # Only the second source logs its padding.
    steps = [record(step, padding=None if step % 3 == 0 else 0.02) for step in range(1, 31)]
    plot(write(run, steps), run.parent / "a.svg")
    panels = {axes.get_ylabel(): axes for axes in figures[0].axes}
    colours = {str(line.get_label()): line.get_color() for line in panels["loss [nats]"].lines}
    assert colours["titles"] != colours["synonyms"]
    assert {line.get_color() for line in panels["padding [% of tokens]"].lines} == {
        colours["titles"]
    }


def test_reasons_that_come_later_count_as_none_before(tmp_path: Path, figures: list[Any]):
    steps = [record(1, masked={}), record(2, masked={"a": 4}), record(3, masked={"b": 1, "a": 2})]
    plot(write(tmp_path / "r.run", steps), tmp_path / "a.svg")
    panel = figures[0].axes[4]
    assert lines(panel) == {"a": ([1, 2, 3], [0, 4, 2]), "b": ([1, 2, 3], [0, 0, 1])}


def test_nothing_masked_is_a_line_at_zero(tmp_path: Path, figures: list[Any]):
    plot(
        write(tmp_path / "r.run", [record(1, masked={}), record(2, masked={})]), tmp_path / "a.svg"
    )
    assert lines(figures[0].axes[4]) == {"none": ([1, 2], [0, 0])}
    assert texts(figures[0]) == {"not logged"}  # dev


def test_what_is_missing_leaves_its_panel_empty(tmp_path: Path, figures: list[Any]):
    run = write(tmp_path / "r.run", [{"step": step, "loss": 1.0} for step in (1, 2)])
    plot(run, tmp_path / "a.png")
    (figure,) = figures
    assert figure.get_suptitle() == "r: 2 steps"
    empty = [axes.get_ylabel() for axes in figure.axes if axes.texts]
    assert empty == LABELS[1:]


def test_other_lines_and_nulls_are_passed_over(tmp_path: Path, figures: list[Any]):
    steps = [record(1, loss=None, masked=None), {"step": 2, "train_runtime": 3.5}]
    run = write(tmp_path / "r.run", steps)
    plot(run, tmp_path / "a.png")
    assert [axes.get_ylabel() for axes in figures[0].axes if axes.texts] == [
        "loss [nats]",
        "masked negatives a step",
        "dev nDCG@10",
    ]


def test_a_log_by_its_own_name_and_a_last_line_that_was_cut_short(
    tmp_path: Path, figures: list[Any]
):
    log = tmp_path / "kept.jsonl"
    log.write_text(json.dumps(record(1)) + "\n\n" + json.dumps(record(2)) + '\n{"step": 3, "lo')
    plot(log, tmp_path / "a.png")
    assert figures[0].get_suptitle() == "kept.jsonl: 2 of 200 steps"


def test_the_line_is_the_mean_of_a_twentieth():
    values = np.arange(80.0) ** 2
    smooth = module._smoothed(values)
    assert smooth[40] == pytest.approx(np.mean(values[38:43]))
    assert smooth[0] == pytest.approx(np.mean(values[:3]))
    assert smooth[79] == pytest.approx(np.mean(values[77:]))
    assert module._smoothed(values[:5]).tolist() == values[:5].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"loss": 1}', "line 2: step is None"),
        ('{"step": "7"}', "line 2: step is '7'"),
        ('{"step": -1}', "line 2: step is -1"),
        ('{"step": true}', "line 2: step is True"),
        ('{"step": 2, "loss": "low"}', "line 2: loss is 'low', not a finite number"),
        ('{"step": 2, "loss": NaN}', "line 2: loss is nan"),
        ('{"step": 2, "grad_norm": Infinity}', "line 2: grad_norm is inf"),
        ('{"step": 2, "masked": 3}', "line 2: masked is 3, not counts by reason"),
        ('{"step": 2, "masked": {"a": "b"}}', "line 2: masked a is 'b'"),
        ('{"step": 2, "dev_ndcg@10": []}', r"line 2: dev_ndcg@10 is \[\]"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, line: str, message: str):
    run = write(tmp_path / "r.run", [record(1)])
    log = run / "log.jsonl"
    log.write_text(log.read_text() + line + "\n" + json.dumps(record(3)) + "\n")
    with pytest.raises(ModernPubMedError, match=rf"log\.jsonl: {message}"):
        plot(run, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["r.run"]


def test_no_log_and_an_empty_one(tmp_path: Path):
    with pytest.raises(ModernPubMedError, match=r"nowhere: cannot be read"):
        plot(tmp_path / "nowhere", tmp_path / "a.png")
    with pytest.raises(ModernPubMedError, match=r"log\.jsonl: no steps are logged"):
        plot(write(tmp_path / "r.run", []), tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.jpeg"])
def test_other_formats_are_refused(run: Path, name: str):
    with pytest.raises(ModernPubMedError, match=r"cannot draw.*name it \.png or \.svg"):
        plot(run, run.parent / name)
    assert not (run.parent / name).exists()


def test_without_matplotlib_it_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"plotting needs the extra 'plot'"):
        plot(run, run.parent / "a.png")
    assert not (run.parent / "a.png").exists()
