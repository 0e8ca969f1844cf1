"""Static models: what sentence-transformers gives, in NumPy alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.encoder import Encoder, TruncationWarning
from modernpubmed.errors import ModernPubMedError

TEXTS = [
    "fever and cough in children",
    "",
    "   ",
    "Acute KIDNEY failure after heart surgery",
    "unknownword zebra",
    "Müller-Lyer 𝛽-blocker 5 µg ‰ 発熱 🩺 \u200b\u0301",
    "\ud800".encode("utf-8", "replace").decode(),
    "insulin for diabetes " * 5000,
    "insulin",
    "…",
]


def save(folder: Path, tokenizer: Path, *, normalized: bool = True, half: bool = True) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer))
    words.no_truncation()
    table = np.random.default_rng(3).normal(size=(words.get_vocab_size(), 24))
    table = table.astype(np.float16 if half else np.float32)
    modules = [StaticEmbedding(words, embedding_weights=table), *([Normalize()] * normalized)]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "fever "})
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def static(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("static") / "model", tiny_model / "tokenizer.json")


@pytest.fixture
def copy(static: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(static, tmp_path / "copy"))


def reference(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return np.asarray(model.encode(texts, normalize_embeddings=True), dtype=np.float32)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_it_agrees_with_sentence_transformers(
    tiny_model: Path, tmp_path: Path, normalized: bool, half: bool
):
    tokenizer = tiny_model / "tokenizer.json"
    folder = save(tmp_path / "model", tokenizer, normalized=normalized, half=half)
    encoder = Encoder.load(folder)
    ours, theirs = encoder.encode(TEXTS), reference(folder, TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), 24)
    assert encoder.truncated == 0
    empty = ~np.nan_to_num(theirs).any(axis=1)
    assert np.flatnonzero(empty).tolist() == [1, 2]
    # In fp16 sentence-transformers divides 0 by 0.
    assert np.isnan(theirs[[1, 2]]).all() == half
    np.testing.assert_array_equal(ours[empty], 0)
    cosines = (ours * theirs).sum(axis=1)[~empty] / np.linalg.norm(theirs[~empty], axis=1)
    assert cosines.min() > 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours[~empty], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(ours, np.nan_to_num(theirs), atol=2e-3 if half else 1e-4)


def test_a_vector_does_not_depend_on_the_company(static: Path):
    encoder = Encoder.load(static)
    many = [*TEXTS, *(f"fever {'cough ' * (row % 90)}{row}" for row in range(3000))]
    together = encoder.encode(many)
    for row in (0, 7, 9, 10, 99, 1023, 1024, 2047, 2048, 3009):
        np.testing.assert_allclose(encoder.encode([many[row]])[0], together[row], atol=1e-6)
    assert encoder.encode([]).shape == (0, 24)


def test_prompts_length_and_dimension_are_in_force(static: Path):
    encoder = Encoder.load(static)
    np.testing.assert_array_equal(encoder.encode_query(["x"]), encoder.encode(["fever x"]))
    np.testing.assert_array_equal(encoder.encode_document(["x"]), encoder.encode(["x"]))
    short = Encoder.load(static, max_tokens=2, dim=8)
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts .* by 1 in all"):
        vectors = short.encode(["fever cough asthma", "fever cough"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors.shape == (2, 8)
    assert len({encoder.fingerprint, short.fingerprint, Encoder.load(static).fingerprint}) == 2
    with pytest.raises(ModernPubMedError, match="1 tokens longer than the 2"):
        Encoder.load(static, max_tokens=2, long="error").encode(["fever cough asthma"])
    chunked = Encoder.load(static, max_tokens=2, long="chunk").encode(["fever cough asthma"])
    assert not np.allclose(chunked[0, :8], vectors[0])


def test_texts_are_cut_where_the_tokenizer_says_so(copy: Path):
    state = json.loads((copy / "tokenizer.json").read_text())
    state["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    (copy / "tokenizer.json").write_text(json.dumps(state))
    encoder = Encoder.load(copy)
    assert encoder.max_tokens == 3
    with pytest.warns(TruncationWarning):
        ours = encoder.encode(["fever and cough in children"])
    np.testing.assert_allclose(ours, reference(copy, ["fever and cough in children"]), atol=2e-3)


def test_a_table_in_a_folder_of_its_own_is_read(copy: Path):
    before = Encoder.load(copy).encode(TEXTS)
    modules = json.loads((copy / "modules.json").read_text())
    modules[0]["path"] = "0_StaticEmbedding"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "0_StaticEmbedding").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (copy / name).rename(copy / "0_StaticEmbedding" / name)
    np.testing.assert_array_equal(Encoder.load(copy).encode(TEXTS), before)
    np.testing.assert_allclose(before[3:], reference(copy, TEXTS[3:]), atol=2e-3)


def test_no_torch_and_no_scipy(static: Path):
    code = (
        "import sys\n"
        "from modernpubmed import Encoder\n"
        f"Encoder.load({str(static)!r}).encode(['fever'])\n"
        "print(sorted({'torch', 'scipy', 'safetensors', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "name", "type", "shape", "header"])
def test_a_broken_table_is_refused(copy: Path, damage: str):
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    changes = {
        "cut": content[:-100],
        "empty": b"",
        "name": content.replace(b"embedding.weight", b"embedding.wrong!"),
        "type": content.replace(b'"F16"', b'"I16"'),
        "shape": content.replace(b",24]", b"   ]"),
        "header": content[:8] + b"[" + content[9:],
    }
    if damage == "gone":
        weights.unlink()
    else:
        assert changes[damage] != content
        weights.write_bytes(changes[damage])
    with pytest.raises(ModernPubMedError, match=r"model\.safetensors: .*copy the model folder"):
        Encoder.load(copy)


def test_a_number_that_is_none_is_refused(copy: Path):
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-2] + b"\xff\x7f")  # the last number of the last token
    last = max(json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"].items(),
               key=lambda entry: entry[1])[0]  # fmt: skip
    with pytest.raises(ModernPubMedError, match=r"text 1: .*not finite"):
        Encoder.load(copy).encode(["fever", last])


def test_a_tokenizer_of_another_model_is_refused(copy: Path):
    state = json.loads((copy / "tokenizer.json").read_text())
    state["model"]["vocab"]["zebra"] = 9_999
    (copy / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ModernPubMedError, match=r"tokenizer\.json: has ids up to 9999"):
        Encoder.load(copy)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(ModernPubMedError, match="not a readable tokenizer"):
        Encoder.load(copy)


def test_int8_is_refused(static: Path):
    with pytest.raises(ModernPubMedError, match="static model has no int8 graph"):
        Encoder.load(static, precision="int8")


def test_further_modules_are_left_to_sentence_transformers(copy: Path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    model = SentenceTransformer(str(copy), device="cpu").float()
    model.insert(1, Dense(24, 12))
    model.save_pretrained(str(copy / "dense"), create_model_card=False)
    from modernpubmed.encoder.static import is_static

    assert is_static(copy)
    assert not is_static(copy / "dense")
