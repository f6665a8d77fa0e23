"""Plain prose out of MediaWiki's markup.

mwparserfromhell resolves the links and whatever is nested or unbalanced. It builds its tree in
Python, a megabyte a second, so expressions first cut away what needs no tree: comments,
references, tables, sections of links, and templates from the innermost outwards.
"""

import functools
import html
import re
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from raygpt.data.corpora import templates
from raygpt.data.corpora.literal import protect, restore

if TYPE_CHECKING:
    from mwparserfromhell.wikicode import Wikicode

# Raise this whenever `prose` returns other text: it is part of a corpus's revision.
CLEANING = 2

# The namespaces of links that show nothing in the text, or a picture. Every wiki knows their
# English names besides its own.
HIDDEN_LINKS = frozenset({"file", "image", "media", "category"})

# Tags whose content is no prose.
BLOCKS = (
    "ref|references|table|gallery|imagemap|math|chem|ce|score|hiero|timeline|graph|mapframe"
    "|maplink|syntaxhighlight|source|pre|templatestyles|templatedata|categorytree|inputbox|indicator"
)
CUT = re.compile(
    r"<!--.*?(?:-->|\Z)|<nowiki\s*>(?P<literal>.*?)</nowiki\s*>"
    rf"|<(?:{BLOCKS})\b[^<>]*/>|<(?P<block>{BLOCKS})\b[^<>]*>.*?</(?P=block)\s*>",
    re.S | re.I,
)
TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
BREAK = re.compile(r"<(?:br|hr)\b[^<>]*>", re.I)

# Its content may have single braces, alone or in pairs.
INNERMOST_TEMPLATE = re.compile(
    r"\{\{([^{}]*(?:(?:\{[^{}]*\}|\{(?!\{|[^{}]*\})|\}(?!\}))[^{}]*)*)\}\}"
)
UNCLOSED_TEMPLATE = re.compile(r"\{\{(?:[^{}\n]|\{[^{}\n]*\})*\}?")
FRACTION = re.compile(r"\d+/\d+")

# Innermost tables first, so that tables inside tables go too.
TABLE = re.compile(r"^[ :]*\{\|(?:(?!^[ :]*\{\|).)*?^\s*\|\}", re.S | re.M)

# Sections of links and citations, with their subsections.
APPARATUS = re.compile(
    r"^(=+)[ \t]*(?:See also|Notes(?: and references)?|Footnotes|References|Citations|Sources"
    r"|Bibliography|Further reading|External links)[ \t]*\1[ \t]*$.*?(?=^(?!\1=)=|\Z)",
    re.S | re.M | re.I,
)
# Headings with nothing under them, not even a deeper heading.
EMPTY_SECTION = re.compile(r"^(=+)[^=\n].*\n\s*(?=\Z|(?!\1=)=)", re.M)

INTERLANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:")

TIDY = [
    (re.compile(r"^=+[ \t]*(.*?)[ \t]*=+[ \t]*$", re.M), r"\n\1\n"),  # headings
    (re.compile(r"^[ \t]*(?:\{\||\|).*$", re.M), ""),  # of tables that were never closed
    (re.compile(r"^[*#:;]+|^-{4,}", re.M), ""),  # bullets, indents and rules
    (re.compile(r"'{5}|'{2,3}|__[A-Z]+__|\[\[|\]\]|\{\{|\}\}"), ""),
    (re.compile(r"[^\S\n]+"), " "),
    # Around templates that show nothing, such as a pronunciation.
    (re.compile(r"\([ ,;]+"), "("),
    (re.compile(r"[ ,;]+\)"), ")"),
    (re.compile(r" ?\(\)"), ""),
    (re.compile(r",(?: ,)+"), ","),
    (re.compile(r" (?=[,;]|\.(?:\s|\Z))"), ""),
    (re.compile(r"^ | $", re.M), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]


def prose(
    source: str,
    hidden_links: Collection[str] = HIDDEN_LINKS,
    unknown_template: Callable[[str], str] = lambda name: "",
) -> str:
    """The text of an article's wiki source: paragraphs and headings, case and punctuation kept.

    Args:
        source: the article.
        hidden_links: namespaces (lower case) of links that are removed, captions included.
        unknown_template: gets the name of a template that `templates` does not have, and returns
            its text.
    """
    import mwparserfromhell  # takes a third of a second; only a process that parses needs it

    source = CUT.sub(_literal, source)
    show = functools.partial(_shown, unknown_template)
    source = _until_unchanged(INNERMOST_TEMPLATE, show, source)
    source = UNCLOSED_TEMPLATE.sub("", source)
    source = _until_unchanged(TABLE, "", source)
    source = APPARATUS.sub("", source)
    # The parser takes hours and all memory for some nests of unclosed tags, and unbalanced quotes
    # mislead it. So tags go first, and quotes, which are easily removed, go last.
    source = TAG.sub("", BREAK.sub("\n", source)).replace("<", "&lt;")
    try:
        tree = mwparserfromhell.parse(source, skip_style_tags=True)
    except mwparserfromhell.parser.ParserError:  # no page is known to raise it, but one may
        return ""
    text = html.unescape("".join(_visible(tree, hidden_links)))
    text = _until_unchanged(EMPTY_SECTION, "", text)
    for pattern, replacement in TIDY:
        text = pattern.sub(replacement, text)
    return restore(text.strip())


def _literal(cut: re.Match[str]) -> str:
    return protect(html.unescape(cut["literal"] or ""))


def _shown(unknown_template: Callable[[str], str], template: re.Match[str]) -> str:
    text = templates.shown(template[1], unknown_template)
    before = template.string[max(template.start() - 1, 0) : template.start()]
    # 3{{frac|1|2}} is 3 1/2.
    return f" {text}" if before.isdigit() and FRACTION.fullmatch(text) else text


def _until_unchanged(
    pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str], text: str
) -> str:
    found = 1
    while found:
        text, found = pattern.subn(replacement, text)
    return text


def _visible(tree: "Wikicode", hidden_links: Collection[str]) -> Iterator[str]:
    from mwparserfromhell import nodes

    for node in tree.nodes:
        if isinstance(node, nodes.Text | nodes.HTMLEntity):
            yield str(node)
        elif isinstance(node, nodes.Heading):
            bars = "=" * node.level
            yield from (bars, *_visible(node.title, hidden_links), bars)
        elif isinstance(node, nodes.Wikilink):
            title = str(node.title).strip()
            namespace, colon, _ = title.partition(":")
            # Only links to pictures have two bars; their namespace may have yet another name.
            if namespace.strip().lower() in hidden_links or (colon and "|" in str(node.text)):
                continue
            if node.text is not None:
                yield from _visible(node.text, hidden_links)
            elif not INTERLANGUAGE.match(title):
                yield title.removeprefix(":")
        elif isinstance(node, nodes.ExternalLink) and node.title is not None:
            yield from _visible(node.title, hidden_links)
