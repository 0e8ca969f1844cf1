from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.encoder import Encoder
from modernpubmed.encoder.export import export
from modernpubmed.errors import ModernPubMedError

TEXTS = ["fever and cough", "heart failure"]


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model, with and without prompts of its own, as weights and as a graph."""
    made = {}
    for name in ("plain", "prompted"):
        folder = tmp_path_factory.mktemp("prompts") / "tiny"
        shutil.copytree(tiny_model, folder)
        if name == "prompted":
            config = folder / "config_sentence_transformers.json"
            settings = json.loads(config.read_text())
            settings["prompts"] = {"query": "risk: ", "document": "", "cluster": "group: "}
            config.write_text(json.dumps(settings))
        made[f"{name} torch"] = folder
        graph = folder.with_name("graph")
        shutil.copytree(folder, graph)
        export(graph)
        made[f"{name} graph"] = graph
    return made


@pytest.mark.parametrize("how", ["torch", "graph"])
def test_a_prompt_is_put_before_the_texts(folders: dict[str, Path], how: str):
    plain = Encoder.load(folders[f"plain {how}"])
    given = Encoder.load(folders[f"plain {how}"], prompts={"query": "risk: "})
    own = Encoder.load(folders[f"prompted {how}"])
    assert {role: plain.prompts[role] for role in ("query", "document")} == {
        "query": "",
        "document": "",
    }
    assert given.prompts == {**plain.prompts, "query": "risk: "}
    wanted = plain.encode([f"risk: {text}" for text in TEXTS])
    assert np.array_equal(given.encode_query(TEXTS), wanted)
    assert np.array_equal(own.encode_query(TEXTS), wanted)
    assert not np.allclose(wanted, plain.encode_query(TEXTS), atol=1e-3)
    # What has no role gets no prompt, and the document's stays its own.
    assert np.array_equal(given.encode(TEXTS), plain.encode(TEXTS))
    assert np.array_equal(given.encode_document(TEXTS), plain.encode_document(TEXTS))
    # An empty prompt takes the model's own away.
    bare = Encoder.load(folders[f"prompted {how}"], prompts={"query": ""})
    assert np.array_equal(bare.encode_query(TEXTS), plain.encode_query(TEXTS))


@pytest.mark.parametrize("how", ["torch", "graph"])
def test_the_fingerprint_knows_the_prompts(folders: dict[str, Path], how: str):
    folder = folders[f"prompted {how}"]
    prints = {
        name: Encoder.load(folder, prompts=prompts).fingerprint
        for name, prompts in {
            "own": None,
            "none": {"query": ""},
            "query": {"query": "q: "},
            "document": {"query": "", "document": "q: "},
        }.items()
    }
    assert len(set(prints.values())) == 4
    assert Encoder.load(folder, prompts={"query": "risk: "}).fingerprint == prints["own"]
    assert all(len(value) == 64 for value in prints.values())


def test_a_graph_without_prompts_keeps_its_fingerprint(folders: dict[str, Path]):
    plain = folders["plain graph"]
    encoder = Encoder.load(plain)
    assert encoder.fingerprint == Encoder.load(plain, prompts={}).fingerprint
    assert encoder.fingerprint == Encoder.load(plain, prompts={"document": ""}).fingerprint
    # The same graph with a prompt of its own in the configuration is another model.
    assert encoder.fingerprint != Encoder.load(folders["prompted graph"]).fingerprint


def test_a_prompt_for_something_else_is_refused(folders: dict[str, Path]):
    with pytest.raises(ModernPubMedError, match="no prompt can be given for 'passage'"):
        Encoder.load(folders["plain graph"], prompts={"passage": "p: "})
    with pytest.raises(ModernPubMedError, match="or it is no string"):
        Encoder.load(folders["plain graph"], prompts={"query": 3})
