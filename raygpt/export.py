"""`python -m raygpt.export RUN --out DIR`: write the best model of a run for transformers."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.command import command_parser, run_command
from raygpt.errors import UserError

if TYPE_CHECKING:
    from raygpt.results.checkpoints import FoundCheckpoint

CARD = "README.md"


def main(arguments: list[str] | None = None) -> None:
    """Export, and print what was written."""
    parser = command_parser("export", __doc__)
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="run folder, such as runs/lr_sched, whose best model is used; or a checkpoint",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder for the model"
    )
    options = parser.parse_args(arguments)
    refuse_filled(options.out)

    from raygpt.results.checkpoints import find_checkpoint

    found = find_checkpoint(options.run)
    if found.folder != options.run:
        refuse_unfinished(options.run, found)
    export(found, options.out)
    print(describe(found, options.out))


def refuse_filled(out: Path) -> None:
    """Raise UserError unless a folder is empty or does not exist."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out}: exists and is not overwritten; name a folder that does not exist yet"
        )


def refuse_unfinished(run: Path, found: "FoundCheckpoint") -> None:
    """Raise UserError if the best trial of a run has not been trained to the end of its budget."""
    assert found.trial is not None
    if found.trial["status"] != "completed":
        raise UserError(
            f"{run}: its best trial, {found.trial['trial_id']}, is {found.trial['status']}, before "
            f"the end of its budget. Resume the run (--resume), or export the checkpoint that it "
            f"has: python -m raygpt.export {found.folder} --out DIR"
        )


def export(found: "FoundCheckpoint", out: Path) -> None:
    """Write model, tokenizer and card into a folder.

    Raises:
        UserError: there is no readable checkpoint, its model is not GPT-2's architecture, or the
            folder cannot be written.
    """
    from transformers.utils import CONFIG_NAME, logging

    from raygpt.publishing.gpt2 import to_transformers, tokenizer_to_transformers
    from raygpt.publishing.model_card import model_card
    from raygpt.training.checkpoint import load_model

    logging.disable_progress_bar()
    trained = load_model(found.folder)
    model = to_transformers(trained.model, trained.recipe.model, trained.tokenizer)
    card = model_card(out.resolve().name, trained, found)
    try:
        trained.tokenizer.save(out)
        tokenizer_to_transformers(out, trained.recipe.data.context).save_pretrained(out)
        model.save_pretrained(out)
        for weights in out.glob("*.safetensors"):  # written so that only the owner may read it
            shutil.copymode(out / CONFIG_NAME, weights)
        (out / CARD).write_text(card)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error})") from error


def describe(found: "FoundCheckpoint", out: Path) -> str:
    """What was written, and how to load it."""
    what = f"{found.folder}"
    if found.trial:
        what += f" (trial {found.trial['trial_id']}"
        if found.trial["status"] == "completed":
            what += (
                f", {found.trial['bits_per_byte']:.4f} bits per byte at "
                f"{found.trial['tokens']:,} tokens"
            )
        what += ")"
    files = sorted((file.stat().st_size, file.name) for file in out.iterdir())
    return "\n".join(
        [
            f"Exported {what} to {out}:",
            *(f"  {name:<24}{size:>14,} bytes" for size, name in reversed(files)),
            f'Load it with transformers\' AutoModelForCausalLM.from_pretrained("{out}") and '
            f"AutoTokenizer; {out / CARD} describes it.",
        ]
    )


if __name__ == "__main__":
    run_command(main)
