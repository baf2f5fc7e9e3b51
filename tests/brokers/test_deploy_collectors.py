"""Image, unit and manifests of `collectors run`: no engine, no systemd and no cluster runs them here, so what they say
is held against the code, and what checks files without one checks them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from collectors.main import USAGE, app
from collectors.registry import EXPOSITION, KINDS
from tests.docs.pages import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "collectors.Dockerfile").read_text("utf-8")
UNIT = DEPLOY / "systemd/message-tracker-collectors.service"
SPOOL, CONFIG, PORT = "/var/lib/collectors", "/etc/collectors/config.yaml", 9464
USER = 10001
UNUSABLE = 32
"""MiB beside a collector's spool: two files of what could not be used, 16 MiB each."""


def test_the_image_has_what_collectors_need() -> None:
    """It installs every extra that a kind needs, and metrics; it copies what the wheel is made of; all of that is sent
    to the builder."""
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.M)
    assert set(extras.split(",")) == {kind.extra for kind in KINDS.values() if kind.extra} | {EXPOSITION.extra}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    assert "--constraint requirements.lock" in DOCKERFILE
    sources = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M) for name in line.split()}
    assert {"tracker", "collectors", "dashboards", "alerts", "docs/runbooks", "scripts"} <= sources
    ignored = (DEPLOY / "collectors.Dockerfile.dockerignore").read_text("utf-8")
    assert all(f"!{name}" in ignored for name in sources)
    assert all((ROOT / name).exists() for name in sources)


def test_the_image_runs_as_nobody_in_particular() -> None:
    """A user by number that is not root, one volume that it owns, a health check on the port that manifests use, and a
    command that there is."""
    assert f"USER {USER}:{USER}" in DOCKERFILE
    assert f"VOLUME {SPOOL}" in DOCKERFILE
    assert re.search(rf"install --directory --owner={USER} --group={USER} --mode=0700 {SPOOL}$", DOCKERFILE, re.M)
    assert f"http://127.0.0.1:{PORT}/healthz" in DOCKERFILE
    assert DOCKERFILE.rstrip().endswith(f'ENTRYPOINT ["collectors"]\nCMD ["run", "{CONFIG}"]')


def _unit() -> dict[str, list[str]]:
    """Directive -> its values, of the section Service."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text("utf-8").split("[Service]")[1].split("[Install]")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Where systemd's own checker is installed it finds nothing wrong, and little that the service could do."""
    configparser.ConfigParser(strict=False, interpolation=None).read_string(UNIT.read_text("utf-8"))
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed: only the syntax was checked")
    program = str(Path(sys.executable).with_name("collectors"))
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/message-tracker/bin/collectors", program))
    checked = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
    command = [analyze, "security", "--offline=true", "--threshold=20", str(copy)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout[-500:]


def test_the_unit_does_what_its_page_says() -> None:
    """It runs the command with one configuration, reloads by checking it and SIGHUP, is not restarted when the
    configuration is wrong, keeps its spool, and gets the token from where the page says."""
    unit = _unit()
    [start], (check, reload_) = unit["ExecStart"], unit["ExecReload"]
    assert start.split()[1] == "run"
    assert check == start.replace(" run ", " run --check ")
    assert reload_ == "/bin/kill -HUP $MAINPID"
    assert unit["RestartPreventExitStatus"] == [str(USAGE)]
    [state], [credential] = unit["StateDirectory"], unit["LoadCredential"]
    page = (ROOT / "docs/deploy.md").read_text("utf-8")
    assert f"/var/lib/{state}" in page
    assert f"token_file: /run/credentials/{UNIT.name}/{credential.partition(':')[0]}" in page
    assert start.split()[-1] in page
    assert int(unit["TimeoutStopSec"][0]) >= 30  # the runner's grace, and a request under way


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text("utf-8")))


def _of_kind(name: str, kind: str) -> dict[str, Any]:
    (found,) = (document for document in _documents(name) if document["kind"] == kind)
    return found


def _pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = _of_kind(name, "Deployment")["spec"]["template"]["spec"]
    return spec


def _container(name: str) -> dict[str, Any]:
    pod = _pod(name)
    (found,) = (c for c in [*pod["containers"], *pod.get("initContainers", ())] if "collectors" in c["image"])
    return found


MANIFESTS = pytest.mark.parametrize("name", ["collectors.yaml", "sidecar.yaml"])
KEYS = {"name", "image", "args", "env", "ports", "livenessProbe", "readinessProbe", "resources", "securityContext",
        "volumeMounts", "restartPolicy"}  # fmt: skip
"""Of a container, https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/."""


@MANIFESTS
def test_the_configuration_of_a_manifest_is_good(name: str, tmp_path: Path) -> None:
    """`collectors run --check` takes it with what the manifest gives it: variables, the token's file, the spool."""
    container, pod = _container(name), _pod(name)
    text = _of_kind(name, "ConfigMap")["data"]["config.yaml"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) <= set(volumes)
    (secret,) = (mounts[n]["mountPath"] for n, volume in volumes.items() if "secret" in volume)
    (item,) = (item for volume in volumes.values() for item in volume.get("secret", {}).get("items", ()))
    assert f"token_file: {secret}/{item['path']}" in text
    (tmp_path / item["path"]).write_text("token")
    (tmp_path / "config.yaml").write_text(text.replace(secret, str(tmp_path)))
    variables = {variable["name"]: "x" for variable in container["env"]}
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(variables)
    checked = CliRunner().invoke(app, ["run", "--check", str(tmp_path / "config.yaml")], env=variables)
    assert checked.exit_code == 0, checked.output
    assert container["args"] == ["run", CONFIG]
    written = [mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")]
    assert written == [SPOOL] == [yaml.safe_load(text)["spool"]]


@MANIFESTS
def test_the_secrets_of_a_manifest_are_made_by_its_head(name: str) -> None:
    """No secret stands in it; each key that it uses is one that the command at its top makes."""
    head = (DEPLOY / "kubernetes" / name).read_text("utf-8").split("apiVersion")[0]
    used = {variable["valueFrom"]["secretKeyRef"]["key"] for variable in _container(name)["env"]}
    used |= {item["key"] for v in _pod(name)["volumes"] for item in v.get("secret", {}).get("items", ())}
    assert used == set(re.findall(r"--from-literal=([\w-]+)=\.\.\.", head))
    assert not any(document["kind"] == "Secret" for document in _documents(name))


@MANIFESTS
def test_a_manifest_lets_it_do_little(name: str) -> None:
    """Not root, as the image's user, with a read-only root, no capability, no token of the cluster, bounded memory."""
    pod, container = _pod(name), _container(name)
    assert set(container) <= KEYS
    said = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert (said["runAsNonRoot"], said["runAsUser"], said["fsGroup"]) == (True, USER, USER)
    assert said["readOnlyRootFilesystem"]
    assert not said["allowPrivilegeEscalation"]
    assert said["capabilities"] == {"drop": ["ALL"]}
    assert said["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert "memory" in container["resources"]["limits"]


@MANIFESTS
def test_probes_ask_what_is_served(name: str) -> None:
    """Liveness asks whether the process lives, never whether a broker does; ports are those of `listen`."""
    container = _container(name)
    config = yaml.safe_load(_of_kind(name, "ConfigMap")["data"]["config.yaml"])
    assert config["listen"] == f"0.0.0.0:{PORT}"
    (port,) = container["ports"]
    assert port["containerPort"] == PORT
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    ready = container.get("readinessProbe", {}).get("httpGet", {"path": "/readyz", "port": port["name"]})
    assert ready == {"path": "/readyz", "port": port["name"]}
    annotations = _of_kind(name, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(PORT)


@MANIFESTS
def test_a_spool_has_one_holder_and_room(name: str) -> None:
    """One pod at a time, and a volume that takes all that its collectors may put there."""
    deployment = _of_kind(name, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    config = yaml.safe_load(_of_kind(name, "ConfigMap")["data"]["config.yaml"])
    needed = len(config["collectors"]) * (config["spool_mb"] + UNUSABLE)
    (size,) = re.findall(r"(?:sizeLimit|storage): (\d+)([MG]i)", (DEPLOY / "kubernetes" / name).read_text("utf-8"))
    assert int(size[0]) * {"Mi": 1, "Gi": 1024}[size[1]] >= needed
