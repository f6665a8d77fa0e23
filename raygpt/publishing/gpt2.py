"""A trained model as transformers' GPT-2, parameter for parameter."""

from pathlib import Path

import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, PreTrainedTokenizerBase

from raygpt.data.tokenizer import END_OF_DOCUMENT, MERGES_FILE, VOCABULARY_FILE, Tokenizer
from raygpt.recipe.sections import Model as ModelRecipe
from raygpt.training.model import GPT, LAYER_NORM_EPSILON

THEIR_NAMES = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.projection": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.expansion": "mlp.c_fc",
    "mlp.projection": "mlp.c_proj",
}
"""Of a block's layers."""


def to_transformers(gpt: GPT, recipe: ModelRecipe, tokenizer: Tokenizer) -> GPT2LMHeadModel:
    """The same model in transformers, in float32; without the rows that pad the vocabulary.

    Args:
        gpt: raygpt's own.
        recipe: of the model.
        tokenizer: the model's.
    """
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=gpt.position_embedding.num_embeddings,
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
    ours = gpt.state_dict()
    embedding = ours["token_embedding.weight"][: tokenizer.vocab_size]
    theirs = {
        "transformer.wte.weight": embedding,
        "lm_head.weight": embedding,
        "transformer.wpe.weight": ours["position_embedding.weight"],
        "transformer.ln_f.weight": ours["final_norm.weight"],
        "transformer.ln_f.bias": ours["final_norm.bias"],
    }
    for layer in range(recipe.n_layers):
        for our_name, their_name in THEIR_NAMES.items():
            for kind in ("weight", "bias"):
                value = ours[f"blocks.{layer}.{our_name}.{kind}"]
                # transformers' Conv1D holds its matrices the other way round.
                theirs[f"transformer.h.{layer}.{their_name}.{kind}"] = value.t()
    model = GPT2LMHeadModel(config).to(torch.float32)
    model.load_state_dict(theirs)
    return model.eval()


def tokenizer_to_transformers(folder: Path, context: int) -> PreTrainedTokenizerBase:
    """The tokenizer whose two files lie in a folder, as transformers has GPT-2's.

    Other than raygpt's it reads "<|endoftext|>" in a text as the end of a document.

    Args:
        folder: with vocab.json and merges.txt.
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
