"""The command line as a user meets it: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest

from modernpubmed.cli import main
from modernpubmed.encoder import Encoder
from modernpubmed.evaluation.measured import (
    Contamination,
    ContrastScore,
    Discrimination,
    Robustness,
    Speed,
    read_measured,
)
from modernpubmed.evaluation.metrics import METRICS
from modernpubmed.manifest import Manifest, code_version, sha256
from modernpubmed.suites import read_suite

SCRIPT = Path(sys.executable).with_name("modernpubmed")

RECIPE = """
name = "tiny"
license = "apache-2.0"
base = "nobody/nothing"
max_tokens = 48

[[sources]]
name = "title-abstract"
positive_tokens = 32
batch_size = 8

[loss]
temperature = 0.05
symmetric = true

[optimizer]
learning_rate = 3e-3
weight_decay = 0.01
warmup_steps = 2
schedule = "linear"

[run]
steps = 10
seed = 7
precision = "fp32"
checkpoint_every = 100
evaluate_every = 5
dev_pairs = 8
"""

TOPICS = ("heart", "liver", "kidney", "cough", "asthma", "stroke", "insulin", "cancer")
FORMS = ("acute", "chronic", "high", "low", "children", "patients")
WORDS = (
    "fever treatment surgery infection therapy disease pressure dose trial study risk outcome "
    "mortality diabetes glucose failure blood patients children low"
).split()


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


Command = Callable[..., Answer]


def answered(*arguments: object) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Answer(status, out.getvalue(), err.getvalue())


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; also sees what libraries write past ``sys.stderr``."""

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Answer(status, *capfd.readouterr())

    return run


def spawned(
    *arguments: object, start: Sequence[str] = (str(SCRIPT),), **kwargs: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,  # type: ignore[call-overload]
    )


def listing(folder: Path) -> dict[str, int]:
    """Every file and folder below, hidden ones too, with its time of change."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    } | {f"{path.relative_to(folder)}/": 0 for path in folder.rglob("*") if path.is_dir()}


def record(
    pmid: int | None, title: str, abstract: str, *, year: int = 2000, kind: str = "Journal Article"
) -> str:
    identifier = "" if pmid is None else f"<PMID>{pmid}</PMID>"
    body = f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract>" if abstract else ""
    return (
        f"<PubmedArticle><MedlineCitation>{identifier}<Article><Journal><JournalIssue><PubDate>"
        f"<Year>{year}</Year></PubDate></JournalIssue></Journal>"
        f"<ArticleTitle>{title}</ArticleTitle>{body}<Language>eng</Language><PublicationTypeList>"
        f"<PublicationType>{kind}</PublicationType></PublicationTypeList></Article>"
        "</MedlineCitation></PubmedArticle>"
    )


def abstract(topic: str, form: str) -> str:
    # Mostly its own words, or all abstracts would be near-duplicates of each other.
    random = Random(f"{topic} {form}")
    own = " ".join(
        "The {} of {} was {} after {} and with {}.".format(*random.sample(WORDS, 5))
        for _ in range(12)
    )
    return (
        f"We asked what the risk of {topic} disease is in {form} cases, and in which of the "
        f"patients the treatment of {topic} failure can be left out. The {topic} was looked at "
        f"twice, before and after the therapy, and the outcome was the same for {form} cases. {own}"
    )


def write_nlm(path: Path, *records: str, root: str = "PubmedArticleSet") -> Path:
    path.write_bytes(gzip.compress(f"<{root}>{''.join(records)}</{root}>".encode()))
    return path


@dataclass(frozen=True)
class Line:
    """The whole line, run once: its folder, and what each verb said."""

    folder: Path
    nlm: Path
    recipe: Path
    suite: Path
    said: dict[str, Answer] = field(default_factory=dict)


def write_suite(folder: Path) -> Path:
    folder.mkdir()
    lines = {"corpus.jsonl": [], "queries.jsonl": [], "qrels.tsv": ["query-id\tcorpus-id\tscore"]}
    for number, topic in enumerate(TOPICS):
        text = f"treatment of {topic} disease in patients"
        lines["corpus.jsonl"].append(json.dumps({"_id": f"d{number}", "title": "", "text": text}))
        lines["queries.jsonl"].append(json.dumps({"_id": f"q{number}", "text": f"{topic} therapy"}))
        lines["qrels.tsv"].append(f"q{number}\td{number}\t1")
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def line(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    records = [
        record(100 + n, f"A study of {topic} risk: {form} cases", abstract(topic, form), year=n)
        for n, (topic, form) in enumerate(
            ((topic, form) for topic in TOPICS for form in FORMS), start=1980
        )
    ]
    records += [
        record(1, "Editorial.", abstract("heart", "high")),
        record(2, "A title without an abstract", ""),
        record(3, "A study that was taken back", abstract("a", "b"), kind="Retracted Publication"),
    ]
    nlm = write_nlm(folder / "pubmed30n0001.xml.gz", *records)
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    made = Line(folder, nlm, recipe, write_suite(folder / "toy_suite"))
    sts = folder / "toy_sts.tsv"
    sts.write_text("s1\ts2\tscore\nfever\thigh fever\t4\ncough\tstroke\t1\nheart\tthe heart\t5\n")

    def step(name: str, *arguments: object) -> None:
        made.said[name] = answered(*arguments)
        assert made.said[name].status == 0, made.said[name].err

    step("parse", "parse", nlm, "--out", folder / "articles")
    step("pairs", "pairs", folder / "articles", "--out", folder / "pairs", "--dev-share", 0.3)
    trained = ("--pairs", folder / "pairs", "--base", tiny_model, "--out", folder / "trained")
    step("train", "train", recipe, *trained)
    step("plot", "plot", folder / "trained.run", "--out", folder / "run.svg")
    mined = ("--model", tiny_model, "--out", folder / "mined", "--negatives", 2, "--margin", 1)
    step("mine", "mine", folder / "pairs", *mined)
    models = (folder / "trained", tiny_model)
    step("average", "average", *models, "--weights", 3, 1, "--out", folder / "averaged")
    step("export", "export", folder / "averaged", "--fp16")
    compared = (folder / "averaged", folder / "trained", "--suite", made.suite, "--pairs", sts)
    step("compare", "compare", *compared, "--out", folder / "results")
    step("markdown", "compare", *compared, "--markdown")
    full = ("--full", "--trained-on", folder / "pairs", "--vectors", folder / "vectors")
    step("full", "compare", *compared, *full, "--trec", "--out", folder / "results")
    step("report", "report", folder / "results", "--out", folder / "report")
    step("card", "card", folder / "averaged", folder / "results")
    return made


def test_articles_are_parsed_and_counted(line: Line):
    folder = line.folder / "articles"
    assert line.said["parse"] == Answer(
        0,
        f"{folder}: 1 files, 0 md5 checked, 51 articles read, 51 articles, 0 deletions\n",
        "pubmed30n0001.xml.gz: 51 articles so far\n",
    )
    assert Manifest.read(folder).inputs == {"pubmed30n0001.xml.gz": sha256(line.nlm)}


def test_pairs_are_selected_split_and_every_drop_is_counted(line: Line):
    said = line.said["pairs"]
    manifest = Manifest.read(line.folder / "pairs")
    train, dev = manifest.counts["train"], manifest.counts["dev"]
    assert train + dev == 48
    assert 8 <= dev <= 22
    assert said.err == ""
    first, second = said.out.splitlines()
    assert first == f"{line.folder / 'pairs'}: 51 articles, {train} train, {dev} dev"
    assert second.startswith("left out: ")
    assert set(second.removeprefix("left out: ").split(", ")) == {
        "1 retracted",
        "1 generic title",
        "1 no abstract",
    }


def test_training_reports_steps_and_writes_a_model(line: Line):
    said = line.said["train"]
    counts = Manifest.read(line.folder / "pairs").counts
    assert said.out == (
        f"{line.folder / 'trained'}: {counts['train']} train pairs, 8 dev pairs, 10 steps, "
        f"80 pairs seen, 0 anchors cut, {counts['train']} positives cut\n"
    )
    steps = [text for text in said.err.splitlines() if text.startswith("step ")]
    assert any(re.match(r"step 10/10  loss [\d.]+", text) for text in steps)
    assert any(re.match(r"step 5/10  dev nDCG@10 [\d.]+  dev Accuracy@1", text) for text in steps)
    shown = r"loss [\d.]+  lr \S+  gradient [\d.]+  accuracy [\d.]+  masked \d+  padding [\d.]+%"
    assert any(re.match(rf"step 10/10  {shown}  tokens/s [\d,]+  \d+ s$", text) for text in steps)
    first = said.err.splitlines()[0]
    epochs = 10 / (counts["train"] // 8)
    assert first.startswith(f"title-abstract: {counts['train']} pairs, {epochs:.2f} epochs in 10 ")
    assert all(re.search(r"  [\d,]+ s$", text) for text in steps)
    manifest = Manifest.read(line.folder / "trained")
    assert manifest.settings["recipe"]["run"]["steps"] == 10
    assert Encoder.load(line.folder / "trained").encode(["fever"]).shape == (1, 32)


def test_a_run_is_drawn(line: Line):
    assert line.said["plot"].out == f"{line.folder / 'run.svg'}\n"
    assert (line.folder / "run.svg").read_text().lstrip().startswith("<?xml")


def test_negatives_are_mined_and_trained_on(line: Line, tiny_model: Path, tmp_path: Path):
    counts = Manifest.read(line.folder / "mined").counts
    assert line.said["mine"].out.startswith(f"{line.folder / 'mined'}: {counts['pairs']} pairs, ")
    assert counts["negatives"] > 0
    recipe = tmp_path / "mined.toml"
    recipe.write_text(RECIPE.replace("batch_size = 8", "batch_size = 8\nnegatives = 2"))
    options = ("--base", tiny_model, "--out", tmp_path / "trained")
    said = answered("train", recipe, "--pairs", line.folder / "mined", *options)
    assert said.status == 0, said.err


def test_a_terminology_gives_pairs_of_its_kind(tmp_path: Path):
    terms = tmp_path / "terms.jsonl"
    lines = [
        {"id": f"T:{n}", "name": f"{form} {topic}", "synonyms": [f"{topic} trouble that is {form}"]}
        for n, (topic, form) in enumerate((topic, form) for topic in TOPICS for form in FORMS)
    ]
    terms.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = answered("pairs", terms, "--kind", "synonym-name", "--out", tmp_path / "pairs")
    assert said.status == 0, said.err
    counts = Manifest.read(tmp_path / "pairs").counts
    assert counts["train"] + counts["dev"] == 48
    refused = answered("pairs", terms, "--kind", "magic", "--out", tmp_path / "other")
    assert refused.status == 2
    assert "there is no kind of pairs 'magic'" in refused.err


def test_an_average_is_exported_and_needs_no_torch(line: Line):
    assert line.said["export"].out == f"{line.folder / 'averaged' / 'model.onnx'}\n"
    code = (
        "import sys; from modernpubmed.cli import main; "
        "status = main(['similarity', 'fever', 'fever', '--model', sys.argv[1]]); "
        "sys.exit(status or 9 * ('torch' in sys.modules))"
    )
    found = spawned(line.folder / "averaged", start=(sys.executable, "-c", code))
    assert (found.returncode, found.stdout, found.stderr) == (0, "1.0000\n", "")


def test_a_comparison_is_printed_and_kept(line: Line):
    said = line.said["compare"]
    assert said.err == ""
    rows = said.out.splitlines()
    assert rows[0] == "Summary: nDCG@10 (sentence-transformers ≥ 6)"
    header = rows[rows.index("toy_suite (sentence-transformers ≥ 6)") + 1].split()
    assert header == ["Metric", "averaged", "trained", "improvement", "BM25", "improvement"]
    for metric in METRICS:
        assert re.search(rf"^{re.escape(metric)}  +[01]\.\d{{4}}", said.out, re.M)
    assert "asyncio.run()" in said.out
    assert re.search(r"^toy_sts  averaged +3 +-?[\d.]+", said.out, re.M)
    kept = sorted(path.name for path in (line.folder / "results").iterdir())
    assert [name for name in kept if "__" in name] == [
        f"{model}__toy_suite.{kind}"
        for model in ("BM25", "averaged", "trained")
        for kind in ("json", "run.gz")
    ]
    assert {"comparison.json", "similarity.json"} <= set(kept)


def test_further_measurements_are_kept_and_reported(line: Line):
    assert line.said["full"].out.startswith("Summary: nDCG@10 (trec_eval)")
    results = line.folder / "results"
    contrast = read_measured(results, ContrastScore)
    assert [score.model for score in contrast] == ["BM25", "averaged", "trained"]
    assert {score.half for score in contrast} == {"test"}
    assert [found.model for found in read_measured(results, Discrimination)] == [
        "averaged",
        "trained",
    ]
    assert {found.suite for found in read_measured(results, Robustness)} == {"toy_suite"}
    (overlap,) = read_measured(results, Contamination)
    assert overlap.model == "averaged"
    assert overlap.sources == {"train_pairs": sha256(line.folder / "pairs" / "train.parquet")}
    assert {speed.model for speed in read_measured(results, Speed)} == {"averaged", "trained"}
    page = line.folder / "report" / "report.html"
    assert line.said["report"].out.splitlines() == [str(page), str(page.with_suffix(".md"))]
    assert 'id="contamination"' in page.read_text()


def test_the_same_comparison_as_markdown(line: Line):
    rows = line.said["markdown"].out.splitlines()
    assert rows[0] == "### Summary: nDCG@10 (sentence-transformers ≥ 6)"
    assert "| Metric | averaged | trained | improvement | BM25 | improvement |" in rows
    kept = json.loads((line.folder / "results" / "averaged__toy_suite.json").read_text())
    [accuracy] = [row for row in rows if row.startswith("| Accuracy@1 |")]
    assert accuracy.split(" | ")[1] == f"{kept['metrics']['Accuracy@1']:.4f}"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--metric", "nCDG@10"), "no such metric: 'nCDG@10'"),
        (("--query-prompt", "other=query:"), "is not MODEL=TEXT of one of the models"),
        (("--contrast", "test"), "give --out FOLDER"),
        (("--related", "pairs.parquet"), "--related without --non-medical"),
        (("--robustness", "elsewhere", "--out", "r"), "no suite 'elsewhere' is compared on"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_work(
    line: Line, options: tuple[str, ...], cause: str, tmp_path: Path, command: Command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = command("compare", line.folder / "averaged", "--suite", line.suite, *options)
    assert (said.status, said.out) == (2, "")
    assert cause in said.err
    assert list(tmp_path.iterdir()) == []


def test_suites_are_listed_and_made(line: Line, tmp_path: Path, command: Command):
    listed = command("suites")
    assert listed.status == 0
    assert "wiki_medical_terms" in listed.out
    made = tmp_path / "titles"
    arguments = ("--source", line.folder / "articles", "--queries", 5, "--distractors", 10)
    said = command("suites", "pubmed_titles", *arguments, "--out", made)
    assert said.status == 0, said.err
    suite = read_suite(made)
    assert (len(suite.queries), len(suite.corpus)) == (5, 15)
    assert command("suites", "nothing", "--out", tmp_path / "x").status == 2
    assert "give --out FOLDER" in command("suites", "nfcorpus").err
    assert "give --source ARTICLES" in command("suites", "pubmed_titles", "--out", made).err


def test_a_card_is_written_from_the_results(line: Line):
    assert line.said["card"].out == f"{line.folder / 'averaged' / 'README.md'}\n"
    card = (line.folder / "averaged" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "| Metric | averaged | trained | improvement | BM25 | improvement |" in card
    assert sha256(line.folder / "pairs" / "train.parquet") in card


def test_articles_are_indexed_and_searched(line: Line, tmp_path: Path, command: Command):
    index = tmp_path / "index"
    made = command("index", line.folder / "articles", "--out", index)
    assert made == Answer(0, f"{index}: 51 documents, 51 indexed, 0 truncated\n", "")
    inputs = {str(line.folder / "articles"): sha256(line.folder / "articles")}
    assert Manifest.read(index).inputs == inputs

    found = command("search", index, "liver failure", "asthma in children", "-k", 2)
    rows = found.out.splitlines()
    assert found.status == 0
    assert (rows[0], rows[3]) == ('"liver failure"', '"asthma in children"')
    assert re.fullmatch(r"  1  0\.\d{3}  \d+  A study of liver risk: .* cases \(\d{4}\)", rows[1])
    assert re.fullmatch(r"  1  0\.\d{3}  \d+  A study of asthma risk: children cases .*", rows[4])
    assert len(rows) == 6

    found = command("search", index, "liver failure", "--json", "--years", 1986, 1991, "-k", 50)
    answer = json.loads(found.out)
    assert answer["query"] == "liver failure"
    assert {hit["year"] for hit in answer["hits"]} == set(range(1986, 1992))
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5, 6]
    assert all("liver" in hit["title"] for hit in answer["hits"])

    found = command("search", index, "liver failure", "--years", 1700, 1800)
    assert found.out == '"liver failure"\n     no document\n'


def test_texts_of_a_file_become_vectors(tmp_path: Path, command: Command):
    texts = tmp_path / "texts.txt"
    # A line separator inside a text must not make two of it: row n is line n.
    texts.write_text("fever\n\nhigh\u2028temperature\r\n", newline="")
    out = tmp_path / "vectors.npy"
    answer = command("encode", texts, "--out", out)
    assert answer == Answer(0, f"{out}: float32 [3, 384], 0 texts cut\n", "")
    vectors = np.load(out, allow_pickle=False)
    assert vectors.dtype == np.float32
    expected = Encoder.load().encode(["fever", "", "high\u2028temperature"])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", "vectors.npy"]


def test_texts_of_standard_input_become_vectors(line: Line, tmp_path: Path):
    out = tmp_path / "vectors.npy"
    model = line.folder / "averaged"
    found = spawned("encode", "-", "--out", out, "--model", model, input="fever\ncough")
    assert (found.returncode, found.stderr) == (0, "")
    assert np.load(out, allow_pickle=False).shape == (2, 32)
    again = spawned("encode", "-", "--out", out, "--model", model, input="fever")  # replaces it
    assert again.returncode == 0
    assert np.load(out, allow_pickle=False).shape == (1, 32)
    empty = spawned("encode", "-", "--out", out, "--model", model, input=" \n")
    assert empty.returncode == 2
    assert empty.stderr.startswith("modernpubmed: standard input: holds no text. Remedy: ")


def test_cut_texts_are_said_in_one_line(line: Line, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("fever\n" + "fever " * 60 + "\n" + "cough " * 60)
    model = line.folder / "averaged"
    found = spawned("encode", texts, "--out", tmp_path / "v.npy", "--model", model)
    assert found.returncode == 0
    assert found.stdout.endswith("float32 [3, 32], 2 texts cut\n")
    assert found.stderr == (
        "modernpubmed: 2 of 3 texts are longer than 48 tokens and were cut, "
        "by 28 in all (averaged)\n"
    )


def test_similarity_is_one_number(command: Command):
    answer = command("similarity", "heart attack", "myocardial infarction")
    assert answer.status == 0
    assert re.fullmatch(r"0\.\d{4}\n", answer.out)
    expected = Encoder.load().similarity(["heart attack"], ["myocardial infarction"])[0, 0]
    assert float(answer.out) == pytest.approx(float(expected), abs=1e-4)


OBO = """format-version: 1.4
ontology: xp

[Term]
id: XP:1
name: Hearing impairment
synonym: "Deafness" EXACT []

[Term]
id: XP:2
name: Seeing double
synonym: "Diplopia" EXACT []
"""


@pytest.mark.parametrize("ending", [".obo", ".tsv"])
def test_mentions_are_matched(
    ending: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ontology = tmp_path / f"xp{ending}"
    table = "curie\tname\tsynonyms\nXP:1\tHearing impairment\tDeafness\n"
    ontology.write_text(OBO if ending == ".obo" else table + "XP:2\tSeeing double\tDiplopia\n")
    source = ("--ontology", ontology)
    found = command("match", "deafness", "cannot hear well", *source, "-k", 1)
    rows = found.out.splitlines()
    assert rows[:2] == ['"deafness"', "     1.000  XP:1  Hearing impairment  (Deafness)"]
    assert rows[2] == '"cannot hear well"'
    assert re.fullmatch(r"     0\.\d{3}  XP:1  Hearing impairment(  \(Deafness\))?", rows[3])
    [entry] = (tmp_path / "cache" / "modernpubmed" / "concepts").iterdir()
    changed = entry.stat().st_mtime_ns

    refused = command("match", "a bicycle in the rain", *source, "--threshold", 0.5)
    assert refused.status == 0
    assert re.fullmatch(
        r'"a bicycle in the rain"\n     no concept; nearest -?0\.\d{3} XP:\d [A-Z][a-z ]+\n',
        refused.out,
    )
    assert entry.stat().st_mtime_ns == changed  # found in the cache, not made again

    [row] = command("match", "diplopia", *source, "--json", "-k", 1).out.splitlines()
    assert json.loads(row) == {
        "mention": "diplopia",
        "matches": [
            {
                "curie": "XP:2",
                "name": "Seeing double",
                "form": "Diplopia",
                "scope": "EXACT",
                "score": 1.0,
                "kind": "exact",
            }
        ],
        "best_below": None,
    }


def test_labels_are_learnt_and_given(tmp_path: Path, command: Command):
    examples = tmp_path / "examples.tsv"
    rows = [f"{form} {topic}\tmedicine" for topic in TOPICS[:4] for form in FORMS[:3]]
    rows += [f"{how} {what}\tkitchen" for what in ("soup", "bread", "salad", "cake")
             for how in ("hot", "a slice of", "fresh")]  # fmt: skip
    examples.write_text("\n".join(["text\tlabel", *rows]) + "\n")

    scores = command("classify", examples)
    assert scores.status == 0
    assert re.fullmatch(
        r"held-out accuracy [01]\.\d{3}, macro F1 [01]\.\d{3}\n\(4 of 24 examples held out\)\n",
        scores.out,
    )
    as_json = json.loads(command("classify", examples, "--json", "--balanced").out)
    assert as_json["accuracy"] == 1.0
    assert as_json["examples"] == 4

    labels = command("classify", examples, "chronic kidney failure", "a pot of soup")
    assert [row.split("  ")[0] for row in labels.out.splitlines()] == ["medicine", "kitchen"]
    [row] = command("classify", examples, "a pot of soup", "--json").out.splitlines()
    label = json.loads(row)
    assert (label["text"], label["label"]) == ("a pot of soup", "kitchen")
    assert 0.5 < label["probability"] < 1


# What is refused: exit status 2, one line that names the file and the remedy, nothing left.


@dataclass(frozen=True)
class Refusal:
    """A bad input: what is written, what is run, and what the line must say.

    ``{in}`` is the folder of the input, ``{out}`` a path that is not there yet, ``{line}`` the
    folder of the whole line, ``{tiny}`` the base model.
    """

    files: dict[str, str | bytes]
    command: str
    file: str
    cause: str


ZIPPED = gzip.compress(b"<PubmedArticleSet></PubmedArticleSet>" * 40)
GOOD = record(1, "A title", "")
SUITE = {
    "s/corpus.jsonl": '{"_id": "d", "text": "fever"}\n',
    "s/queries.jsonl": '{"_id": "q", "text": "fever"}\n',
    "s/qrels.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
}
TRAIN = "train {in}/r.toml --pairs {line}/pairs --base {tiny} --out {out}"
MODEL = {"m/modules.json": "[]", "m/config.json": "{}"}

REFUSED = {
    "broken gzip": Refusal(
        {"a.xml.gz": ZIPPED[:-30]}, "parse {in}/a.xml.gz --out {out}", "a.xml.gz", "damaged gzip"
    ),
    "truncated XML": Refusal(
        {"a.xml": f"<PubmedArticleSet>{GOOD}<PubmedArt"},
        "parse {in}/a.xml --out {out}",
        "a.xml",
        "damaged or truncated XML",
    ),
    "wrong root": Refusal(
        {"a.xml": "<html></html>"}, "parse {in}/a.xml --out {out}", "a.xml", "root element is html"
    ),
    "empty file": Refusal(
        {"a.xml": ""}, "parse {in}/a.xml --out {out}", "a.xml", "the file is empty"
    ),
    "record without PMID": Refusal(
        {"a.xml": f"<PubmedArticleSet>{GOOD}{record(None, 'A', '')}</PubmedArticleSet>"},
        "parse {in}/a.xml --out {out}",
        "a.xml",
        r"record 2 \(after PMID 1\): .*PMID",
    ),
    "missing NLM file": Refusal(
        {}, "parse {in}/a.xml --out {out}", "a.xml", "No such file or directory"
    ),
    "parse over foreign files": Refusal(
        {"mine/letter.txt": "Dear"}, "parse {line}/nlm --out {in}/mine", "mine", "letter.txt"
    ),
    "missing articles": Refusal(
        {}, "pairs {in}/nowhere --out {out}", "nowhere", "no such file or folder"
    ),
    "pairs over foreign files": Refusal(
        {"mine/letter.txt": "Dear"}, "pairs {line}/articles --out {in}/mine", "mine", "letter.txt"
    ),
    "pairs of no pair": Refusal(
        {"a.jsonl": '{"title": "Editorial.", "abstract": "None."}\n'},
        "pairs {in}/a.jsonl --out {out}",
        "a.jsonl",
        "no usable pair is left",
    ),
    "recipe with an unknown key": Refusal(
        {"r.toml": RECIPE.replace("learning_rate", "learnin_rate")},
        TRAIN,
        "r.toml",
        "optimizer.learnin_rate: unknown key",
    ),
    "recipe with a wrong type": Refusal(
        {"r.toml": RECIPE.replace("steps = 10", 'steps = "ten"')},
        TRAIN,
        "r.toml",
        "run.steps: must be of type int, is str",
    ),
    "missing recipe": Refusal({}, TRAIN, "r.toml", "not a readable TOML file"),
    "train without pairs": Refusal(
        {"r.toml": RECIPE},
        "train {in}/r.toml --pairs {in}/nowhere --base {tiny} --out {out}",
        "nowhere",
        "no such file of pairs",
    ),
    "train on a base without weights": Refusal(
        {"r.toml": RECIPE, **MODEL},
        "train {in}/r.toml --pairs {line}/pairs --base {in}/m --out {out}",
        "m",
        "cannot be loaded as a model",
    ),
    "train over foreign files": Refusal(
        {"r.toml": RECIPE, "mine/letter.txt": "Dear"},
        "train {in}/r.toml --pairs {line}/pairs --base {tiny} --out {in}/mine",
        "mine",
        "exists already",
    ),
    "export without weights": Refusal(MODEL, "export {in}/m", "model.safetensors", "no weights"),
    "average without weights": Refusal(
        MODEL, "average {in}/m {tiny} --out {out}", "m", "cannot be loaded as a model"
    ),
    "average over foreign files": Refusal(
        {"mine/letter.txt": "Dear"},
        "average {tiny} {tiny} --out {in}/mine",
        "mine",
        "exists already",
    ),
    "dangling qrel": Refusal(
        {**SUITE, "s/qrels.tsv": SUITE["s/qrels.tsv"] + "q\tnobody\t1\n"},
        "compare {tiny} --suite {in}/s --out {out}",
        "qrels.tsv",
        "line 3: .*nobody",
    ),
    "missing suite": Refusal(
        {}, "compare {tiny} --suite {in}/s --out {out}", "s", "no such folder"
    ),
    "compare into a file": Refusal(
        {**SUITE, "letter.txt": "Dear"},
        "compare {line}/averaged --suite {in}/s --out {in}/letter.txt",
        "letter.txt",
        "exists|[Nn]ot a directory",
    ),
    "compare with a file of vectors": Refusal(
        {**SUITE, "letter.txt": "Dear"},
        "compare {line}/averaged --suite {in}/s --vectors {in}/letter.txt",
        "letter.txt",
        "exists and is not a folder",
    ),
    "trained on other pairs": Refusal(
        SUITE,
        "compare {line}/averaged --suite {in}/s --trained-on {line}/nowhere --out {out}",
        "nowhere",
        "no pairs here",
    ),
    "a report of nothing": Refusal(
        {"r/letter.txt": "Dear"}, "report {in}/r --out {out}", "r/comparison.json", "no readable"
    ),
    "compare a model without weights": Refusal(
        {**SUITE, **MODEL}, "compare {in}/m --suite {in}/s --out {out}", "m", "no weights|Pooling"
    ),
    "card without results": Refusal(
        {"r/letter.txt": "Dear"},
        "card {line}/averaged {in}/r",
        "r/comparison.json",
        "no readable comparison",
    ),
    "missing texts": Refusal(
        {}, "encode {in}/a.txt --out {out}", "a.txt", "No such file or directory"
    ),
    "texts that are no UTF-8": Refusal(
        {"a.txt": b"caf\xe9"}, "encode {in}/a.txt --out {out}", "a.txt", "UTF-8"
    ),
    "encode over a folder": Refusal(
        {"a.txt": "fever", "mine/letter.txt": "Dear"},
        "encode {in}/a.txt --out {in}/mine",
        "mine",
        "something else than vectors",
    ),
    "encode over another file": Refusal(
        {"a.txt": "fever"}, "encode {in}/a.txt --out {in}/a.txt", "a.txt", "else than vectors"
    ),
    "encode below a file": Refusal(
        {"a.txt": "fever"}, "encode {in}/a.txt --out {in}/a.txt/v.npy", "a.txt", "directory|exists"
    ),
    "encode with a folder that is no model": Refusal(
        {"a.txt": "fever", "m/letter.txt": "Dear"},
        "encode {in}/a.txt --model {in}/m --out {out}",
        "m",
        "not a model folder",
    ),
    "encode with a name that is no model": Refusal(
        {"a.txt": "fever"},
        "encode {in}/a.txt --model nobody/nothing --out {out}",
        "nobody/nothing",
        "no such folder",
    ),
    "missing documents": Refusal(
        {}, "index {in}/a.jsonl --out {out}", "a.jsonl", "there is no such file"
    ),
    "index of broken documents": Refusal(
        {"a.jsonl": '{"id": 1, "text": "fever"}\n{"id": 2'},
        "index {in}/a.jsonl --out {out}",
        "a.jsonl",
        "line 2: not JSON",
    ),
    "index over foreign files": Refusal(
        {"a.txt": "fever", "mine/letter.txt": "Dear"},
        "index {in}/a.txt --out {in}/mine",
        "mine",
        "something else than an index",
    ),
    "missing index": Refusal({}, "search {in}/i fever", "i", "no such index"),
    "missing ontology": Refusal(
        {}, "match fever --ontology {in}/a.obo", "a.obo", "No such file or directory"
    ),
    "missing examples": Refusal(
        {}, "classify {in}/a.tsv", "a.tsv", "No such file or directory"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_input_is_one_line_and_leaves_nothing(
    name: str,
    line: Line,
    tiny_model: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
):
    refusal = REFUSED[name]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    for file, content in refusal.files.items():
        path = tmp_path / "in" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    places = {
        "in": tmp_path / "in",
        "out": tmp_path / "out",
        "line": line.folder,
        "tiny": tiny_model,
    }
    arguments = [part.format_map(places) for part in refusal.command.split()]
    before = listing(tmp_path), listing(line.folder), listing(tiny_model)
    answer = command(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.count("\n") == 1, answer.err
    assert re.fullmatch(
        rf"modernpubmed: \S*{re.escape(refusal.file)}: .*(?:{refusal.cause}).* Remedy: \S.*\.\n",
        answer.err,
    ), answer.err
    assert (listing(tmp_path), listing(line.folder), listing(tiny_model)) == before


def test_weights_that_are_gone_from_an_exported_model_are_named(
    line: Line, tmp_path: Path, command: Command
):
    model = Path(shutil.copytree(line.folder / "averaged", tmp_path / "model"))
    (model / "model.safetensors").unlink()
    answer = command("similarity", "a", "b", "--model", model)
    assert answer.status == 2
    assert re.fullmatch(r"modernpubmed: \S*model\S*: .*weights.* Remedy: .*\n", answer.err)


def test_an_older_output_outlives_a_bad_input(line: Line, tmp_path: Path, command: Command):
    out = tmp_path / "articles"
    assert command("parse", line.nlm, "--out", out).status == 0
    before = listing(tmp_path)
    broken = tmp_path.parent / f"{tmp_path.name}.xml"
    broken.write_text("<PubmedArticleSet>")
    assert command("parse", line.nlm, broken, "--out", out).status == 2
    assert listing(tmp_path) == before
    assert command("parse", line.nlm, "--out", out).status == 0  # and a good one replaces it


@pytest.mark.parametrize("start", [(str(SCRIPT),), (sys.executable, "-m", "modernpubmed")])
@pytest.mark.parametrize("name", ["broken gzip", "recipe with an unknown key", "missing index"])
def test_a_bad_input_in_a_process_of_its_own(start: tuple[str, ...], name: str, tmp_path: Path):
    refusal = REFUSED[name]
    for file, content in refusal.files.items():
        path = tmp_path / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    places = {"in": tmp_path, "out": tmp_path / "out", "line": "nowhere", "tiny": "nowhere"}
    before = listing(tmp_path)
    found = spawned(*refusal.command.format_map(places).split(), start=start)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith(f"modernpubmed: {tmp_path / refusal.file}: ")
    assert listing(tmp_path) == before


def test_a_missing_extra_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    (tmp_path / "a.txt").write_text("fever")
    answer = command("index", tmp_path / "a.txt", "--out", tmp_path / "out")
    assert answer == Answer(
        2,
        "",
        "modernpubmed: search needs the extra 'search'. "
        "Remedy: pip install 'modernpubmed[search]'.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_usage_and_version():
    found = spawned("--version")
    assert (found.returncode, found.stdout.strip()) == (0, code_version())
    found = spawned("nonsense")
    assert found.returncode == 2
    assert "invalid choice: 'nonsense'" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_ctrl_c_of_training_keeps_the_run(line: Line, tiny_model: Path, tmp_path: Path):
    recipe = tmp_path / "long.toml"
    steps = 80
    text = RECIPE.replace("steps = 10", f"steps = {steps}")
    recipe.write_text(text.replace("evaluate_every = 5", "evaluate_every = 1000"))
    # Two threads would wait for each other longer than these small matrices take.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "model"
    arguments = ["train", recipe, "--pairs", line.folder / "pairs", "--base", tiny_model]
    command = [SCRIPT, *arguments, "--out", out]
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        first = next(text for text in process.stderr if text.startswith("step "))
        assert f"/{steps}  " in first
        process.send_signal(signal.SIGINT)
        rest, printed = process.stderr.read(), process.stdout.read() if process.stdout else ""
    assert process.returncode == 130
    assert printed == ""
    assert "Traceback" not in rest
    said = [text for text in rest.splitlines() if text.startswith("modernpubmed: ")]
    assert len(said) == 1
    found = re.fullmatch(
        r"modernpubmed: stopped and saved at step (\d+); the same command goes on from there",
        said[0],
    )
    assert found is not None
    reached = int(found[1])
    assert 0 < reached < steps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.toml", "model.run"]

    again = spawned(*arguments, "--out", out, env=environment)
    assert again.returncode == 0, again.stderr
    went_on = [int(step) for step in re.findall(r"^step (\d+)/", again.stderr, re.M)]
    assert min(went_on) > reached
    assert max(went_on) == steps
    assert (out / "model.safetensors").is_file()


def test_ctrl_c_elsewhere_is_one_line_and_130(command: Command, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "similarity", interrupted)
    assert command("similarity", "a", "b") == Answer(130, "", "modernpubmed: stopped\n")


def test_a_closed_pipe_is_no_traceback(tmp_path: Path):
    examples = tmp_path / "examples.tsv"
    examples.write_text("text\tlabel\nfever\ta\ncough\ta\nsoup\tb\nbread\tb\n")
    # argparse itself passes over a pipe that breaks under its help, and ends with 0.
    for arguments, statuses in (
        (["classify", str(examples), *["a long text"] * 50], {141}),
        (["--help"], {0, 141}),
    ):
        with subprocess.Popen(
            [SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode in statuses
    piped = spawned(f"'{SCRIPT}' --help | head -1", start=("sh", "-c"))
    assert piped.stdout.startswith("usage: modernpubmed")
    assert piped.stdout.count("\n") == 1
    assert piped.stderr == ""


def test_a_full_disk_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "save", full)
    (tmp_path / "a.txt").write_text("fever")
    answer = command("encode", tmp_path / "a.txt", "--out", tmp_path / "v.npy")
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == (
        "modernpubmed: No space left on device. "
        "Remedy: check the path, its permissions and the space left.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_progress_on_a_terminal_is_one_line_that_goes_away(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()  # both streams, as on a terminal
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    model = line.folder / "averaged"
    assert (
        main(["index", str(line.suite), "--out", str(tmp_path / "i"), "--model", str(model)]) == 0
    )
    shown = screen.getvalue()
    assert "\r\033[Kdocuments indexed: 8\r\033[K" in shown
    visible = [text.rpartition("\033[K")[2] for text in shown.split("\n")]
    assert visible == [f"{tmp_path / 'i'}: 8 documents, 8 indexed, 0 truncated", ""]


def test_warnings_of_the_caller_are_left_as_they_were(command: Command):
    import warnings

    before = warnings.showwarning, list(warnings.filters)
    assert command("similarity", "a", "b").status == 0
    assert (warnings.showwarning, list(warnings.filters)) == before
