"""Search: documents and an encoder to an index, a query to its nearest documents.

LanceDB (the extra ``search``) is imported when an index is made or opened, not before.
"""

from modernpubmed.search.documents import Document, read_documents
from modernpubmed.search.index import Index, build_index, open_index
from modernpubmed.search.search import Hit, search, search_many

__all__ = [
    "Document",
    "Hit",
    "Index",
    "build_index",
    "open_index",
    "read_documents",
    "search",
    "search_many",
]
