"""Opening a corpus by its name.

A corpus of files, `KIND:PATH`, is read by the function `KIND_corpus` of the module `KIND` in this
folder. To add a kind, add its module, and its name to `raygpt.recipe.corpora.FILE_KINDS`.
"""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

from raygpt.data.corpora.parts import Corpus
from raygpt.errors import UserError
from raygpt.recipe.corpora import parse_corpus

SAMPLE_DUMP = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
WIKIPEDIA = "wikimedia/wikipedia"
SNAPSHOT = "20231101.en"
COMMIT = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"


def open_corpus(name: str, text_column: str = "text") -> Corpus:
    """The corpus called `name`; its documents are neither read nor downloaded yet.

    Args:
        name: the corpus's name, as in a recipe.
        text_column: column or key of the text, in hub: and jsonl: corpora.

    Raises:
        UserError: it has no files, or the Hub does not return its revision.
    """
    parsed = parse_corpus(name)
    assert parsed, name  # a recipe has no other names
    if parsed.kind == "sample":
        return _sample()
    if parsed.path:
        module = importlib.import_module(f"raygpt.data.corpora.{parsed.kind}")
        return getattr(module, f"{parsed.kind}_corpus")(name, parsed.path, text_column)
    from raygpt.data.corpora.hub import hub_corpus

    if parsed.kind == "wikipedia":
        config, commit = parsed.config or SNAPSHOT, parsed.revision or COMMIT
        return hub_corpus(name, WIKIPEDIA, config, commit, "text")
    return hub_corpus(name, parsed.dataset, parsed.config, parsed.revision, text_column)


def _sample() -> Corpus:
    from raygpt.data.corpora.dump import dump_corpus

    # Importing gensim would take seconds.
    package = importlib.util.find_spec("gensim")
    dump = Path(package.origin).parent / SAMPLE_DUMP if package and package.origin else None
    if dump is None or not dump.is_file():
        raise UserError(
            "The corpus sample is read from a file of the package gensim, which is not installed: "
            "pip install 'gensim>=4.4'."
        )
    corpus = dump_corpus("sample", str(dump))
    version = importlib.metadata.version("gensim")
    return replace(
        corpus, revision=f"gensim {version}, {corpus.revision}", licence=lambda: "CC BY-SA 3.0"
    )
