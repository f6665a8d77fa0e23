"""`raygpt COMMAND …`, or `python -m raygpt COMMAND …`: the commands of raygpt by name."""

import ast
import importlib
import sys
from pathlib import Path

import raygpt
from raygpt.command import called_as, command_summary, run_command
from raygpt.errors import UserError
from raygpt.shipped import describe_shipped, shipped_recipes
from raygpt.wording import shell_quoted

COMMANDS = ("tune", "train", "prepare", "leaderboard", "report", "export", "sample")


def main() -> None:
    """Run the command that the first argument names, and exit."""
    run_command(lambda: dispatch(sys.argv[1:]))


def dispatch(arguments: list[str]) -> int | None:
    """Run the command that the first argument names, and return its exit code."""
    command, *others = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        print(overview())
        return 0
    if command == "--version":
        print(f"raygpt {raygpt.__version__}")
        return 0
    if command not in COMMANDS:
        raise UserError(f'there is no command "{command}"; {hint(command)}')
    return importlib.import_module(f"raygpt.{command}").main(others)


def hint(command: str) -> str:
    """A hint for a word that is not a command."""
    if command in shipped_recipes() or command.endswith((".yaml", ".yml")):
        return f"to search a recipe's ranges: {called_as('tune')} {shell_quoted(command)}"
    from raygpt.recipe.errors import allowed

    return allowed(command, COMMANDS)


def overview() -> str:
    """The commands and the recipes that come with raygpt, a line each."""
    commands = "\n".join(f"  {name:<13}{summary(name)}" for name in COMMANDS)
    return (
        f"{raygpt.__doc__}\n\n"
        f"usage: {called_as('COMMAND')} …\n\n"
        f"commands (--help after one of them shows its arguments):\n{commands}\n\n"
        f"recipes that come with raygpt:\n{describe_shipped()}"
    )


def summary(command: str) -> str:
    """The first sentence of a command's docstring, read without importing the command."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return command_summary(ast.get_docstring(ast.parse(source))).rstrip(".")


if __name__ == "__main__":
    main()
