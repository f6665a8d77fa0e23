import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raygpt.errors import UserError
from raygpt.export import main
from raygpt.results.tables import RunTables, load_results
from raygpt.training.checkpoint import load_model


def refusal(*arguments):
    with pytest.raises(UserError) as error:
        main([str(argument) for argument in arguments])
    return str(error.value)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")}


def test_a_run_is_exported_for_transformers(trained_run, tmp_path, capsys):
    out = tmp_path / "models/tiny"
    main([str(trained_run), "--out", str(out)])
    printed = capsys.readouterr().out
    score = f"{load_results(trained_run).best['bits_per_byte']:.4f}"
    assert printed.startswith(
        f"Exported {trained_run / 'checkpoint'} (trial 0000, {score} bits per byte at 5,760 "
        f"tokens) to {out}:\n"
    )
    for path in out.iterdir():
        assert f"  {path.name} " in printed
        assert path.stat().st_mode & 0o777 == (out / "config.json").stat().st_mode & 0o777
    assert f"| bits per byte | {score} |" in (out / "README.md").read_text()

    model, tokenizer = (kind.from_pretrained(out) for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer("The river", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours = load_model(trained_run / "checkpoint").model(ids)[..., :300]
        torch.testing.assert_close(model(ids).logits, ours, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_is_exported_too_into_an_empty_folder(trained_run, tmp_path):
    folders = [tmp_path / parent / "model" for parent in "ab"]
    folders[0].mkdir(parents=True)
    for path, out in zip((trained_run / "checkpoint", trained_run), folders, strict=True):
        main([str(path), "--out", str(out)])
    one, other = map(content, folders)
    assert one == other


def test_nothing_is_overwritten(trained_run, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("mine")
    for out in (tmp_path, kept):
        message = refusal(trained_run, "--out", out)
        assert message.startswith(f"--out {out}: exists and is not overwritten")
    assert content(tmp_path) == {kept.relative_to(tmp_path): b"mine"}


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_a_run_before_the_end_of_its_budget_is_refused(tmp_path, status):
    tables = RunTables(tmp_path, [])
    tables.begin_trial("0000", 0, {})
    figures = {"tokens": 480, "tokens_trained": 480, "seconds": 1.0, "rung": 0}
    tables.add_report(
        "0000", figures | {"bits_per_byte": 3.0, "bits_per_token": 6.0, "next_token_accuracy": 0.1}
    )
    tables.set_checkpoint("0000", tmp_path.absolute() / "checkpoint")
    if status != "running":
        tables.end_trial("0000", status)
    message = refusal(tmp_path, "--out", tmp_path / "out")
    assert f"its best trial, 0000, is {status}, before the end" in message
    assert message.endswith(f"python -m raygpt.export {tmp_path / 'checkpoint'} --out DIR")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_was_deleted(trained_run, tmp_path):
    tables = RunTables(tmp_path, [])
    tables.begin_trial("0000", 0, {})
    row = load_results(trained_run).best.to_dict()
    tables.add_report("0000", row)
    tables.end_trial("0000", "completed")
    tables.set_checkpoint("0000", tmp_path.absolute() / "gone")
    message = refusal(tmp_path, "--out", tmp_path / "out")
    assert message == f"{tmp_path / 'gone' / 'checkpoint.pt'}: no such checkpoint"
    assert not (tmp_path / "out").exists()


def test_every_bad_input_is_one_message(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    assert refusal("absent", "--out", "x") == "absent: no such folder"
    assert "neither a run folder (no trials.parquet in it) nor" in refusal(".", "--out", "x")
    message = refusal(trained_run, "--out", "a-file/x")
    assert message.startswith("--out a-file/x: cannot be written")
    done = subprocess.run(
        [sys.executable, "-m", "raygpt.export", "absent", "--out", "x"],
        capture_output=True,
        text=True,
    )
    expected = (2, "", "error: absent: no such folder\n")
    assert (done.returncode, done.stdout, done.stderr) == expected
