"""Text data sets of the Hugging Face Hub, through `datasets` in streaming mode.

A part of a Parquet data set is a run of row groups of one file, read by the process that calls the
part. Files of other formats cannot be read from the middle: the driver reads them, and their parts
contain the texts.

Temporary errors are retried in three places. `huggingface_hub` retries a request up to five times,
within 23 seconds plus the time of the requests. `datasets` then starts again, 20 times with pauses
of up to a minute, which hides a dead network for half an hour; that is switched off here. Errors
that remain are retried here, a whole part at a time, so that no document is yielded twice.
"""

import functools
import itertools
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from raygpt.data.corpora.parts import PART_BYTES, Corpus, Part
from raygpt.errors import UserError

ROW_BYTES = 4_000  # assumed size of a row's text if the footer of its file does not state it

OPENING_SECONDS = 30.0  # for which requests are retried before the Hub has answered once
RETRY_SECONDS = 180.0  # for which they are retried after that
DAMAGE_TRIES = 3  # tries if the error is not one of the network
FIRST_WAIT = 0.5  # seconds, doubled after each try
LONGEST_WAIT = 20.0
REQUEST_SECONDS = 10.0  # without a byte received

# A Parquet reader asks for exact ranges, so no more than this is read ahead (default: 5 MB).
BLOCK_BYTES = 2**16

LICENCES = {"wikimedia/wikipedia": "CC BY-SA 3.0 and GFDL"}

COMMIT = re.compile("[0-9a-f]{40}")
# The Hub's clients change their HTTP library every year or two.
HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp"}

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The `revision` of a `dataset` that is read for the corpus that the user calls `name`."""

    name: str
    dataset: str
    config: str | None
    revision: str | None
    text_column: str

    def error(self, problem: str, advice: str) -> UserError:
        return UserError(
            f"The corpus {self.name} could not be read from the Hugging Face Hub "
            f"({self.dataset}): {problem.rstrip('.')}. {advice} Other corpora are jsonl:PATH and "
            f"dump:PATH for files of your own, and sample, which needs no network."
        )


def hub_corpus(
    name: str, dataset: str, config: str | None, revision: str | None, text_column: str = "text"
) -> Corpus:
    """The split `train` of a data set of the Hub, as a corpus called `name`.

    If `revision` is not a full commit of 40 hex digits, the Hub is asked for the commit that this
    branch or tag (None: the default branch) points to now, and that commit is read from then on.
    Documents that are None or blank are left out.

    Raises UserError if that request fails, or if there is no such data set or revision.
    `licence()`, iterating `parts()` and calling a part raise UserError if they cannot be read.
    """
    source = Source(name, dataset, config, revision, text_column)
    if not COMMIT.fullmatch(revision or ""):
        info = _retrying(source, OPENING_SECONDS, lambda: _info(source))
        source = replace(source, revision=info.sha)
    what = dataset if config is None else f"{dataset} {config}"
    column = "" if text_column == "text" else f", column {text_column}"
    return Corpus(
        name=name,
        revision=f"{what}@{source.revision}{column}",
        licence=functools.partial(_licence, source),
        parts=functools.partial(_parts, source),
    )


def _info(source: Source) -> Any:
    from huggingface_hub import HfApi

    if source.dataset.count("/") != 1:
        raise source.error("its name has the wrong form", "Write it as OWNER/NAME.")
    return HfApi().dataset_info(source.dataset, revision=source.revision, timeout=REQUEST_SECONDS)


def _licence(source: Source) -> str | None:
    if known := LICENCES.get(source.dataset):
        return known
    info = _retrying(source, OPENING_SECONDS, lambda: _info(source))
    licence = info.card_data.get("license") if info.card_data else None
    return " and ".join(licence) if isinstance(licence, list) else licence


def _parts(source: Source) -> Iterator[Part]:
    # First, because this is the only request that no library retries.
    _retrying(source, OPENING_SECONDS, lambda: _info(source))
    builder = _retrying(source, RETRY_SECONDS, lambda: _builder(source))
    splits = builder.config.data_files or {}
    if "train" not in splits:
        raise source.error(
            f"it has no split train, but {', '.join(map(str, splits)) or 'none'}",
            "Choose another data set or configuration.",
        )
    files = list(map(str, splits["train"]))
    if not all(file.endswith(".parquet") for file in files):
        yield from _Rows(source, builder).parts()
        return
    for file in files:
        yield from _retrying(
            source, RETRY_SECONDS, functools.partial(_parts_of_file, source, file), file
        )


@functools.cache
def _datasets() -> Any:
    """The package `datasets`, with its own retries, counts and messages switched off."""
    import datasets
    import huggingface_hub

    datasets.config.STREAMING_READ_MAX_RETRIES = 1
    datasets.config.STREAMING_READ_RETRY_INTERVAL = 0
    datasets.config.STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL = 0
    datasets.config.STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL = 0
    datasets.config.STREAMING_OPEN_MAX_RETRIES = 1
    datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 0
    # Otherwise each opened file costs a request to another server, of up to three seconds.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    # Otherwise the first data set imports PyTorch, which takes seconds.
    datasets.config.TORCH_AVAILABLE = False
    datasets.disable_progress_bars()
    # Both log warnings and errors for requests that are retried here.
    datasets.logging.set_verbosity(logging.CRITICAL)
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    return datasets


def _builder(source: Source) -> Any:
    datasets = _datasets()
    try:
        return datasets.load_dataset_builder(
            source.dataset, source.config, revision=source.revision
        )
    except ValueError:
        names = datasets.get_dataset_config_names(source.dataset, revision=source.revision)
        if source.config in names or (source.config is None and len(names) == 1):
            raise
        given = "none was given" if source.config is None else f"not {source.config}"
        raise source.error(
            f"its configurations are {', '.join(names)}; {given}", "Name one of these."
        ) from None


def _check_column(source: Source, columns: list[str], kind: str | None = None) -> None:
    """Raise UserError if the text column is absent, or is of a `kind` that is not text."""
    if source.text_column not in columns:
        raise source.error(
            f"it has no column {source.text_column!r}; its columns are {', '.join(columns)}",
            "Name the one that holds the text.",
        )
    if kind is not None:
        raise source.error(
            f"its column {source.text_column!r} holds {kind}, not text; its columns are "
            f"{', '.join(columns)}",
            "Name the one that holds the text.",
        )


def _is_text(text: str | None) -> bool:
    return bool(text) and not text.isspace()


# --- Parquet --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowGroups:
    """The part with the row groups `first` … `last` - 1 of a file that has `count` of them."""

    source: Source
    file: str
    first: int
    last: int
    count: int

    def __call__(self) -> Iterator[str]:
        """The documents of the part. Raises UserError if they cannot be read."""
        yield from _retrying(self.source, RETRY_SECONDS, self._read, self.file)

    def _read(self) -> list[str]:
        column = self.source.text_column
        groups = _row_groups(self.file, column)
        texts = []
        for index in range(self.first, self.last):
            group = groups.shard(num_shards=self.count, index=index).with_format("arrow")
            for table in group.iter(batch_size=1000):
                texts += filter(_is_text, table[column].to_pylist())
        return texts


def _parts_of_file(source: Source, file: str) -> list[RowGroups]:
    """The parts of a Parquet file; only its footer is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    with HfFileSystem().open(file) as stream:
        footer = pq.read_metadata(stream)
    schema = footer.schema.to_arrow_schema()
    kind = schema.field(source.text_column).type if source.text_column in schema.names else None
    is_text = kind is None or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    _check_column(source, schema.names, None if is_text else str(kind))

    ends, size = [], 0
    for index in range(footer.num_row_groups):
        size += _text_bytes(footer.row_group(index), source.text_column)
        if size >= PART_BYTES or index == footer.num_row_groups - 1:
            ends.append(index + 1)
            size = 0
    return [
        RowGroups(source, file, first, last, footer.num_row_groups)
        for first, last in itertools.pairwise([0, *ends])
    ]


def _text_bytes(group: Any, column: str) -> int:
    chunks = map(group.column, range(group.num_columns))
    sizes = (chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
    return sum(sizes) or group.num_rows * ROW_BYTES


@functools.lru_cache(maxsize=8)
def _row_groups(file: str, column: str) -> Any:
    """The text of a Parquet file, as a data set with one shard per row group."""
    datasets = _datasets()
    # Opened as a single file: opening its data set would list the whole repository in each process.
    rows = datasets.load_dataset(
        "parquet",
        data_files=file,
        split="train",
        streaming=True,
        columns=[column],
        features=datasets.Features({column: datasets.Value("large_string")}),
        storage_options={"hf": {"block_size": BLOCK_BYTES}},
    )
    return rows.reshard()


# --- other formats --------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """A part that contains the texts of its documents."""

    texts: list[str]

    def __call__(self) -> Iterator[str]:
        return iter(self.texts)


class _Rows:
    """The rows of a data set in order; reading can resume at the end of the last part."""

    def __init__(self, source: Source, builder: Any) -> None:
        self.source = source
        self.builder = builder
        self.rows: Any = None
        self.columns: list[str] = []
        self.state: dict | None = None  # at the end of the last part
        self.ongoing: Iterator[dict] | None = None  # None at the start and after an error

    def parts(self) -> Iterator[Texts]:
        self.rows = _retrying(self.source, RETRY_SECONDS, self._open)
        while texts := _retrying(self.source, RETRY_SECONDS, self._next):
            yield Texts(texts)

    def _open(self) -> Any:
        rows = self.builder.as_streaming_dataset(split="train")
        column = self.source.text_column
        # Without a schema the first row shows the columns.
        self.columns = rows.column_names or list(next(iter(rows), {column: None}))
        _check_column(self.source, self.columns)
        return rows.select_columns(column)

    def _next(self) -> list[str]:
        """The texts of the next part; none at the end."""
        if self.ongoing is None:
            if self.state is not None:
                self.rows.load_state_dict(self.state)
            self.ongoing = iter(self.rows)
        texts, size = [], 0
        try:
            for row in self.ongoing:
                text = row[self.source.text_column]
                if text is not None and not isinstance(text, str):
                    _check_column(self.source, self.columns, type(text).__name__)
                if _is_text(text):
                    texts.append(text)
                    size += len(text.encode(errors="replace"))
                if size >= PART_BYTES:
                    break
        except Exception:
            self.ongoing = None
            raise
        self.state = self.rows.state_dict()
        return texts


# --- errors ---------------------------------------------------------------------------------


def _retrying(source: Source, seconds: float, action: Callable[[], T], file: str = "") -> T:
    """The result of `action`, retried for up to `seconds` while its errors are temporary.

    `file` is named in the message. Raises UserError for an error that is not temporary, or that
    lasts longer.
    """
    from huggingface_hub import get_session

    started = time.monotonic()
    tries, wait = 0, FIRST_WAIT
    while True:
        # Not every request of the Hub's clients sets its own limit.
        get_session().timeout = REQUEST_SECONDS
        try:
            return action()
        except UserError:
            raise
        except Exception as error:
            if permanent := _permanent(source, error):
                raise permanent from error
            tries += 1
            pause = wait * random.uniform(0.5, 1.5)
            spent = time.monotonic() - started
            if any(map(_is_temporary, _chain(error))):
                if spent + pause > seconds:
                    raise source.error(
                        f"{_reason(error)} (tried for {spent:.0f} seconds)",
                        "Check the network and https://status.huggingface.co, then start again.",
                    ) from error
            elif tries >= DAMAGE_TRIES:
                raise source.error(
                    f"{file or 'its files'} cannot be read ({_reason(error)})",
                    "They may be damaged, or of a format that cannot be streamed.",
                ) from error
            logger.warning("%s: %s; trying again", source.dataset, _reason(error))
        time.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: Exception) -> str:
    """The message of the innermost error of the network, the most specific, or of this error."""
    error = [error, *filter(_is_temporary, _chain(error))][-1]
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _is_temporary(error: BaseException) -> bool:
    """Whether an error is temporary: one of the network or of a busy server."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (408, 429) or response.status_code >= 500
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError | TimeoutError) or library in HTTP_LIBRARIES


def _permanent(source: Source, error: Exception) -> UserError | None:
    """The error for the user if retrying cannot help, otherwise None."""
    from huggingface_hub import errors, get_token

    gated = source.error(
        "it is gated",
        f"Ask for access at https://huggingface.co/datasets/{source.dataset}, and sign in with "
        f"`hf auth login` or set HF_TOKEN, on every machine that is to read it.",
    )
    for cause in _chain(error):
        if type(cause).__name__ == "OfflineModeIsEnabled":  # both libraries have one
            return source.error(
                "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set", "Unset it to use the network."
            )
        if isinstance(cause, errors.HFValidationError):
            return source.error("its name has the wrong form", "Write it as OWNER/NAME.")
        # `datasets` raises this instead of the Hub's own error.
        if type(cause).__name__ == "DatasetNotFoundError" and "gated" in str(cause):
            return gated
        # The clients look for a README or a script with requests that fail like this; later errors
        # then have it as their context.
        if isinstance(cause, errors.EntryNotFoundError):
            continue
        if not isinstance(cause, errors.HfHubHTTPError) or cause.response is None:
            continue
        if _is_temporary(cause):
            return None
        status, said = cause.response.status_code, cause.server_message or "no reason given"
        if "expired" in said.lower() or "credentials" in said.lower():
            return source.error(
                f"the access token is not accepted ({said})",
                "Sign in again with `hf auth login`, or set another HF_TOKEN or none.",
            )
        if isinstance(cause, errors.GatedRepoError):
            return gated
        if isinstance(cause, errors.RevisionNotFoundError):
            return source.error(
                f"it has no revision {source.revision!r}", "Give a branch, a tag or a full commit."
            )
        sign_in = "If it is private or gated, sign in with `hf auth login` or set HF_TOKEN."
        if isinstance(cause, errors.RepositoryNotFoundError):
            return source.error("there is no such data set, or it is private", sign_in)
        token = "with this access token" if get_token() else "without an access token"
        return source.error(f"the Hub answers {status} {token} ({said})", sign_in)
    return None
