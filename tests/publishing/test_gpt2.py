import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from raygpt.data.dataset import Dataset
from raygpt.data.tokenizer import END_OF_DOCUMENT, gpt2_tokenizer
from raygpt.errors import UserError
from raygpt.publishing.gpt2 import to_transformers, tokenizer_to_transformers
from raygpt.recipe.sections import Model
from raygpt.results.tables import load_results
from raygpt.training.checkpoint import load_model
from raygpt.training.model import GPT

CONTEXT = 16
TEXTS = [
    "The quick brown fox, it's 1984.",
    " Straße\n\n  Ελλάδα 日本語\t🦜 naïve “quoted” ",
    "a  b   c\r\n\x00\u200b\ufffd e\u0301",
]


@pytest.fixture(scope="module")
def trained(trained_run):
    return load_model(trained_run / "checkpoint")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Model and tokenizer, loaded by transformers."""
    folder = tmp_path_factory.mktemp("exported")
    trained.tokenizer.save(folder)
    tokenizer_to_transformers(folder, CONTEXT).save_pretrained(folder)
    to_transformers(trained.model, trained.recipe.model, trained.tokenizer).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_the_logits_are_raygpts_own(trained, exported):
    model, _ = exported
    assert isinstance(model, GPT2LMHeadModel)
    assert not model.training
    tokens = torch.randint(300, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = model(tokens).logits
        ours = trained.model(tokens)
    assert theirs.dtype == torch.float32
    assert theirs.shape == (3, CONTEXT, 300)
    assert ours.shape == (3, CONTEXT, 320)
    assert ours[..., :300].std() > 0.5
    torch.testing.assert_close(theirs, ours[..., :300], rtol=1e-5, atol=1e-5)


def test_every_parameter_changes_the_logits(trained):
    """Biases and gains too, which training has hardly changed here."""
    shape = Model(d_model=24, n_layers=3, n_heads=4, dropout=0.1)
    torch.manual_seed(0)
    gpt = GPT(shape, 300, CONTEXT).eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    tokens = torch.randint(300, (2, CONTEXT))
    with torch.no_grad():
        theirs = to_transformers(gpt, shape, trained.tokenizer)(tokens).logits
        ours = gpt(tokens)[..., :300]
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-4)


def test_a_model_with_other_parameters_is_refused(trained):
    shape = trained.recipe.model
    unbiased = GPT(shape, 300, CONTEXT).eval()
    unbiased.final_norm.bias = None
    with pytest.raises(UserError, match=r"GPT cannot be exported, .* no final_norm\.bias$"):
        to_transformers(unbiased, shape, trained.tokenizer)
    richer = GPT(shape, 300, CONTEXT).eval()
    richer.gate = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(UserError, match=r"only raygpt's own GPT can: .* no gate$"):
        to_transformers(richer, shape, trained.tokenizer)


def test_a_model_with_other_logits_is_refused(trained):
    """It has the same parameters but other logits than GPT-2."""

    class Doubled(GPT):
        def forward(self, tokens_BT):
            return 2 * super().forward(tokens_BT)

    model = Doubled(trained.recipe.model, 300, CONTEXT).eval()
    model.load_state_dict(trained.model.state_dict())
    with pytest.raises(UserError, match=r"Doubled cannot be exported, .* gives other logits"):
        to_transformers(model, trained.recipe.model, trained.tokenizer)


def test_the_configuration(exported):
    model, tokenizer = exported
    config = model.config
    assert (config.vocab_size, config.n_positions, config.n_embd) == (300, CONTEXT, 16)
    assert (config.n_layer, config.n_head) == (2, 2)
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.1, 0.1, 0.1)
    assert config.bos_token_id == config.eos_token_id == tokenizer.eos_token_id == 299
    assert tokenizer.model_max_length == CONTEXT
    assert model.lm_head.weight is model.transformer.wte.weight


def test_the_tokenizer_gives_the_same_ids_and_the_text_back(trained, exported, documents_of_run):
    _, tokenizer = exported
    for text in [*TEXTS, *documents_of_run]:
        ids = tokenizer(text)["input_ids"]
        assert ids == trained.tokenizer.encode(text).tolist()
        assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 300
    assert tokenizer(END_OF_DOCUMENT)["input_ids"] == [299]


def test_gpt2s_own_tokenizer_gives_the_same_ids(tmp_path):
    ours = gpt2_tokenizer()
    ours.save(tmp_path)
    tokenizer_to_transformers(tmp_path, 1024).save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == 50257
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text).tolist()


def test_generate_continues_a_text(exported):
    model, tokenizer = exported
    inputs = tokenizer(f"{END_OF_DOCUMENT}The", return_tensors="pt")
    ids = model.generate(**inputs, do_sample=False, max_length=CONTEXT, pad_token_id=299)
    start = inputs["input_ids"].shape[1]
    assert start < ids.shape[1] <= CONTEXT
    for place in range(start, ids.shape[1]):
        with torch.no_grad():
            assert model(ids[:, :place]).logits[0, -1].argmax() == ids[0, place]


@pytest.fixture(scope="module")
def documents_of_run(trained_run):
    """The validation texts, in their order."""
    (folder,) = (trained_run.parent / "cache").glob("*/manifest.json")
    dataset = Dataset.open(folder.parent)
    texts = [dataset.tokenizer.decode(ids) for ids in dataset.documents("validation")]
    lines = (trained_run.parent / "texts.jsonl").read_text().splitlines()
    assert set(texts) < {json.loads(line)["text"] for line in lines}
    return texts


def test_bits_per_byte_by_transformers_alone_are_those_of_the_run(
    exported, documents_of_run, trained_run
):
    model, tokenizer = exported
    end = tokenizer.eos_token_id
    stream = [id_ for text in documents_of_run for id_ in [*tokenizer(text)["input_ids"], end]]
    nats = n_bytes = 0
    for begin in range(0, 600 // CONTEXT * CONTEXT, CONTEXT):
        window = stream[begin : begin + CONTEXT + 1]
        with torch.no_grad():
            logs = model(torch.tensor([window[:-1]])).logits[0].double().log_softmax(-1)
        for place, target in enumerate(window[1:]):
            if target != end:
                nats -= logs[place, target].item()
                # A character of a token's name is a byte.
                n_bytes += len(tokenizer.convert_ids_to_tokens(target))
    run = load_results(trained_run).best
    assert nats / n_bytes / math.log(2) == pytest.approx(run["bits_per_byte"], rel=1e-5)
    assert run["bits_per_token"] < 0.8 * math.log2(300), "the model should have learnt something"
