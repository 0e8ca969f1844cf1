"""What several rooms' tests share: a tiny encoder of our own and the place of the real data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# Nothing in the tests may reach a hub; the libraries read these when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

WORDS = """
the a of in and with after for patient patients fever cough asthma children liver kidney heart acute
chronic failure treatment surgery infection therapy cancer disease blood pressure high low dose
randomised trial cohort study risk outcome mortality diabetes insulin glucose stroke
""".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs the real data where it is not there."""
    if SHARED_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="the real data is not on this machine"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: BERT, 2 layers × 32, our own words, random weights, fp32."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(7)
    bare = tmp_path_factory.mktemp("bare")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(97, 123)] + [f"##{chr(code)}" for code in range(97, 123)]
    words = dict.fromkeys(special + letters + WORDS)  # "a" is a letter and a word
    vocabulary = {word: row for row, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(bare)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(bare)
    transformer = Transformer(str(bare), max_seq_length=48)
    model = SentenceTransformer(
        modules=[transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")],
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(str(folder), create_model_card=False)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 32
    return folder
