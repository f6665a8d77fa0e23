"""raygpt: distributed hyperparameter search for GPT language models, on Ray."""

from typing import Any

__all__ = ["load_results"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded on demand: a command should not wait for pandas to say that an argument is wrong.
    if name == "load_results":
        from raygpt.analysis.run import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
