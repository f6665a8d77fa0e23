"""What a run was made with."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("ray", "torch", "optuna", "pandas", "numpy", "tiktoken", "datasets")


def environment(command: list[str]) -> dict[str, Any]:
    """Versions, commit, hardware of this machine, and the command, as plain JSON values."""
    return {
        "command": command,
        "versions": {"python": platform.python_version(), "raygpt": version("raygpt")}
        | {name: version(name) for name in LIBRARIES},
        "git_commit": git_commit(),
        "platform": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "executable": sys.executable,
    }


def git_commit() -> str | None:
    """The commit of raygpt's own checkout, with "-dirty" where it has changes; None outside one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
