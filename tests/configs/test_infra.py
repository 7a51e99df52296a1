"""What runs opsin elsewhere: Terraform, images, the compose file, Prefect's and accelerate's files.

Everything parses, and everything that one file names exists in another.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from transformers.models.idefics3 import modeling_idefics3
from transformers.models.llama import modeling_llama

from components.fingerprint import ROOT

INFRA = ROOT / "infra"
MODULES = sorted({path.parent for path in (ROOT / "terraform").rglob("*.tf")})
DOCKERFILES = [*sorted((INFRA / "images").glob("*.Dockerfile")), ROOT / "mlflow" / "Dockerfile"]
LOCKED = dict(
    line.split("==")
    for line in (INFRA / "requirements" / "main.txt").read_text().splitlines()
    if "==" in line and ";" not in line
)


class Module:
    """The blocks of one Terraform folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parsed: list[dict[str, Any]] = [hcl2.loads(path.read_text()) for path in sorted(folder.glob("*.tf"))]
        self.text = "\n".join(
            re.sub(r"(^|\s)#.*", "", path.read_text()) for path in sorted(folder.glob("*.tf"))
        )
        self.variables = _named(parsed, "variable")
        self.outputs = _named(parsed, "output")
        self.modules = _named(parsed, "module")
        self.locals = {key for each in parsed for block in each.get("locals", []) for key in block}
        self.declared = {
            prefix + kind.strip('"') + "." + name.strip('"')
            for block_type, prefix in (("resource", ""), ("data", "data."))
            for each in parsed
            for block in each.get(block_type, [])
            for kind, named in block.items()
            for name in named
        }

    def problems(self) -> list[str]:
        """References to what is not declared, and variables that nothing uses."""
        used = set(re.findall(r"\bvar\.(\w+)", self.text))
        found = [f"var.{name} is not declared" for name in used - self.variables.keys()]
        found += [f"variable {name} is not used" for name in self.variables.keys() - used]
        wanted = set(re.findall(r"(?<![.\w/])local\.(\w+)", self.text))
        found += [f"local.{name} is not declared" for name in wanted - self.locals]
        references = {
            "".join(match) for match in re.findall(r"(?<![.\w\"/])(data\.)?(aws_\w+\.[a-z]\w*)", self.text)
        }
        found += [f"{name} is not declared" for name in references - self.declared]
        for call, output in re.findall(r"\bmodule\.(\w+)(?:\[[^\]]*\])?\.(\w+)", self.text):
            if call not in self.modules or output not in self.called(call).outputs:
                found.append(f"module.{call}.{output} does not exist")
        return found

    def called(self, name: str) -> "Module":
        return Module((self.folder / self.modules[name]["source"].strip('"')).resolve())


def _named(parsed: list[dict[str, Any]], block_type: str) -> dict[str, dict[str, Any]]:
    return {
        name.strip('"'): body
        for each in parsed
        for block in each.get(block_type, [])
        for name, body in block.items()
    }


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_terraform_every_reference_is_declared_and_documented(folder: Path) -> None:
    module = Module(folder)
    assert module.problems() == []
    for name, body in (module.variables | module.outputs).items():
        assert body.get("description"), f"{name} has no description"
    assert all("type" in body for body in module.variables.values())


def test_terraform_undeclared_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(
        'variable "idle" {}\nresource "aws_s3_bucket" "a" {\n  bucket = "${var.nam}-${local.b}"\n}\n'
        'output "arn" {\n  value = aws_s3_bucket.b.arn\n}\n'
    )
    assert sorted(Module(tmp_path).problems()) == [
        "aws_s3_bucket.b is not declared",
        "local.b is not declared",
        "var.nam is not declared",
        "variable idle is not used",
    ]


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_terraform_module_calls_fit_the_called_module(folder: Path) -> None:
    module = Module(folder)
    for name, call in module.modules.items():
        wanted = module.called(name).variables
        given = call.keys() - {"source", "count", "for_each", "depends_on", "__is_block__", "__comments__"}
        required = {key for key, body in wanted.items() if "default" not in body}
        assert given <= wanted.keys(), f"module {name} is given what it does not take"
        assert required <= given, f"module {name} lacks what it needs"


@pytest.mark.parametrize("path", sorted((ROOT / "terraform").rglob("*.tftpl")), ids=lambda p: p.parent.name)
def test_terraform_template_gets_exactly_what_it_uses(path: Path) -> None:
    (call,) = re.findall(rf'templatefile\("\${{path.module}}/{path.name}", {{(.*?)\n +}}\)',
                         (path.parent / "main.tf").read_text(), re.DOTALL)  # fmt: skip
    given = set(re.findall(r"^\s*(\w+) *=", call, re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", path.read_text())) == given


def test_terraform_environments_differ_only_in_values() -> None:
    dev, prod = (ROOT / "terraform" / "envs" / name for name in ("dev", "prod"))
    for name in ("variables.tf", "outputs.tf"):
        assert (dev / name).read_text() == (prod / name).read_text()
    assert Module(dev).modules.keys() == Module(prod).modules.keys()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_copies_what_exists_and_ends_as_an_ordinary_user(path: Path) -> None:
    lines = path.read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    installed = re.findall(r"(infra/requirements/[\w.-]+\.(?:txt|in))", path.read_text())
    assert copied
    for each in (*copied, *installed):
        assert (ROOT / each).exists(), each
    for name in re.findall(r"serve[\w-]*\.(?:txt|in)", path.read_text()):
        assert (INFRA / "requirements" / name).is_file(), name
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in {"root", "0"}


def test_compose_file_names_what_exists_and_listens_on_loopback() -> None:
    compose = yaml.safe_load((INFRA / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert {config["source"] for config in service.get("configs", [])} <= compose["configs"].keys()
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= compose["volumes"].keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if "build" in service:
            assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert services["prefect"]["image"] == f"prefecthq/prefect:{LOCKED['prefect']}-python3.11"


def test_prefect_deployments_name_flows_and_their_parameters() -> None:
    text = (INFRA / "prefect.yaml").read_text()
    described = PrefectYamlModel.model_validate(yaml.safe_load(text))
    assert described.prefect_version == LOCKED["prefect"]
    assert [deployment.name for deployment in described.deployments] == ["lifecycle"]
    for deployment in described.deployments:
        file, name = (deployment.entrypoint or "").split(":")
        assert (ROOT / file).is_file()
        flow = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(flow, Flow)
        assert deployment.parameters.keys() <= inspect.signature(flow.fn).parameters.keys()


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp", "nodes"])
def test_accelerate_config_is_one_that_accelerate_takes(name: str) -> None:
    config = load_config_from_file(str(INFRA / "accelerate" / f"{name}.yaml"))
    known = {action.dest for action in launch_command_parser()._actions}
    assert (config.fsdp_config or {}).keys() <= known
    for layer in filter(
        None, (config.fsdp_config or {}).get("fsdp_transformer_layer_cls_to_wrap", "").split(",")
    ):
        assert hasattr(modeling_llama, layer) or hasattr(modeling_idefics3, layer)
    # accelerate starts processes itself only where it takes them for GPUs; the device is opsin's own setting.
    assert not config.use_cpu
    assert config.num_processes > 1
