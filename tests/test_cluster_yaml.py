"""cluster.yaml, as far as it can be checked without an AWS account.

`ray up` reads the file, fills in the provider's defaults, validates the result against its schema,
and asks AWS for the rest. These tests do all but the last step with Ray's own functions. Not
covered, because they need boto3, credentials and the network: whether the image id, the instance
types and the spot offers exist, the resources that `ray up` reads from the instance type, keys,
subnets and security groups, and whether the commands succeed on the image.
"""

import copy
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private.commands import warn_about_bad_start_command
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent
CLUSTER_FILE = ROOT / "cluster.yaml"
TOKEN = "~/.ray/auth_token"


@pytest.fixture
def cluster():
    """The parsed file."""
    return yaml.safe_load(CLUSTER_FILE.read_text())


@pytest.fixture
def prepared(cluster):
    """The file as `ray up` sees it before it contacts AWS."""
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


@pytest.fixture
def project():
    """The `project` table of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML by itself")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def all_commands(prepared, kind):
    """The commands of a node of a kind ('head' or 'worker'), in order."""
    return [
        *prepared["initialization_commands"],
        *prepared[f"{kind}_setup_commands"],
        *prepared[f"{kind}_start_ray_commands"],
    ]


def the_command(commands, pattern):
    """The only command that matches a pattern, and its index."""
    found = [(i, command) for i, command in enumerate(commands) if re.search(pattern, command)]
    assert len(found) == 1, f"{pattern!r} should match one of {commands}"
    return found[0]


def worker_types(prepared):
    return {
        name: node
        for name, node in prepared["available_node_types"].items()
        if name != prepared["head_node_type"]
    }


def pinned_ray(prepared):
    """The Ray version that every node installs."""
    _, install = the_command(prepared["setup_commands"], r"pip install .*\bray\b")
    return Version(re.search(r"\bray(?:\[[\w,]+\])?==([\w.]+)", install)[1])


def test_ray_accepts_the_file(prepared):
    assert prepared["provider"]["type"] == "aws"
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_the_check_refuses_a_misspelt_key(cluster):
    cluster["idle_timeout_minuets"] = cluster.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuets"):
        validate_config(prepare_config(cluster))


def test_no_command_depends_on_rays_old_default_image(prepared):
    # Ray's aws/defaults.yaml fills in what the file omits: conda, and pip from the PATH.
    for kind in ("head", "worker"):
        for command in all_commands(prepared, kind):
            assert "anaconda" not in command
            assert not re.search(r"(^|[;&(]\s*)(ray|pip)\s", command), f"not from ~/venv: {command}"


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_commands_are_valid_shell(prepared, kind):
    for command in all_commands(prepared, kind):
        checked = subprocess.run(
            ["bash", "-n", "-c", command], check=False, capture_output=True, text=True
        )
        assert checked.returncode == 0, f"{command}\n{checked.stderr}"


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_ray_starts_with_token_authentication(prepared, kind):
    commands = prepared[f"{kind}_start_ray_commands"]
    _, start = the_command(commands, r"\bray start\b")
    assert re.search(r"\bRAY_AUTH_MODE=token\s+\S*ray start\b", start)
    assert not any("RAY_AUTH_MODE=disabled" in command for command in commands)


def test_the_token_is_mounted_where_ray_looks_for_it(prepared):
    assert prepared["file_mounts"][TOKEN] == TOKEN
    assert "ray get-auth-token --generate" in CLUSTER_FILE.read_text()


def test_shells_on_the_nodes_find_raygpt_and_the_token(prepared, tmp_path):
    _, command = the_command(prepared["setup_commands"], r"\.bashrc")
    bashrc = tmp_path / ".bashrc"
    bashrc.write_text("# as it came\n")
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):  # `ray up` may run it again
        subprocess.run(["bash", "-c", command], check=True, env=environment)
    assert len(bashrc.read_text().splitlines()) == 2
    show = '. ~/.bashrc; echo "$RAY_AUTH_MODE $PATH"'
    shell = subprocess.run(
        ["bash", "-c", show], check=True, env=environment, capture_output=True, text=True
    )
    assert shell.stdout.strip() == f"token {tmp_path}/venv/bin:/usr/bin:/bin"


def test_the_head_starts_the_autoscaler(prepared, capsys):
    commands = prepared["head_start_ray_commands"]
    _, start = the_command(commands, r"\bray start\b")
    assert "--head" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    warn_about_bad_start_command(commands)
    assert "autoscaling" not in "".join(capsys.readouterr())
    the_command(prepared["head_setup_commands"], r"pip install .*\bboto3\b")


def test_workers_join_the_head_on_its_port(prepared):
    _, head = the_command(prepared["head_start_ray_commands"], r"\bray start\b")
    _, worker = the_command(prepared["worker_start_ray_commands"], r"\bray start\b")
    port = re.search(r"--port=(\d+)", head)[1]
    assert f"--address=$RAY_HEAD_IP:{port}" in worker
    assert "--head" not in worker


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_every_node_installs_raygpt_before_ray_starts(prepared, kind):
    commands = all_commands(prepared, kind)
    venv, _ = the_command(commands, r"-m venv ~/venv")
    install, command = the_command(commands, r"pip install .*~/raygpt\b")
    start, _ = the_command(commands, r"\bray start\b")
    assert venv < install < start
    assert command.startswith("~/venv/bin/pip install -e ~/raygpt ")


def test_mounted_files_exist(prepared):
    for remote, local in prepared["file_mounts"].items():
        if local == TOKEN:
            continue  # made by the user, as the file explains
        assert (ROOT / local).exists(), f"{local} is mounted at {remote} but is not in the checkout"
        # Laid out as in the checkout, so that pip finds what pyproject.toml names.
        assert remote == f"~/raygpt/{local}"


def test_mounted_files_suffice_to_install(prepared, project):
    mounted = set(prepared["file_mounts"].values())
    assert {"pyproject.toml", "raygpt", "search_spaces"} <= mounted
    readme = project.get("readme", [])
    named = [readme] if isinstance(readme, str) else [readme["file"]] if readme else []
    assert {*named, *project.get("license-files", [])} <= mounted


def test_nodes_install_a_ray_that_raygpt_allows(prepared, project):
    allowed = [r for r in map(Requirement, project["dependencies"]) if r.name == "ray"]
    assert allowed, "raygpt depends on ray"
    for requirement in allowed:
        assert requirement.specifier.contains(pinned_ray(prepared)), f"pinned outside {requirement}"


def test_the_comments_name_the_ray_that_the_nodes_install(prepared):
    named = re.findall(r'"ray\[default\]==([\w.]+)"', CLUSTER_FILE.read_text())
    assert len(named) == 2
    assert {Version(v) for v in named} == {pinned_ray(prepared)}


def test_workers_are_spot_gpu_nodes(prepared):
    workers = worker_types(prepared)
    assert workers
    for node in workers.values():
        assert re.match(r"(g[456]e?|p[3456]\w*)\.", node["node_config"]["InstanceType"])
        assert node["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert 1 <= node["min_workers"] < node["max_workers"] <= prepared["max_workers"]
        # Empty means AWS's own figures for the type; if given by hand, they must include a GPU.
        assert not node["resources"] or node["resources"].get("GPU", 0) >= 1
    assert prepared["idle_timeout_minutes"] > 0


def test_the_head_is_small_and_on_demand_and_runs_no_trials(prepared):
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert re.match(r"[mrct]\d", head["node_config"]["InstanceType"])


def test_all_nodes_start_from_one_image(prepared):
    images = {
        node["node_config"].get("ImageId") for node in prepared["available_node_types"].values()
    }
    assert len(images) == 1
    # An id, or a placeholder that AWS refuses; without one Ray would use Ubuntu 18.04.
    assert re.fullmatch(r"ami-(REPLACE_ME|[0-9a-f]{17})", images.pop())


def test_the_region_is_the_same_throughout(cluster):
    regions = set(re.findall(r"\b(?:us|eu|ap|sa|ca)-[a-z]+-\d", CLUSTER_FILE.read_text()))
    assert regions == {cluster["provider"]["region"]}
