"""Plain prose out of MediaWiki's markup.

mwparserfromhell resolves the links and whatever is nested or unbalanced. It builds its tree in
Python, a megabyte a second, so expressions first cut away what needs no tree: comments,
references, tables, sections of links, and templates from the innermost outwards.
"""

import html
import re
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mwparserfromhell.wikicode import Wikicode

# To be raised with every change to what `prose` returns: it is part of a corpus's revision.
CLEANING = 1

# The namespaces of links that show nothing in the text, or a picture. Their English names hold on
# every wiki, beside its own.
HIDDEN_LINKS = frozenset({"file", "image", "media", "category"})

# Tags whose content is no prose.
BLOCKS = (
    "ref|references|table|gallery|imagemap|math|chem|ce|score|hiero|timeline|graph|mapframe"
    "|maplink|syntaxhighlight|source|pre|templatestyles|templatedata|categorytree|inputbox|indicator"
)
CUT = re.compile(
    rf"<!--.*?(?:-->|\Z)|<(?:{BLOCKS})\b[^<>]*/>|<({BLOCKS})\b[^<>]*>.*?</\1\s*>", re.S | re.I
)
TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
BREAK = re.compile(r"<(?:br|hr)\b[^<>]*>", re.I)

INNERMOST_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
# Not the bar of a link, [[page|text]].
FIELD = re.compile(r"\|(?![^\[\]]*\]\])")
NAMED_FIELD = re.compile(r"\s*(?!1\b|text\b)[\w -]*=")
FIELD_NAME = re.compile(r"\s*(?:1|text)\s*=")

# The templates that stand for words within a sentence or for a quotation, by what they show. All
# others go, as they mostly are boxes, notes and citations.
TEMPLATES: dict[str, Callable[[list[str]], str]] = {
    **dict.fromkeys(("nowrap", "nobr", "abbr", "nihongo", "ill"), lambda fields: fields[0]),
    **dict.fromkeys(("lang", "langx"), lambda fields: "".join(fields[1:2])),
    **dict.fromkeys(("transl", "transliteration"), lambda fields: fields[-1]),
    **dict.fromkeys(("quote", "blockquote", "cquote"), lambda fields: f"\n\n{fields[0]}\n\n"),
    **dict.fromkeys(("convert", "cvt"), lambda fields: _quantity(*fields)),
    **dict.fromkeys(("circa", "c."), lambda fields: f"c. {fields[0]}"),
    **dict.fromkeys(("snd", "spnd", "spaced ndash", "ndash"), lambda fields: " – "),
    "as of": lambda fields: f"As of {fields[0]}",
    "mdash": lambda fields: "—",
    "nbsp": lambda fields: " ",
    "'": lambda fields: "'",
}
# {{convert|3|to|5|km|mi}} shows "3 to 5 km", and more that is left out.
RANGES = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × "}
UNITS = {"C": "°C", "F": "°F", "sqmi": "sq mi", "sqft": "sq ft", "km2": "km²", "m2": "m²"}

# Innermost tables first, so that tables inside tables go too.
TABLE = re.compile(r"^[ :]*\{\|(?:(?!^[ :]*\{\|).)*?^\s*\|\}", re.S | re.M)

# Sections of links and citations, with the deeper ones in them.
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
    # What a removed template (a pronunciation, a foreign word) leaves behind.
    (re.compile(r"\([ ,;]+"), "("),
    (re.compile(r"[ ,;]+\)"), ")"),
    (re.compile(r" ?\(\)"), ""),
    (re.compile(r",(?: ,)+"), ","),
    (re.compile(r" (?=[,;]|\.(?:\s|\Z))"), ""),
    (re.compile(r"^ | $", re.M), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]


def prose(source: str, hidden_links: Collection[str] = HIDDEN_LINKS) -> str:
    """The text of an article's wiki source: paragraphs and headings, case and punctuation kept.

    Links into the namespaces `hidden_links` (lower case) go, captions included.
    """
    import mwparserfromhell  # a third of a second that only who parses has to spend

    source = CUT.sub("", source)
    source = _until_unchanged(INNERMOST_TEMPLATE, _shown, source)
    source = _until_unchanged(TABLE, "", source)
    source = APPARATUS.sub("", source)
    # Without tags left, as some nests of unclosed ones take the parser hours and all memory. So
    # would unbalanced quotes mislead it; these are easily removed from the text.
    source = TAG.sub("", BREAK.sub("\n", source)).replace("<", "&lt;")
    try:
        tree = mwparserfromhell.parse(source, skip_style_tags=True)
    except mwparserfromhell.parser.ParserError:  # known of no page, but the parser reserves it
        return ""
    text = html.unescape("".join(_visible(tree, hidden_links)))
    text = _until_unchanged(EMPTY_SECTION, "", text)
    for pattern, replacement in TIDY:
        text = pattern.sub(replacement, text)
    return text.strip()


def _until_unchanged(
    pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str], text: str
) -> str:
    found = 1
    while found:
        text, found = pattern.subn(replacement, text)
    return text


def _shown(template: re.Match[str]) -> str:
    """What a template without templates in it shows of its fields."""
    name, *fields = FIELD.split(template[1])
    name = name.strip().lower().replace("_", " ")
    show = TEMPLATES.get("nowrap" if name.startswith("lang-") else name)
    if show is None:
        return ""
    fields = [FIELD_NAME.sub("", field).strip() for field in fields if not NAMED_FIELD.match(field)]
    return show(fields or [""])


def _quantity(value: str, *rest: str) -> str:
    while len(rest) > 1 and rest[0] in RANGES:
        value += RANGES[rest[0]] + rest[1]
        rest = rest[2:]
    return f"{value} {UNITS.get(rest[0], rest[0])}" if rest else value


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
            # Two bars only make sense in pictures, whose namespace goes by further names.
            if namespace.strip().lower() in hidden_links or (colon and "|" in str(node.text)):
                continue
            if node.text is not None:
                yield from _visible(node.text, hidden_links)
            elif not INTERLANGUAGE.match(title):
                yield title.removeprefix(":")
        elif isinstance(node, nodes.ExternalLink) and node.title is not None:
            yield from _visible(node.title, hidden_links)
