"""From texts to vectors: the encoder, and the export of the graph that it runs."""

from modernpubmed.encoder.encoder import Encoder, TruncationWarning
from modernpubmed.encoder.precision import quantize, search_binary, shorten
from modernpubmed.encoder.shards import encode_to, read_vectors

__all__ = [
    "Encoder",
    "TruncationWarning",
    "encode_to",
    "quantize",
    "read_vectors",
    "search_binary",
    "shorten",
]
