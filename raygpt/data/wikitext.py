"""Plain prose out of a MediaWiki dump, with gensim's reader and a little tidying after it."""

import bz2
import re
from collections.abc import Iterator
from pathlib import Path

# Innermost tables first, so that tables inside tables go too. gensim would keep every cell on a
# line of its own.
TABLE = re.compile(r"^[ :]*\{\|(?:(?!^[ :]*\{\|).)*?^\s*\|\}", re.S | re.M)

# Sections of links and citations: once gensim has removed the templates, mostly empty bullets.
APPARATUS = re.compile(
    r"^==\s*(?:See also|Notes(?: and references)?|Footnotes|References|Citations|Sources"
    r"|Bibliography|Further reading|External links)\s*==\s*$.*?(?=^==[^=]|\Z)",
    re.S | re.M | re.I,
)

TIDY = [
    (re.compile(r"^(?:File:|Image:|.*\.(?:jpe?g|png|gif|svg)\|).*$", re.M | re.I), ""),  # galleries
    (re.compile(r"^=+[ \t]*(.*?)[ \t]*=+[ \t]*$", re.M), r"\n\1\n"),  # headings
    (re.compile(r"^[*#:;]+", re.M), ""),  # bullets and indents
    (re.compile(r"'{5}|'{2,3}|__[A-Z]+__"), ""),  # bold, italics, switches
    (re.compile(r"[ \t\xa0]+"), " "),
    # What a removed template (a pronunciation, a foreign word) leaves behind.
    (re.compile(r"\((?: ?[,;])+ ?"), "("),
    (re.compile(r" ?\( ?\)"), ""),
    (re.compile(r" (?=[,;])"), ""),
    (re.compile(r"^ | $", re.M), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]


def articles(dump: Path) -> Iterator[str]:
    """The articles of a bzip2-compressed dump in its order, without redirects and empty pages."""
    from gensim.corpora.wikicorpus import extract_pages

    with bz2.open(dump) as pages:
        for _, source, _ in extract_pages(pages, filter_namespaces=("0",)):
            redirect = source and source.lstrip().lower().startswith("#redirect")
            if source and not redirect and (text := prose(source)):
                yield text


def prose(source: str) -> str:
    """The text of an article's wiki source: paragraphs and headings, case and punctuation kept."""
    from gensim.corpora.wikicorpus import filter_wiki

    while (without := TABLE.sub("", source)) != source:
        source = without
    text = APPARATUS.sub("", filter_wiki(source))
    for pattern, replacement in TIDY:
        text = pattern.sub(replacement, text)
    return text.strip()
