"""Tests with a Hub on this machine and the unmodified clients. These read HF_ENDPOINT when they are
imported, so they run in other processes: one for most cases, because importing takes seconds."""

import gzip
import io
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.corpora.hub_stand_in import COMMIT, Fault, Hub

ALTERNATIVES = ("jsonl:PATH", "dump:PATH", "sample")

PRELUDE = """
import itertools, json, pickle, sys, time
from raygpt.data.corpora import hub
from raygpt.errors import UserError
hub.PART_BYTES = 30_000
hub.REQUEST_SECONDS = 1.0
def patient(sleep=time.sleep):  # the pauses of all libraries
    time.sleep = lambda seconds: sleep(min(seconds, 0.02))
"""

# Each case: the arguments of hub_corpus, and how many of its parts to take. Prints the results.
CLIENT = """
patient()
hub.RETRY_SECONDS = 60.0
results = {}
for key, (arguments, count, folder) in json.loads(sys.argv[1]).items():
    if key.startswith("hopeless"):
        hub.OPENING_SECONDS = hub.RETRY_SECONDS = 0.3
    try:
        corpus = hub.hub_corpus(*arguments)
        parts = list(itertools.islice(corpus.parts(), count))
        if folder:
            with open(f"{folder}/parts", "wb") as file:
                pickle.dump(parts, file)
        results[key] = {
            "revision": corpus.revision,
            "licence": corpus.licence(),
            "sizes": [len(pickle.dumps(part)) for part in parts],
            "parts": [repr(part) for part in parts],
            "texts": [list(part()) for part in parts],
        }
    except UserError as error:
        results[key] = str(error)
print(json.dumps(results))
"""


def run(program, hub_url, home, *arguments, **environment):
    """Run a program in a process of its own, and return what it prints."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(home),
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        # The files of formats that are read in the driver, in more than one request.
        "FSSPEC_HF": '{"block_size": 30000}',
        **environment,
    }
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def some_texts(name, count):
    letters = random.Random(name)
    return [f"{name} {i} {letters.randbytes(500).hex()}" for i in range(count)]


def parquet(texts, column="text", row_group=10):
    numbers = list(range(len(texts)))
    table = pa.table({"id": numbers, column: texts, "other": [os.urandom(9000) for _ in texts]})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=row_group)
    return file.getvalue()


def jsonl(texts):
    return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()


FILES = {name: some_texts(name, 100) for name in ("a", "b", "c")}
ALL = [text for texts in FILES.values() for text in texts]
HOLES = [None, "", " \n\u3000", *FILES["a"][:20], None, *FILES["a"][20:]]

TABLE = [f"{row},row {row} of a table" for row in range(25_000)]

CARD = b"""---
license: odbl
configs:
- config_name: en
  data_files: en/*.parquet
- config_name: de
  data_files: de/*.parquet
---
"""


def build(hub):
    """The data sets of the cases, and their faults."""
    en = {f"en/{name}.parquet": parquet(texts) for name, texts in FILES.items()}
    en["en/a.parquet"] = parquet(HOLES)
    wiki = {"README.md": CARD, **en, "de/d.parquet": parquet(some_texts("d", 20))}
    lines = {
        "a.jsonl": jsonl(HOLES),
        "b.jsonl.gz": gzip.compress(jsonl(FILES["b"])),
        "c.jsonl": jsonl(FILES["c"]),
    }
    for name in ("wiki", "lazy", "flaky", "gone", "gated"):
        hub.add(f"o/{name}", wiki, "odbl")
    for name in ("lines", "flaky-lines"):
        hub.add(f"o/{name}", lines, ["mit", "odbl"])
    hub.add("o/flaky-table", {"train.csv": "\n".join(["id,text", *TABLE]).encode()})
    for name in ("private", "forbidden", "expired", "invalid", "broken"):
        hub.add(f"o/{name}", {})
    hub.add("o/columns", {"train.parquet": parquet(FILES["a"], "body")})
    hub.add("o/line-columns", {"train.jsonl": jsonl(FILES["a"])})
    hub.add("o/tests-only", {"test.parquet": parquet(FILES["a"])})
    hub.add("o/damaged", {"train.parquet": b"PAR1, or not"})

    hub.faults = [
        # Ten are more than huggingface_hub retries for itself.
        Fault("datasets/o/flaky/revision", 500, times=2),
        Fault("datasets/o/flaky/tree", 503, times=2),
        Fault("o/flaky/resolve/" + COMMIT + "/README", cut=10, times=2),
        Fault("flaky/resolve/" + COMMIT + "/en/a", cut=20, times=10),
        Fault("flaky/resolve/" + COMMIT + "/en/b", 429, times=2, headers={"Retry-After": 1}),
        Fault("flaky/resolve/" + COMMIT + "/en/b", 500, times=10),
        Fault("flaky/resolve/" + COMMIT + "/en/c", times=1, wait=1.5),
        Fault("flaky-lines/resolve/" + COMMIT + "/a", cut=70_000, times=7),
        Fault("flaky-lines/resolve/" + COMMIT + "/b", cut=10_000, times=7),
        Fault("flaky-lines/resolve/" + COMMIT + "/c", 503, times=10),
        Fault("flaky-table/resolve/" + COMMIT + "/train", 503, times=7, after=2),
        Fault("api/datasets/o/private", 401, headers={"X-Error-Code": "RepoNotFound"}),
        Fault("o/gated/resolve", 401, headers={"X-Error-Code": "GatedRepo"}),
        Fault("api/datasets/o/forbidden", 403, headers={"X-Error-Message": "Not this token"}),
        Fault(
            "api/datasets/o/expired",
            401,
            headers={"X-Error-Message": 'User Access Token "laptop" is expired'},
        ),
        Fault(
            "api/datasets/o/invalid",
            401,
            headers={"X-Error-Message": "Invalid credentials in Authorization header"},
        ),
        Fault("api/datasets/o/broken", 502),
        Fault("gone/resolve/" + COMMIT + "/en/b", 500),
    ]


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub:
        build(hub)
        yield hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def results(hub, folder):
    """By case: the results of hub_corpus and its parts, or the message of the UserError."""
    cases = {
        "wiki": (("hub:o/wiki", "o/wiki", "en", None), None, str(folder)),
        "pinned": (("hub:o/wiki", "o/wiki", "en", COMMIT), None, None),
        "lazy": (("hub:o/lazy", "o/lazy", "en", COMMIT), 1, None),
        "flaky": (("hub:o/flaky", "o/flaky", "en", COMMIT), None, None),
        "lines": (("hub:o/lines", "o/lines", None, "main"), None, None),
        "flaky lines": (("hub:o/flaky-lines", "o/flaky-lines", None, COMMIT), None, None),
        "flaky table": (("hub:o/flaky-table", "o/flaky-table", None, COMMIT), None, None),
        "column": (("hub:o/columns", "o/columns", None, COMMIT, "body"), None, None),
        "missing": (("hub:o/nothing", "o/nothing", None, None), None, None),
        "private": (("hub:o/private", "o/private", None, COMMIT), None, None),
        "gated": (("hub:o/gated", "o/gated", "en", COMMIT), None, None),
        "forbidden": (("hub:o/forbidden", "o/forbidden", None, None), None, None),
        "expired": (("hub:o/expired", "o/expired", None, None), None, None),
        "invalid": (("hub:o/invalid", "o/invalid", None, None), None, None),
        "revision": (("hub:o/wiki", "o/wiki", "en", "v9"), None, None),
        "config": (("hub:o/wiki", "o/wiki", "fr", COMMIT), None, None),
        "no config": (("hub:o/wiki", "o/wiki", None, COMMIT), None, None),
        "no column": (("hub:o/columns", "o/columns", None, COMMIT), None, None),
        "no text": (("hub:o/columns", "o/columns", None, COMMIT, "id"), None, None),
        "no line column": (("hub:x", "o/line-columns", None, COMMIT, "body"), None, None),
        "no line text": (("hub:x", "o/line-columns", None, COMMIT, "id"), None, None),
        "split": (("hub:o/tests-only", "o/tests-only", None, COMMIT), None, None),
        "damaged": (("hub:o/damaged", "o/damaged", None, COMMIT), None, None),
        "name": (("hub:wiki", "wiki", None, None), None, None),
        "odd name": (("hub:o/a b", "o/a b", None, None), None, None),
        "hopeless broken": (("hub:o/broken", "o/broken", None, None), None, None),
        "hopeless gone": (("hub:o/gone", "o/gone", "en", COMMIT), None, None),
    }
    stdout, _ = run(CLIENT, hub.url, folder / "home", json.dumps(cases))
    return json.loads(stdout.splitlines()[-1])


def texts_of(result):
    assert isinstance(result, dict), result
    return [text for texts in result["texts"] for text in texts]


@pytest.mark.parametrize("case", ["wiki", "lines"])
def test_documents_come_in_order_without_the_empty_ones(results, case):
    assert texts_of(results[case]) == ALL
    assert len(results[case]["parts"]) > 6


def test_a_part_is_a_run_of_row_groups_of_about_the_size_asked_for(results):
    sizes = [sum(map(len, texts)) for texts in results["wiki"]["texts"]]
    # 10 kB a row group: three make 30 kB, and one or two are left at the end of each file.
    assert len(sizes) == 3 * 4
    assert max(sizes) < 33_000
    assert max(results["wiki"]["sizes"]) < 1000


def test_parts_follow_from_the_corpus_alone(results):
    assert results["pinned"] == results["wiki"]


def test_revision_and_licence(results):
    assert results["wiki"]["revision"] == f"o/wiki en@{COMMIT}"
    assert results["wiki"]["licence"] == "odbl"
    assert results["lines"]["licence"] == "mit and odbl"
    assert results["column"]["revision"] == f"o/columns@{COMMIT}, column body"
    assert texts_of(results["column"]) == FILES["a"]


def test_files_that_are_not_needed_are_not_requested(results, hub):
    assert results["lazy"]["texts"]
    asked = [request for request in hub.requests if "o/lazy/resolve" in request]
    assert any("en/a.parquet" in request for request in asked)
    assert not [r for r in asked if "en/b" in r or "en/c" in r or "de/" in r]
    file = f"/datasets/o/lazy/resolve/{COMMIT}/en/a.parquet"
    # Footers and four row groups' texts; the other column has 0.9 MB.
    assert hub.sent[file] < 700_000


@pytest.mark.parametrize(("flaky", "steady"), [("flaky", "wiki"), ("flaky lines", "lines")])
def test_temporary_errors_do_not_change_the_documents(results, hub, flaky, steady):
    assert isinstance(results[flaky], dict), results[flaky]
    assert results[flaky]["texts"] == results[steady]["texts"]
    assert not [f for f in hub.faults if "flaky" in f.where and f.times > 0]


def test_reading_resumes_where_the_last_part_ended(results):
    assert texts_of(results["flaky table"]) == [row.split(",")[1] for row in TABLE]
    assert len(results["flaky table"]["parts"]) > 12


def test_another_process_reads_the_parts_in_any_order(results, hub, folder):
    hub.requests.clear()
    program = """
with open(sys.argv[1], "rb") as file:
    parts = pickle.load(file)
texts = [list(part()) for part in reversed(parts)]
print(json.dumps(texts[::-1]))
"""
    stdout, _ = run(program, hub.url, folder / "elsewhere", str(folder / "parts"))
    assert json.loads(stdout) == results["wiki"]["texts"]
    # The repository is not listed, except the folder of the files, once.
    assert sum(n for request, n in hub.requests.items() if "/tree/" in request) == 1


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", ["o/nothing", "no such data set", "hf auth login", "HF_TOKEN"]),
        ("private", ["private", "hf auth login", "HF_TOKEN"]),
        ("gated", ["gated", "hf auth login", "HF_TOKEN", "datasets/o/gated"]),
        ("forbidden", ["403", "Not this token", "HF_TOKEN"]),
        ("expired", ["token", '"laptop" is expired', "hf auth login"]),
        ("invalid", ["token", "Invalid credentials", "hf auth login"]),
        ("revision", ["no revision 'v9'", "commit"]),
        ("config", ["en, de", "fr"]),
        ("no config", ["en, de", "none was given"]),
        ("no column", ["no column 'text'", "id, body, other"]),
        ("no text", ["'id' holds int64, not text", "id, body, other"]),
        ("no line column", ["no column 'body'", "id, text"]),
        ("no line text", ["'id' holds int, not text", "id, text"]),
        ("split", ["no split train", "test"]),
        ("damaged", ["train.parquet cannot be read", "footer", "damaged"]),
        ("name", ["OWNER/NAME"]),
        ("odd name", ["OWNER/NAME"]),
        ("hopeless broken", ["502", "tried for", "network"]),
        ("hopeless gone", ["500", "tried for", "network"]),
    ],
)
def test_a_permanent_error_is_one_message(results, case, words):
    message = results[case]
    assert isinstance(message, str), message
    for word in [*words, *ALTERNATIVES]:
        assert word in message
    assert "\n" not in message
    assert ". (" not in message


PINNED = """
corpus = hub.hub_corpus("hub:o/wiki", "o/wiki", "en", 40 * "0")
hub.OPENING_SECONDS = 1.0
print(corpus.revision, "huggingface_hub" in sys.modules)
try:
    next(corpus.parts())
except UserError as error:
    print(error)
    print("datasets" in sys.modules)
"""


def test_a_pinned_commit_needs_no_network_until_it_is_read(tmp_path):
    with socket.socket() as closed:  # bound, so that no other process listens there
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        revision, message, slow = run(PINNED, dead, tmp_path)[0].splitlines()
    assert revision == f"o/wiki en@{40 * '0'} False"
    for word in ("Connection refused", "network", *ALTERNATIVES):
        assert word in message
    assert slow == "False"


def test_offline_mode_is_named_in_the_message(hub, tmp_path):
    message = run(PINNED, hub.url, tmp_path, HF_HUB_OFFLINE="1")[0].splitlines()[1]
    for word in ("HF_HUB_OFFLINE", *ALTERNATIVES):
        assert word in message
