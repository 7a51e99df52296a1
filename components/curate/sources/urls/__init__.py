"""Lists of URLs with captions (`urls:PATH`), downloaded safely, politely and once.

scheme.py      the locator: list → directory of pictures and a digest
lists.py       what a list says (parquet, JSON lines, CSV); selection.py: which of its rows are asked for
download.py    many at once, chunk by chunk; store.py: where they lie
client.py      one URL; safety.py: what may be asked; hosts.py: how often; content.py: what is taken
reader.py      pictures and captions as samples
"""

from components.curate.sources.urls.reader import READER
from components.curate.sources.urls.scheme import SCHEME

__all__ = ["READER", "SCHEME"]
