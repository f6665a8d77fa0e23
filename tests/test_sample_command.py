import subprocess
import sys

import pytest
import torch

from raygpt.data.tokenizer import END_OF_DOCUMENT
from raygpt.errors import UserError
from raygpt.sample import main
from raygpt.training.checkpoint import load_model


@pytest.fixture
def sample(trained_run, capsys):
    """Runs the command on the run; what it printed."""

    def run(text, *options, path=trained_run):
        main([str(path), text, *map(str, options)])
        return capsys.readouterr().out

    return run


def test_the_text_and_its_continuation_are_printed(sample, trained_run):
    text = sample("The naïve", "--tokens", 20)
    assert text.startswith("The naïve")
    assert text.endswith("\n")
    assert len(text) > len("The naïve\n")
    assert END_OF_DOCUMENT not in text
    assert sample("The naïve", "--tokens", 20, path=trained_run / "checkpoint") == text


def test_the_seed_decides(sample):
    texts = [sample("The", "--seed", seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_temperature_0_prints_the_most_probable_tokens(sample, trained_run):
    model = load_model(trained_run / "checkpoint")
    ids = [model.tokenizer.end_of_document, *model.tokenizer.encode("東京").tolist()]
    for _ in range(10):
        with torch.no_grad():
            ids.append(model.model(torch.tensor([ids[-16:]]))[0, -1].argmax().item())
    expected = model.tokenizer.decode(ids[1:]).partition(END_OF_DOCUMENT)[0] + "\n"
    for option in (("--temperature", 0), ("--top-k", 1)):
        assert sample("東京", "--tokens", 10, *option) == expected


def test_an_empty_text_starts_a_new_document(sample):
    assert sample("").strip()


def test_bad_options(sample, capsys):
    for option, value in (
        ("--tokens", 0),
        ("--temperature", -1),
        ("--temperature", "nan"),
        ("--top-k", 0),
        ("--seed", -1),
    ):
        with pytest.raises(SystemExit) as error:
            sample("x", f"{option}={value}")
        assert error.value.code == 2
        assert f"{option} " in capsys.readouterr().err


def test_a_text_that_is_not_utf8(sample):
    with pytest.raises(UserError, match="TEXT: is not UTF-8"):
        sample("\udcff")


def test_as_a_command(trained_run, tmp_path):
    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "raygpt.sample", *map(str, arguments)],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    status, printed, errors = command(trained_run, "The", "--tokens", 5)
    assert (status, errors) == (0, "")
    assert printed.startswith("The")
    assert command(tmp_path / "absent", "The") == (
        2,
        "",
        f"error: {tmp_path / 'absent'}: no such folder\n",
    )
