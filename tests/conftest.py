import json
import random
import signal

import pytest

from raygpt import train
from raygpt.training.probe import Pace

WORDS = """
the of and a in to is was it for with as his on be at by had not but from have they which
Straße Äpfel œuvre naïve Ελλάδα Москва 東京 日本語 한국어 हिन्दी 🦜 🧪 – “quoted” 1984 3.14
"""
RECIPE = """\
data: {{corpus: "jsonl:{}", min_document_bytes: 0, tokenizer: bpe-300, context: 16,
  validation_fraction: 0.2, validation_tokens: 600}}
model: {{d_model: 16, n_layers: 2, n_heads: 2, dropout: 0.1}}
training: {{tokens: 5760, batch_tokens: 96, learning_rate: 2e-2, micro_batch: 6, precision: fp32}}
search: {{rungs: [1/2, 1]}}
"""


# A shell makes its background processes ignore SIGINT, which the commands would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Order whole searches first, because their files take longest."""
    items.sort(key=lambda item: item.path.parent.name != "tune")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The folder of a finished run of `raygpt.train` of 60 steps, beside its texts.jsonl and cache.
    Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("trained")
    draw, words = random.Random(0), WORDS.split()
    texts = ["The " + " ".join(draw.choices(words, k=draw.randint(5, 30))) for _ in range(120)]
    corpus = folder / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "tiny.yaml").write_text(RECIPE.format(corpus))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGPT_CACHE", str(folder / "cache"))
        pace = Pace(tokens_per_second=1000.0, evaluation_seconds=1.0)
        patch.setattr("raygpt.training.probe.measure_pace", lambda *_: pace)
        assert train.main([str(folder / "tiny.yaml"), "--runs-dir", str(folder)]) == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return folder / "tiny"
