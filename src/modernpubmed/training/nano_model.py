"""The nano student before its first step: tokenizer, architecture, and what it starts from.

A ModernBERT (Warner et al. 2024, arXiv:2412.13663: rotary positions, GeGLU, two local layers after
each global one) of our own size and vocabulary. No weight is inherited; but a random start would
spend most of the training on what words mean, which the teacher can be asked. So each token's
embedding is the teacher's vector of the token's own text, in the basis of the student's targets,
and the blocks' outputs are small: at step 0 the student is a static model.

A static model needs frequent tokens to weigh less (SIF: a / (a + p), p a token's share of all;
Arora et al. 2017, https://openreview.net/forum?id=SyK00v5xx), and layer norms undo every length.
So what a token does not say it puts into the last two dimensions, with opposite signs (so that a
norm's mean takes nothing away), where the last norm's weights are zero: what is left in the others
after that norm is as short as its weight. Training may use these dimensions as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

Floats = NDArray[np.float32]

#: What the first piece of a word opens with.
OPENS = "▁"
#: The special tokens; their numbers are 0 to 4.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

#: The last dimensions, which take up what a token does not say.
_SPARE = 2
# Characters that are tokens of their own; rarer ones are unknown.
_ALPHABET = 500
# a of SIF.
_SIF = 1e-3
# The standard deviation of embeddings, ModernBERT's own.
_SCALE = 0.02
# What the blocks' outputs are times, of ModernBERT's own start.
_QUIET = 0.1


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A lower-cased byte-pair tokenizer of at most ``size`` tokens that the texts ask for.

    Words are cut out and accents taken off as BERT's does; each piece of text between white space
    and punctuation opens with ``OPENS``, so that a word is the same token after a space and after
    a bracket. (Pieces that are marked where they go on, as WordPiece's are, come out differently
    from run to run.) It adds ``[CLS]`` and ``[SEP]``, and neither cuts nor pads.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    opens = pre_tokenizers.Metaspace(OPENS, prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), opens])
    tokenizer.decoder = decoders.Metaspace(OPENS)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        limit_alphabet=_ALPHABET,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """What the teacher is asked about each token, by the token's number."""
    tokens = (str(tokenizer.id_to_token(row)) for row in range(tokenizer.get_vocab_size()))
    return [token.removeprefix(OPENS) for token in tokens]


def start_embeddings(directions: Floats, counts: NDArray[np.int64]) -> Floats:
    """The token embeddings at step 0.

    Args:
        directions: The teacher's vectors of the tokens in the basis of the targets, ``[v, d]``.
        counts: How often each token occurs in the texts, special ones included, ``[v]``.

    Returns:
        ``[v, d]``, of one length but for the padding, which is zero.
    """
    weight = (_SIF / (_SIF + counts / max(1, counts.sum()))).astype(np.float32)
    # Not what their names mean: they say nothing.
    weight[: len(SPECIAL)] = weight.min()
    said = directions.copy()
    said[:, -_SPARE:] = 0
    said /= np.maximum(np.linalg.norm(said, axis=1, keepdims=True), np.float32(1e-6))
    table = said * weight[:, None]
    rest = np.sqrt((1 - weight**2) / _SPARE)
    table[:, -2], table[:, -1] = rest, -rest
    table[0] = 0
    scaled: Floats = table * np.float32(_SCALE * np.sqrt(table.shape[1]))
    return scaled


def new_student(
    tokenizer: Tokenizer,
    embeddings: Floats,
    folder: Path,
    *,
    layers: int,
    heads: int,
    intermediate: int,
    max_tokens: int,
    seed: int,
) -> SentenceTransformer:
    """The student at step 0: transformer, mean pooling, unit length.

    Args:
        tokenizer: Of v tokens.
        embeddings: ``[v, d]``.
        folder: An empty folder that the parts are put together in.
        layers: Blocks.
        heads: Attention heads; d is a multiple of twice as many.
        intermediate: Width of the GeGLU.
        max_tokens: The longest text it reads.
        seed: Of the blocks' weights.
    """
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
        mask_token="[MASK]",  # noqa: S106
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    config = ModernBertConfig(
        vocab_size=len(embeddings),
        hidden_size=embeddings.shape[1],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=max_tokens,
        pad_token_id=0,
        bos_token_id=SPECIAL.index("[CLS]"),
        cls_token_id=SPECIAL.index("[CLS]"),
        eos_token_id=SPECIAL.index("[SEP]"),
        sep_token_id=SPECIAL.index("[SEP]"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ModernBertModel(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(embeddings))
        model.final_norm.weight[-_SPARE:] = 0
        for block in model.layers:
            block.attn.Wo.weight.mul_(_QUIET)
            block.mlp.Wo.weight.mul_(_QUIET)
    model.save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=max_tokens)
    return SentenceTransformer(
        modules=[
            transformer,
            Pooling(transformer.get_embedding_dimension(), pooling_mode="mean"),
            Normalize(),
        ],
        similarity_fn_name="cosine",
        prompts={"query": "", "document": ""},
    )
