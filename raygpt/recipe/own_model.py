"""A model of the user's own, named in a recipe as `model.module: my_model.py:MyGPT`.

The file's text identifies the model, so a run continues with the text that it began with: a run
folder keeps a copy, checkpoints contain it, and trials on other machines get it from the driver.
docs/own_model.md says what the class must do.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from raygpt.recipe.errors import RecipeError, allowed
from raygpt.recipe.sections import Model

if TYPE_CHECKING:
    from torch import nn

COPY = "model.module.py"
"""A copy of the file beside a recipe, in a run folder, which is used in place of the original."""


@dataclass(frozen=True)
class OwnModel:
    """A model class, defined by its file's text; unpickling it does not need the file."""

    module: str
    """FILE.py:CLASS, as a recipe has it."""
    source: str
    """The text of the file."""

    @classmethod
    def read(cls, module: str, copy: Path | None = None) -> OwnModel:
        """The model of a recipe, with the text that its file has now.

        Args:
            module: FILE.py:CLASS, with an absolute path.
            copy: a file to read instead.

        Raises:
            RecipeError: there is no such file, or it is not a text.
        """
        path = copy or Path(file_of(module))
        try:
            return cls(module, path.read_bytes().decode())
        except FileNotFoundError:
            raise RecipeError(f"there is no file {path}") from None
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not a text in UTF-8 (byte {error.start})") from None
        except OSError as error:
            raise RecipeError(f"{path} cannot be read: {error.strerror}") from None

    @property
    def path(self) -> str:
        return file_of(self.module)

    @property
    def class_name(self) -> str:
        return self.module.rpartition(":")[2]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def model_class(self) -> type[nn.Module]:
        """The class itself. Raises RecipeError if the file has an error or does not fit."""
        return _load(self)[0]

    @property
    def settings(self) -> type[Model]:
        """The section `model` of its recipes. Raises RecipeError as `model_class` does."""
        return _load(self)[1]


def file_of(module: str) -> str:
    """The file that FILE.py:CLASS names."""
    return module.rpartition(":")[0]


def own_settings(given: Any) -> Any:
    """The section `model` of a recipe; if it names an own model, read as that model's section."""
    if not isinstance(given, dict) or given.get("module") is None:
        return given
    module = Model(module=given["module"]).module
    return OwnModel.read(module).settings(**given)


def module_digest(model: Model) -> str | None:
    """Class and digest of the user's own model, which identify it; None for raygpt's GPT."""
    return model.own and f"{model.own.class_name}@{model.own.digest}"


def known_model(module: str, digest: str) -> OwnModel | None:
    """The model of that name and file digest, if this process has used it before."""
    return _known.get((module, digest))


def describe_error(error: BaseException, own: OwnModel) -> str:
    """An error of the user's code in one line, with the line of the file that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == own.path]
    line = f", line {lines[-1]}" if lines else ""
    message = " ".join(str(error).split())
    return f"{own.path}{line} raised {type(error).__name__}: {message}".rstrip(": ")


_known: dict[tuple[str, str], OwnModel] = {}


@cache
def _load(own: OwnModel) -> tuple[type[nn.Module], type[Model]]:
    module = _run(own)
    try:
        model_class = _class_in(module, own)
        section = _section(model_class, own)
    except RecipeError:
        del sys.modules[module.__name__]
        raise
    _known[own.module, own.digest] = own
    return model_class, section


def _run(own: OwnModel) -> ModuleType:
    """Run the file, as a module."""
    # torch.compile, dataclasses and pydantic look a class's module up by its name, so it is
    # registered, under a name that no other module has.
    identity = hashlib.sha256(f"{own.module} {own.digest}".encode()).hexdigest()
    module = ModuleType(f"raygpt_model_{identity[:16]}")
    module.__file__ = own.path
    code = _compiled(own)
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, (Exception, SystemExit)):
            raise RecipeError(describe_error(error, own)) from None
        raise
    return module


def _compiled(own: OwnModel) -> CodeType:
    try:
        return compile(own.source, own.path, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise RecipeError(f"{own.path}{line} is not Python: {error.msg}") from None
    except ValueError as error:
        raise RecipeError(f"{own.path} is not Python: {error}") from None


def _class_in(module: ModuleType, own: OwnModel) -> type[nn.Module]:
    from torch import nn

    def is_model(value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, nn.Module)

    found = getattr(module, own.class_name, None)
    if is_model(found):
        return found
    models = [name for name, value in vars(module).items() if is_model(value)]
    hint = allowed(own.class_name, models) if models else "it has no torch.nn.Module at all"
    if found is None:
        raise RecipeError(f"{own.path} has no class {own.class_name}", hint)
    raise RecipeError(f"{own.class_name} of {own.path} is not a torch.nn.Module", hint)


def _section(model_class: type[nn.Module], own: OwnModel) -> type[Model]:
    """The section `model` of the recipes of a class, made of the keys that it declares."""
    declared = getattr(model_class, "Settings", Model)
    place = f"{own.class_name}.Settings of {own.path}"
    if not (isinstance(declared, type) and issubclass(declared, Model)):
        raise RecipeError(f"{place} is not a subclass of raygpt.recipe.Model")
    ancestors = declared.__mro__[: declared.__mro__.index(Model)]
    names = {name for ancestor in ancestors for name in inspect.get_annotations(ancestor)}
    names |= {name for ancestor in ancestors for name in vars(ancestor)}
    if clashes := sorted(names & {*Model.model_fields, "own"}):
        raise RecipeError(
            f"{place} declares {', '.join(clashes)} again",
            "every recipe has these already; declare other keys only",
        )
    for name, field in declared.model_fields.items():
        if field.is_required() or name in Model.model_fields:
            continue
        default = field.get_default(call_default_factory=True)
        try:
            TypeAdapter(field.rebuild_annotation()).validate_python(default)
        except ValidationError as error:
            raise RecipeError(
                f"{place}: {name} cannot have its default {default!r}", error.errors()[0]["msg"]
            ) from None

    class Settings(declared):
        model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

        def __reduce__(self) -> tuple:
            # Pickled by its file's text, because the other process may not have loaded it.
            return _settings_again, (self.own, dict(self))

    Settings.own = own
    return Settings


def _settings_again(own: OwnModel, values: dict[str, Any]) -> Model:
    return own.settings(**values)
