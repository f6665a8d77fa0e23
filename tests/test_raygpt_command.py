"""`raygpt` and `python -m raygpt`, as a user runs them."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import raygpt
from raygpt.__main__ import COMMANDS

CHECKOUT = Path(__file__).parents[1]
# What an installed console script holds.
SCRIPT = "from raygpt.__main__ import main\nmain()\n"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "bin" / "raygpt"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def run(*command, folder, packages=CHECKOUT, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(packages), "COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def refusal(*command, folder, **environment):
    done = run(*command, folder=folder, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_it_lists_the_commands_and_the_recipes(tmp_path, arguments):
    done = run("-m", "raygpt", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  (\w+) {2,}(.+)$", done.stdout, re.M)
    recipes = sorted(path.stem for path in CHECKOUT.glob("search_spaces/*.yaml"))
    assert [name for name, _ in listed] == [*COMMANDS, *recipes]
    lines = dict(listed)
    assert lines["tune"].startswith("search a recipe's ranges")
    assert all(lines[recipe].endswith("?") for recipe in recipes)


def test_every_command_says_in_its_docstring_what_it_does():
    for name in COMMANDS:
        documentation = importlib.import_module(f"raygpt.{name}").__doc__
        assert re.match(rf"`python -m raygpt\.{name} [^`]+`: \w.+", documentation), name
    runnable = {
        path.stem
        for path in (CHECKOUT / "raygpt").glob("*.py")
        if "run_command(main)" in path.read_text()
    }
    assert runnable == set(COMMANDS)


def test_the_usage_names_the_command_as_it_was_called(tmp_path, script):
    calls = {f"raygpt {command}": [script, command] for command in COMMANDS} | {
        "python -m raygpt tune": ["-m", "raygpt", "tune"],
        "python -m raygpt.tune": ["-m", "raygpt.tune"],
    }
    for name, call in calls.items():
        done = run(*call, "--help", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: {name} [-h]")
        description = done.stdout.split("\n\n")[1]
        assert description[0].isupper()
        assert "`" not in description
    assert "usage: raygpt COMMAND" in run(script, folder=tmp_path).stdout


def test_a_command_gets_the_other_arguments_and_its_exit_code_is_kept(tmp_path, script):
    for way in ([script], ["-m", "raygpt"]):
        error = refusal(*way, "train", "sub/nothing.yaml", "--set", "a=1", folder=tmp_path)
        assert error == "error: sub/nothing.yaml: there is no such file\n"


def test_an_unknown_command_names_the_nearest(tmp_path):
    error = refusal("-m", "raygpt", "tun", folder=tmp_path)
    assert error.startswith('error: there is no command "tun"; did you mean "tune"? Allowed here: ')
    error = refusal("-m", "raygpt", "lr_sched", folder=tmp_path)
    assert error.endswith("to search a recipe's ranges: python -m raygpt tune lr_sched\n")
    error = refusal("-m", "raygpt", "x\x1b[31m", folder=tmp_path)
    assert 'no command "x\\x1b[31m"; allowed here: tune, ' in error


def test_the_version(tmp_path, script):
    assert run(script, "--version", folder=tmp_path).stdout == f"raygpt {raygpt.__version__}\n"


def test_an_encoding_without_the_characters_is_no_error(tmp_path):
    done = run("-m", "raygpt", folder=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0
    assert "usage: python -m raygpt COMMAND \\u2026" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "argument FILE: is empty"),
        ([os.fsdecode(b"r\xff")], r"argument FILE: 'r\udcff' is not UTF-8"),
        (["baseline", "--runs-dir", ""], "argument --runs-dir: is empty"),
        (["baseline", "--runs-dir", os.fsdecode(b"r\xff")], "argument --runs-dir: 'r"),
        (["baseline", "--name", ""], "argument --name: is empty"),
        (["baseline", "--name", "a\x1b[31m"], r'argument --name: "a\x1b[31m" cannot name'),
    ],
)
def test_names_that_cannot_be_used_are_refused(tmp_path, arguments, message):
    error = refusal("-m", "raygpt.train", *arguments, folder=tmp_path)
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_folder_name_that_the_system_refuses_is_one_message(tmp_path):
    for more in ([], ["--resume"]):
        error = refusal(
            "-m", "raygpt.train", "baseline", "--runs-dir", "n" * 300, *more, folder=tmp_path
        )
        assert error.startswith("error: nnn")
        assert "File name too long" in error


@pytest.mark.parametrize("command", ["tune", "train", "prepare"])
def test_an_error_in_the_recipe_does_not_wait_for_ray_or_torch(tmp_path, command):
    slow = ("ray", "torch", "pandas", "tiktoken")
    (tmp_path / "bad.yaml").write_text("training: {tokns: 1}\n")
    program = (
        f"import sys\nfrom raygpt.{command} import main\n"
        f"try: main(['bad.yaml'])\n"
        f"except Exception as error: print(type(error).__name__)\n"
        f"print([name for name in {slow} if name in sys.modules])\n"
    )
    assert run("-c", program, folder=tmp_path).stdout == "RecipeError\n[]\n"


# --- installed, or from a checkout --------------------------------------------------------------


@pytest.fixture
def installed(tmp_path):
    """A folder with the package as `pip install .` lays it out."""
    folder = tmp_path / "site-packages"
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "raygpt", folder / "raygpt", ignore=leave_out)
    shutil.copytree(CHECKOUT / "search_spaces", folder / "raygpt" / "search_spaces")
    return folder


def test_an_installation_has_its_recipes_inside(tmp_path, installed):
    done = run("-m", "raygpt", folder=tmp_path, packages=installed)
    assert "  lr_sched  " in done.stdout
    error = refusal("-m", "raygpt.train", "lr_sched", folder=tmp_path, packages=installed)
    file = installed / "raygpt" / "search_spaces" / "lr_sched.yaml"
    assert error.startswith(f"error: {file}: is a search; to train one recipe, ")


def test_what_pip_installs_is_the_whole_package():
    """pyproject.toml lists every folder of the package."""
    tomllib = pytest.importorskip("tomllib")
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (CHECKOUT / "raygpt").rglob("*.py")}
    packages = {".".join(folder.relative_to(CHECKOUT).parts) for folder in folders}
    assert set(setuptools["packages"]) == packages | {"raygpt.search_spaces"}
    assert setuptools["package-dir"] == {"raygpt.search_spaces": "search_spaces"}
    data = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (
            CHECKOUT / setuptools["package-dir"].get(package, package.replace(".", "/"))
        ).glob(pattern)
    }
    kept = {
        path for folder in ("raygpt", "search_spaces") for path in (CHECKOUT / folder).rglob("*")
    }
    no_code = {path for path in kept if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data == no_code
