"""The environment that a run was made in."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raygpt import __version__

LIBRARIES = ("ray", "torch", "optuna", "pandas", "numpy", "tiktoken", "datasets")


def environment(command: list[str]) -> dict[str, Any]:
    """Versions, commit, hardware of this machine and the command, as plain JSON values."""
    # Imported here, so that messages on an existing run folder need not wait for torch.
    import torch

    return {
        "command": command,
        "versions": {"python": platform.python_version(), "raygpt": __version__}
        | {name: version(name) for name in LIBRARIES},
        "git_commit": git_commit(),
        "platform": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "executable": sys.executable,
    }


def git_commit() -> str | None:
    """The commit of raygpt's own checkout, with "-dirty" if it has changes; None outside one."""
    checkout = Path(__file__).parents[2]
    # An installed raygpt may lie inside a checkout of something else.
    if not (checkout / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
