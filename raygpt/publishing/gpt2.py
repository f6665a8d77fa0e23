"""A trained model as transformers' GPT-2, parameter for parameter."""

from pathlib import Path

import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, PreTrainedTokenizerBase

from raygpt.data.tokenizer import END_OF_DOCUMENT, MERGES_FILE, VOCABULARY_FILE, Tokenizer
from raygpt.errors import UserError
from raygpt.recipe.sections import Model as ModelRecipe
from raygpt.training.model import LAYER_NORM_EPSILON

THEIR_NAMES = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.projection": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.expansion": "mlp.c_fc",
    "mlp.projection": "mlp.c_proj",
}
"""transformers' names of a block's layers."""

TOLERANCE = 1e-3
"""Largest difference of a logit, relative to the logits' spread, that rounding explains."""


def to_transformers(model: nn.Module, recipe: ModelRecipe, tokenizer: Tokenizer) -> GPT2LMHeadModel:
    """The same model in transformers, in float32; without the rows that pad the vocabulary.

    Args:
        model: the trained model, on the CPU, in evaluation mode.
        recipe: the section `model` of its recipe.
        tokenizer: the model's.

    Raises:
        UserError: the model is not GPT-2's architecture: it has other parameters, or other logits
            with the same ones.
    """
    weights = _weights(model, recipe.n_layers, tokenizer.vocab_size)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=model.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        activation_function="gelu_new",
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=recipe.dropout,
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        bos_token_id=tokenizer.end_of_document,
        eos_token_id=tokenizer.end_of_document,
    )
    gpt2 = GPT2LMHeadModel(config).to(torch.float32)
    gpt2.load_state_dict(weights)
    gpt2.eval()
    _compare(model, gpt2)
    return gpt2


def _weights(model: nn.Module, n_layers: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """The model's parameters by transformers' names; UserError if GPT-2 has others."""
    names = {
        "token_embedding.weight": "transformer.wte.weight",
        "position_embedding.weight": "transformer.wpe.weight",
        "final_norm.weight": "transformer.ln_f.weight",
        "final_norm.bias": "transformer.ln_f.bias",
    }
    for layer in range(n_layers):
        for our_name, their_name in THEIR_NAMES.items():
            for kind in ("weight", "bias"):
                name = f"transformer.h.{layer}.{their_name}.{kind}"
                names[f"blocks.{layer}.{our_name}.{kind}"] = name
    ours = model.state_dict()
    if differing := sorted(names.keys() ^ ours.keys()):
        raise _not_gpt2(model, f"one of the two has no {differing[0]}")
    # transformers' Conv1D holds its matrices transposed.
    theirs = {
        name: ours[our_name].t() if our_name.startswith("blocks.") else ours[our_name]
        for our_name, name in names.items()
    }
    embedding = theirs["transformer.wte.weight"][:vocab_size]
    return theirs | {"transformer.wte.weight": embedding, "lm_head.weight": embedding}


@torch.no_grad()
def _compare(model: nn.Module, gpt2: GPT2LMHeadModel) -> None:
    """Raise UserError unless both give a sequence of tokens the same logits."""
    vocab_size = gpt2.config.vocab_size
    tokens_BT = torch.arange(min(32, model.context))[None] * 7919 % vocab_size
    ours_BTV, theirs_BTV = model.logits(tokens_BT)[..., :vocab_size], gpt2(tokens_BT).logits
    difference = (ours_BTV - theirs_BTV).abs().max() / theirs_BTV.std()
    # Written so that a NaN is refused as well.
    if not difference <= TOLERANCE:
        raise _not_gpt2(model, "GPT-2 with its parameters gives other logits")


def _not_gpt2(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f"the model {type(model).__name__} cannot be exported, only raygpt's own GPT can: "
        f"transformers would load it as GPT-2, and {reason}"
    )


def tokenizer_to_transformers(folder: Path, context: int) -> PreTrainedTokenizerBase:
    """The tokenizer whose two files are in a folder, as transformers' GPT-2 tokenizer.

    Unlike raygpt's it reads "<|endoftext|>" in a text as the end of a document.

    Args:
        folder: has vocab.json and merges.txt.
        context: the longest sequence that the model takes, in tokens.
    """
    files = (str(folder / name) for name in (VOCABULARY_FILE, MERGES_FILE))
    fast = FastTokenizer(models.BPE.from_file(*files))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.ByteLevel(trim_offsets=False)
    fast.add_special_tokens([AddedToken(END_OF_DOCUMENT, normalized=False)])
    return GPT2TokenizerFast(
        tokenizer_object=fast,
        unk_token=END_OF_DOCUMENT,
        bos_token=END_OF_DOCUMENT,
        eos_token=END_OF_DOCUMENT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
