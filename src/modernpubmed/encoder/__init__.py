"""From texts to vectors: the encoder, and the export of the graph that it runs."""

from modernpubmed.encoder.encoder import Encoder, TruncationWarning

__all__ = ["Encoder", "TruncationWarning"]
