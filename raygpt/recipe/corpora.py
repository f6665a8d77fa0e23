"""How the sources of text are named.

sample                          106 English Wikipedia articles that come with gensim
wikipedia                       English Wikipedia of November 2023, from the Hugging Face Hub
wikipedia:SNAPSHOT@COMMIT       another snapshot or language, as in wikipedia:20231101.de
hub:OWNER/NAME:CONFIG@REVISION  any data set of texts on the Hub
dump:PATH                       a Wikipedia XML dump; a folder or glob where it is split
jsonl:PATH                      JSON Lines, a file or glob (plain, .gz or .xz), an object a line

What follows the first colon of a Hub name or an @ may be left out.
"""

import re

NAMES = ("sample", "wikipedia", "hub:OWNER/NAME", "dump:PATH", "jsonl:PATH")
WIKIPEDIA = re.compile(r"wikipedia(:(?P<snapshot>[\w.-]+))?(@(?P<commit>[\w./-]+))?")
HUB = re.compile(
    r"hub:(?P<dataset>[\w.-]+/[\w.-]+)(:(?P<config>[^:@\s]+))?(@(?P<revision>[\w./-]+))?"
)
FILES = re.compile(r"(?P<kind>dump|jsonl):(?P<path>.*\S.*)")


def is_uri(cache: str) -> bool:
    """Whether a token cache is named by a URI, such as s3://bucket/raygpt, rather than a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", cache) is not None
