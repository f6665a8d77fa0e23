"""Which templates leave a gap in a sentence of a dump: `python -m benchmarks.vanished_templates`

Counts the templates of which `raygpt.data.corpora.wikitext.prose` shows nothing although there is
text before and after them on their line, by kind and by name. With `--cleaning 1` it counts with
the templates that the first version of the cleaning had.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator

from raygpt.command import run_command
from raygpt.data.corpora import templates
from raygpt.data.corpora.corpus import open_corpus
from raygpt.data.corpora.dump import article_sources
from raygpt.data.corpora.literal import protect, restore
from raygpt.data.corpora.wikitext import prose

CLEANING_1 = re.compile(
    r"nowrap|nobr|abbr|nihongo|ill|langx?|transl|transliteration|(block|c)?quote|convert|cvt|circa"
    r"|c\.|snd|spnd|(spaced )?ndash|mdash|nbsp|as of|'"
)

KINDS = {
    # A sentence is whole without these: citations, remarks of editors, and numbers of books.
    "notes": r"(sfn|harv|[en]fn|refn?\b|cite (?!quran)|citation|clarify|dubious|unreliable"
    r"|refimprove|better source).*|.*( needed|verification| inline| evidence|-fn)|#tag|rp|cn|when"
    r"|who|which|where|why|how|by whom|full|vague|update after|sic|oclc|isbn|doi|issn|anchor|-",
    "pronunciations": r"ipac?-.*|respell|audio.*|pron.*|listen",
}
MARK, MARK_END = "\ufdee", "\ufdef"  # noncharacters, which no text contains
MARKED = re.compile(f"{MARK}([^{MARK}{MARK_END}]*){MARK_END}")


def gaps_in(source: str, hidden_links: frozenset[str]) -> Iterator[str]:
    """The name of each template of an article that leaves a gap in a sentence."""
    text = prose(source, hidden_links, lambda name: f"{MARK}{protect(name)}{MARK_END}")
    for line in text.split("\n"):
        for marked in MARKED.finditer(line):
            around = (line[: marked.start()], line[marked.end() :])
            if all(MARKED.sub("", side).strip() for side in around):
                yield restore(marked[1]).partition(":")[0]


def kind_of(name: str) -> str:
    """The kind of a template: one of KINDS, or "words"."""
    return next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), "words")


def main(arguments: list[str] | None = None) -> None:
    """Count, and print a line for each kind."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vanished_templates", description=__doc__.splitlines()[0]
    )
    parser.add_argument("corpus", nargs="?", default="sample", help="sample or dump:PATH")
    parser.add_argument("--cleaning", type=int, choices=(1, 2), default=2)
    options = parser.parse_args(arguments)
    if options.cleaning == 1:
        templates.TEMPLATES = {
            name: show for name, show in templates.TEMPLATES.items() if CLEANING_1.fullmatch(name)
        }
        templates.PREFIXES = ("lang-",)
        templates.FUNCTIONS = {}
    counts = {kind: Counter() for kind in (*KINDS, "words")}
    for part in open_corpus(options.corpus).parts():
        blob, file, hidden_links, compressed = part.args
        for source in article_sources(blob, file, compressed):
            for name in gaps_in(source, hidden_links):
                counts[kind_of(name)][name] += 1
    for kind, names in counts.items():
        print(f"{names.total():,} {kind}: {', '.join(f'{n} {c}' for n, c in names.most_common())}")


if __name__ == "__main__":
    run_command(main)
