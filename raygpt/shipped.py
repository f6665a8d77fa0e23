"""The recipes that come with raygpt, found by name from any folder."""

from pathlib import Path

from raygpt.errors import UserError

PACKAGE = Path(__file__).parent


def shipped_recipes() -> dict[str, Path]:
    """The files of the recipes that come with raygpt, by name."""
    # An installation has them inside the package, a checkout beside it.
    folders = (PACKAGE / "search_spaces", PACKAGE.parent / "search_spaces")
    folder = next(filter(Path.is_dir, folders), PACKAGE)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def describe_shipped() -> str:
    """A line for each recipe that comes with raygpt: its name and the question that it answers."""
    recipes = shipped_recipes()
    width = max(map(len, recipes), default=0)
    return "\n".join(f"  {name:<{width}}  {question(path)}" for name, path in recipes.items())


def question(path: Path) -> str:
    """The first line of a recipe's file if it is a comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def find_recipe(given: Path) -> Path:
    """The file that a command's FILE argument means.

    Args:
        given: a path, or the name of a recipe that comes with raygpt. A file of that name in the
            working directory comes first.

    Raises:
        UserError: it is a bare name that is neither a file nor a recipe, or a broken link.
    """
    shipped = shipped_recipes()
    name = str(given)
    if name in shipped:
        return given if given.is_file() else shipped[name]
    try:
        given.stat()
    except FileNotFoundError:
        if given.is_symlink():
            target = given.readlink()
            raise UserError(f"{given}: is a link to {target}, which does not exist") from None
        if given.name == name:
            raise _unknown(name, shipped) from None
    except OSError:
        pass  # reading the file says what is wrong with it
    return given


def _unknown(name: str, shipped: dict[str, Path]) -> UserError:
    from raygpt.recipe.errors import closest

    known = {path.stem: path.name for path in Path().glob("*.yaml")}
    known |= {recipe: recipe for recipe in shipped}
    nearest = closest(Path(name).stem, known)
    meant = f'; did you mean "{known[nearest]}"?' if nearest else "."
    return UserError(
        f"{name}: there is no such file here, and no recipe of that name comes with raygpt{meant} "
        f"These come with raygpt:\n{describe_shipped()}"
    )
