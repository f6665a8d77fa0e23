import shutil

import pytest

from raygpt.results.tables import RunTables, load_results

SEARCHED = ("training.learning_rate", "training.weight_decay", "model.n_layers")


def figures(tokens, bits_per_byte=None, rung=None, **others):
    """The figures of a report; validation figures at rungs only."""
    found = {
        "step": tokens // 100,
        "tokens": tokens,
        "tokens_trained": tokens,
        "train_bits_per_token": 5.25,
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
        "tokens_per_second": 1000.0,
        "seconds": tokens / 500,
    }
    if rung is not None:
        found |= {
            "rung": rung,
            "bits_per_byte": bits_per_byte,
            "bits_per_token": 4 * bits_per_byte,
            "next_token_accuracy": 0.25,
        }
    return found | others


def begin_trial(tables, trial_id, learning_rate=1e-3, weight_decay=0.1, n_layers=2, **what):
    values = dict(zip(SEARCHED, (learning_rate, weight_decay, n_layers), strict=True))
    tables.begin_trial(trial_id, **{"seed": 7, "values": values} | what)


@pytest.fixture
def report():
    return figures


@pytest.fixture
def tables(tmp_path):
    """The tables of a search that has only begun."""
    return RunTables(tmp_path, SEARCHED)


@pytest.fixture
def begin(tables):
    """Begins a trial."""
    return lambda *args, **values: begin_trial(tables, *args, **values)


@pytest.fixture(scope="session")
def made_search(tmp_path_factory):
    """Tables with a trial of every kind; the best first: 3, 0, 4, 1, 2, 5, 6. Not to be changed."""
    tables = RunTables(tmp_path_factory.mktemp("runs") / "", SEARCHED)
    for number in range(7):
        begin_trial(tables, f"{number:04}", 1e-3 * (number + 1), n_layers=2 + number % 3)
    tables.add_report("0000", figures(900, 2.0, 1))
    tables.end_trial("0000", "completed")
    tables.add_report("0001", figures(300, 1.5, 0))
    tables.end_trial("0001", "stopped")
    tables.add_report("0003", figures(300, 2.5, 0))
    tables.add_report("0003", figures(900, 1.75, 1))
    tables.end_trial("0003", "completed")
    tables.add_report("0004", figures(300, 1.25, 0))
    tables.add_report("0004", figures(600))
    tables.add_report("0005", figures(300, 1.0, 0))
    tables.end_trial("0005", "diverged", "the training loss is nan")
    tables.end_trial("0006", "failed", "OSError: [/disk] is full | a :smile:\nno room")
    return tables


@pytest.fixture(scope="session")
def results(made_search):
    return load_results(made_search.folder)


@pytest.fixture(scope="session")
def confirmed(tmp_path_factory):
    """A search of five trials, whose baseline 0000 was stopped, and 0002, 0001 confirmed with it.

    By its further runs 0001 is the best; 0003 was better still, until a run of it diverged.
    Not to be changed.
    """
    tables = RunTables(tmp_path_factory.mktemp("runs") / "", SEARCHED)
    searched = {
        "0000": (3.0,),
        "0001": (2.75, 2.5),
        "0002": (2.75, 2.25),
        "0003": (2.5, 2.0),
        "0004": (3.5,),
    }
    for trial_id, scores in searched.items():
        begin_trial(tables, trial_id, baseline=trial_id == "0000")
        for rung, score in enumerate(scores):
            tables.add_report(trial_id, figures((300, 900)[rung], score, rung))
        tables.end_trial(trial_id, "completed" if len(scores) == 2 else "stopped")
    further = {
        "0000": (2.75, 2.76, 2.74),
        "0001": (2.48, 2.49, 2.5),
        "0002": (2.5, 2.51, 2.49),
        "0003": (2.0, 2.01, None),
    }
    for trial_id, scores in further.items():
        for number, score in enumerate(scores, 1):
            name = f"{trial_id}-{number}"
            begin_trial(tables, name, seed=10 * int(trial_id) + number, confirms=trial_id)
            if score is None:
                tables.end_trial(name, "diverged", "the training loss is nan")
                continue
            tables.add_report(name, figures(300, 3.0, 0))
            tables.add_report(name, figures(900, score, 1))
            tables.end_trial(name, "completed")
    return tables


@pytest.fixture
def search(made_search, tmp_path):
    """A copy of `made_search` that tests may change."""
    folder = tmp_path / "search"
    shutil.copytree(made_search.folder, folder)
    return RunTables(folder, SEARCHED)
