import json

import pandas as pd
import pytest
import torch

from raygpt.analysis.attention import attention_distances, attention_maps
from raygpt.analysis.comparison import (
    checkpoints,
    compare_attention,
    dataset_of,
    excerpt,
)
from raygpt.data.prepare import prepare
from raygpt.errors import UserError
from raygpt.recipe.search_file import load_search_file
from raygpt.results.tables import RunTables, load_results
from raygpt.training.checkpoint import load_model
from raygpt.training.loop import TrainingRun

RECIPE = """
name: tiny
data: {corpus: "jsonl:TEXTS", tokenizer: bpe-270, context: 16, validation_fraction: 0.3,
       validation_tokens: 200, cache: CACHE}
model: {d_model: 16, n_layers: {choice: [1, 2], start: 1}, n_heads: 2, dropout: 0.1}
training: {tokens: 1152, batch_tokens: 64, learning_rate: 3e-3}
search: {trials: 3}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    texts = [
        f"The cat no. {number} sat on the mat of house {number**3}, 東京. " * 6
        for number in range(60)
    ]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    recipe = RECIPE.replace("TEXTS", str(folder / "texts.jsonl"))
    (folder / "tiny.yaml").write_text(recipe.replace("CACHE", str(folder / "cache")))
    return prepare(load_search_file(folder / "tiny.yaml").data, 1152)


@pytest.fixture
def run(dataset, tmp_path):
    """A search whose baseline 0000 was beaten by 0001, which is deeper; 0002 failed at once."""
    search_file = load_search_file(dataset.folder.parents[1] / "tiny.yaml")
    (tmp_path / "search.yaml").write_text(search_file.to_yaml())
    tables = RunTables(tmp_path, ["model.n_layers"], {"data": dataset.folder.name})
    for number, (n_layers, score) in enumerate([(1, 3.0), (2, 2.0), (2, None)]):
        trial = f"{number:04}"
        values = {"model.n_layers": n_layers}
        tables.begin_trial(trial, 0, values, baseline=number == 0)
        if score is None:
            tables.end_trial(trial, "failed", "no room")
            continue
        report = {"tokens": 1152, "tokens_trained": 1152, "seconds": 1.0, "rung": 1}
        report |= {"bits_per_byte": score, "bits_per_token": 8.0, "next_token_accuracy": 0.1}
        tables.add_report(trial, report)
        folder = tmp_path / "trials" / trial / "checkpoint_000001"
        TrainingRun(search_file.recipe(values), dataset).save(folder)
        tables.set_checkpoint(trial, folder)
        tables.end_trial(trial, "completed")
    tables.flush()
    return load_results(tmp_path)


def test_the_best_trial_is_compared_with_the_baseline(run, dataset):
    found = compare_attention(run, n_windows=3)
    assert list(found) == ["best 0001", "baseline 0000"]
    assert [each.maps.weights.shape[0] for each in found.values()] == [2, 1]
    text = excerpt(dataset, 16)
    for each, folder in zip(found.values(), checkpoints(run).values(), strict=True):
        model = load_model(folder).model
        distances = attention_distances(model, WindowsByHand(dataset), n_windows=3)
        pd.testing.assert_frame_equal(each.distances.heads, distances.heads)
        maps = attention_maps(model, dataset.tokenizer, text)
        assert each.maps.tokens == maps.tokens
        assert (each.maps.weights == maps.weights).all()


class WindowsByHand:
    """The windows of the validation set, cut by hand."""

    def __init__(self, dataset):
        self.tokens = torch.from_numpy(dataset.validation.read(0, 200).astype("int64"))

    def __len__(self):
        return 12

    def sequences(self, start, stop):
        inputs = [self.tokens[16 * number : 16 * number + 16] for number in range(start, stop)]
        return torch.stack(inputs), None


def test_a_text_may_be_given(run):
    found = compare_attention(run, text="The cat sat", n_windows=1)
    assert {"".join(each.maps.tokens) for each in found.values()} == {"The cat sat"}


def test_a_baseline_that_is_the_best_is_shown_once(run):
    trials = run.trials.query("trial_id != '0001'")
    assert list(checkpoints(type(run)(run.folder, trials, run.history))) == [
        "best and baseline 0000"
    ]


def test_a_trial_without_a_checkpoint_is_left_out(run):
    run.trials.loc[run.trials["trial_id"] == "0000", "checkpoint"] = None
    assert list(checkpoints(run)) == ["best 0001"]


def test_attention_is_not_compared_before_the_first_rung(run):
    run.trials["bits_per_byte"] = None
    assert compare_attention(run) == {}


@pytest.mark.parametrize("most_tokens", range(1, 60))
def test_the_excerpt_is_the_beginning_of_a_document_in_whole_characters(dataset, most_tokens):
    document = dataset.tokenizer.decode(next(dataset.documents("validation")))
    text = excerpt(dataset, most_tokens)
    assert document.startswith(text)
    assert most_tokens - 3 <= len(dataset.tokenizer.encode(text)) <= most_tokens


def test_a_run_with_other_tokens_is_refused(run):
    run.trials["data"] = "0123456789abcdef"
    with pytest.raises(
        UserError, match=r"was run on the tokens 0123456789abcdef, and jsonl:.* now"
    ):
        dataset_of(run)
