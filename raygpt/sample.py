"""`python -m raygpt.sample CHECKPOINT TEXT`: have a model continue a text."""

import argparse
import codecs
from pathlib import Path

from raygpt.command import command_parser, run_command
from raygpt.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Print the text and its continuation while it is drawn."""
    options = parse_arguments(arguments)

    from raygpt.results.checkpoints import find_checkpoint

    found = find_checkpoint(options.checkpoint)

    from raygpt.training.checkpoint import load_model
    from raygpt.training.generation import generate
    from raygpt.training.hardware import default_device

    trained = load_model(found.folder)
    tokenizer = trained.tokenizer
    # In training every document followed the end of another one.
    prompt = [tokenizer.end_of_document, *tokenizer.encode(options.text).tolist()]
    print(options.text, end="", flush=True)
    # A character may be spread over several tokens.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in generate(
        trained.model.to(default_device()),
        prompt,
        options.tokens,
        tokenizer.end_of_document,
        options.temperature,
        options.top_k,
        options.seed,
    ):
        print(decoder.decode(tokenizer.decode_bytes([token])), end="", flush=True)
    print(decoder.decode(b"", final=True))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("sample", __doc__)
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="folder of a checkpoint; or of a run, whose best model is used",
    )
    parser.add_argument(
        "text", metavar="TEXT", help='the beginning of a document; "" for a whole document'
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=100,
        metavar="N",
        help="most tokens to draw (default: 100); the end of the document ends the text earlier",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 probable tokens are drawn more often, at 0 always the most probable "
        "(default: 1)",
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="draw among the K most probable tokens only"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw (default: 0)"
    )
    options = parser.parse_args(arguments)
    if options.tokens < 1:
        parser.error(f"--tokens {options.tokens}: must be at least 1")
    if not 0 <= options.temperature < float("inf"):
        parser.error(f"--temperature {options.temperature}: must be a number, at least 0")
    if options.top_k is not None and options.top_k < 1:
        parser.error(f"--top-k {options.top_k}: must be at least 1")
    if not 0 <= options.seed < 2**63:
        parser.error(f"--seed {options.seed}: must be from 0 to 2^63 - 1")
    try:
        options.text.encode()
    except UnicodeEncodeError:
        raise UserError("TEXT: is not UTF-8; write it in a terminal that uses UTF-8") from None
    return options


if __name__ == "__main__":
    run_command(main)
