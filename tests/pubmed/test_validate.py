"""The verb ``validate``: each check finds what it is there for, nothing passes in silence."""

import json

import numpy as np
import pytest

from modernpubmed.articles import live_bits
from modernpubmed.cli import main
from modernpubmed.manifest import Manifest
from modernpubmed.pubmed import recount
from modernpubmed.pubmed.consolidate import consolidate
from modernpubmed.pubmed.validate import validate
from modernpubmed.search.documents import read_documents

ABSTRACT = "The effect of the diet on the patients was studied in a trial of the diet and of none."
SPANISH = (
    "El efecto de la dieta en los pacientes con diabetes: los pacientes con una dieta baja en "
    "grasas fueron comparados con los del grupo control por dos observadores."
)


@pytest.fixture
def out(nlm, tmp_path):
    nlm.write(1, *(nlm.record(n, f"{n}", abstract=ABSTRACT) for n in range(1, 6)))
    nlm.write(2, nlm.record(2, "revised"), nlm.record(3, "v2", 2), nlm.delete(4))
    out = tmp_path / "corpus"
    consolidate([nlm.folder], out, workers=1)
    return out


def outcomes(out, mirror=None):
    return {check.name: (check.outcome, check.detail) for check in validate(out, mirror)}


def but(found, *expected):
    return {name: outcome for name, (outcome, _) in found.items() if outcome not in expected}


def set_bits(out, change):
    manifest = Manifest.read(out)
    bits = live_bits(out, manifest)
    rows = np.unpackbits(bits)
    change(rows)
    np.save(out / manifest.settings["live"], np.packbits(rows))


def test_a_sound_corpus(nlm, out):
    found = outcomes(out, nlm.folder)
    assert but(found, "pass") == {
        "dates are plausible": "skip", "other abstracts are kept apart": "skip",
    }  # fmt: skip
    assert but(outcomes(out), "pass", "skip") == {
        "the files are the ones it was made of": "NOT CHECKED"
    }
    assert found["counts add up"][1].startswith("7 records read = 4 + 1 + 1 + 1 ")


# Rows: 1 to 5 of the first file in the first byte, 2 and 3 (v2) of the second in the second.
@pytest.mark.parametrize(
    ("row", "value", "name"),
    [
        (1, 1, "one record a PMID"),
        (1, 1, "the newest record is shown"),
        (2, 1, "the newest record is shown"),
        (3, 1, "no deleted PMID alive"),
        (0, 0, "nothing is lost"),
        (8, 0, "nothing is lost"),
        (4, 0, "counts add up"),
    ],
)
def test_wrong_bits_are_found(out, row, value, name):
    set_bits(out, lambda rows: rows.__setitem__(row, value))
    assert outcomes(out)[name][0] == "fail"


def test_the_recount_in_several_passes(out, monkeypatch):
    monkeypatch.setattr(recount, "_EVENTS", 2)
    assert but(outcomes(out), "pass", "skip", "NOT CHECKED") == {}


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (
            lambda out: next(out.glob("files/*1-*/report.json")).unlink(),
            "every file's folder is there",
        ),
        (
            lambda out: next(out.glob("files/*1-*/articles.parquet")).write_bytes(b"no"),
            "tables have their schema and their rows",
        ),
        (
            lambda out: next(out.glob("files/*1-*/articles.parquet")).write_bytes(
                next(out.glob("files/*2-*/articles.parquet")).read_bytes()
            ),
            "tables have their schema and their rows",
        ),
        (
            lambda out: next(out.glob("keys/*1-*.npy")).write_bytes(
                next(out.glob("keys/*2-*.npy")).read_bytes()
            ),
            "keys are those of the tables",
        ),
        (lambda out: next(out.glob("live/*")).unlink(), "the manifest and its bits"),
        (lambda out: (out / "manifest.json").unlink(), "the manifest and its bits"),
    ],
)  # fmt: skip
def test_damage_is_found(out, spoil, name, capsys):
    spoil(out)
    found = outcomes(out)
    assert found[name][0] == "fail"
    assert set(but(found, "pass", "skip", "NOT CHECKED", "warn").values()) == {"fail"}
    assert main(["validate", str(out)]) == 2
    assert f"fail         {name}: " in capsys.readouterr().out


def test_a_wrong_count_is_found(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["dropped"]["superseded"] += 1
    path.write_text(json.dumps(manifest))
    found = but(outcomes(out), "pass", "skip", "NOT CHECKED")
    assert found == {"counts add up": "fail", "the outcomes are as counted": "fail"}


def test_the_mirror_is_compared(nlm, out):
    nlm.write(1, nlm.record(1))
    nlm.write(3, nlm.record(7))
    nlm.path(2).unlink()
    found = outcomes(out, nlm.folder)
    assert found["the files are the ones it was made of"] == (
        "fail", "pubmed26n0001.xml.gz has other bytes now",
    )  # fmt: skip
    name, detail = found["every input is accounted for"]
    assert name == "warn"
    assert "pubmed26n0003.xml.gz (not consolidated yet)" in detail


def test_contents_worth_a_look(nlm, tmp_path):
    other = (
        f"<OtherAbstract Type='Publisher' Language='spa'><AbstractText>{SPANISH}</AbstractText>"
        "</OtherAbstract>"
    )
    nlm.write(
        1,
        nlm.record(0, "no PMID of NLM's"),
        nlm.record(1, "in Spanish", abstract=SPANISH),
        nlm.record(2, "twice", abstract=SPANISH).replace("</Article>", f"</Article>{other}"),
        nlm.record(3, "apart", abstract=ABSTRACT).replace("</Article>", f"</Article>{other}"),
        nlm.record(4, "old").replace(
            "<ArticleTitle>",
            "<Journal><JournalIssue><PubDate><Year>1609</Year></PubDate></JournalIssue></Journal>"
            "<ArticleTitle>",
        ),
        md5=False,
    )
    consolidate([nlm.folder], tmp_path / "out", workers=1)
    found = outcomes(tmp_path / "out")
    assert but(found, "pass", "NOT CHECKED") == {
        "files were checked against NLM's MD5": "warn",
        "no deleted PMID alive": "skip",
        "PMIDs and versions are positive": "fail",
        "dates are plausible": "warn",
        "abstracts are in English": "warn",
        "other abstracts are kept apart": "warn",
    }
    assert found["abstracts are in English"][1] == "2: PMID 1, 2"
    assert found["other abstracts are kept apart"][1] == "1: PMID 2"


def test_the_command_line(nlm, tmp_path, capsys):
    nlm.write(1, nlm.record(1, "one", abstract=ABSTRACT), nlm.record(2, "two"))
    nlm.write(2, nlm.delete(2))
    out, plain = tmp_path / "corpus", tmp_path / "plain"
    command = ["consolidate", str(nlm.folder), "--out", str(out), "--workers", "1"]
    assert main([*command, "--plain", str(plain)]) == 0
    printed = capsys.readouterr().out
    assert "as of pubmed26n0002: 2 files, 2 md5 checked, 2 articles read, 1 articles" in printed
    assert f"{plain}: 1 articles" in printed
    assert main(["validate", str(out), "--mirror", str(nlm.folder)]) == 0
    assert "NOT CHECKED" not in capsys.readouterr().out
    assert [(d.id, d.title, d.text) for d in read_documents(out)] == [("1", "one", ABSTRACT)]
    nlm.write(1, nlm.record(1), year=25)
    assert main(command) == 0
    assert "pubmed25n0001.xml.gz: not used, of an older year than 2026" in capsys.readouterr().err
    nlm.put(3, b"half")
    assert main(command) == 2
    assert "pubmed26n0003.xml.gz: " in capsys.readouterr().err
