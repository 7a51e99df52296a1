"""The config: what is refused, what is named, and what is identity."""

import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from components.config import SECTIONS, CurateConfig, Execution, LifecycleConfig, load
from components.config.loading import to_toml
from components.errors import ConfigError
from components.fingerprint import ROOT

SMALL = """
name = "small"

[[curate.sources]]
locator = "pypi:easy-vqa==1.0"
reader = "easy_vqa"
category = "vqa"

[[pretrain.phases]]
name = "all"
trainable = ["vision", "connector", "language"]
steps = 10
learning_rate = 1e-3

[pretrain.model]
text_width = 192
"""
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_file_of_the_repository_parses(path: Path) -> None:
    assert load(path).name


def test_config_smallest_parses_with_defaults(small: Path) -> None:
    config = load(small)
    assert config.align.beta == 0.1
    assert config.curate.name == "small"


def test_seed_and_execution_are_handed_on_to_stages_that_set_none(small: Path) -> None:
    config = load(small, ["seed=7", "execution.threads=1", "sft.seed=9"])
    assert {getattr(config, name).seed for name in SECTIONS if name != "sft"} == {7}
    assert config.sft.seed == 9
    assert {getattr(config, name).execution.threads for name in SECTIONS} == {1}


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("align.gamma=1", ["align.gamma: unknown key", "beta", "loss_weights"]),
        ("tipo=1", ["tipo: unknown key", "curate", "deploy"]),
        ("pretrain.model.depth=3", ["pretrain.model.depth: unknown key", "text_layers"]),
        ("pretrain.phases.0.lr=1", ["pretrain.phases.0.lr: unknown key", "learning_rate"]),
        ("curate.sources.0.path=x", ["curate.sources.0.path: unknown key", "locator", "reader"]),
        ("sft.lora.width=1", ["sft.lora.width: unknown key", "rank"]),
        ("execution.gpu=true", ["execution.gpu: unknown key", "threads"]),
        ("align.beta=0", ["align.beta", "greater than 0", "got 0"]),
        ("align.beta=nan", ["align.beta", "got nan"]),
        ("align.beta=inf", ["align.beta", "finite number", "got inf"]),
        ("ablate.proxies=2", ["ablate.proxies", "greater than or equal to 6"]),
        ("deploy.port=70000", ["deploy.port", "less than or equal to 65535"]),
        ("quantize.scheme=W2A2", ["quantize.scheme", "'W8A8'", "W2A2"]),
        ("execution.device=tpu", ["execution.device", "'auto', 'cpu' or 'cuda'"]),
        (
            "curate.sources.0.locator=ftp:x",
            ["curate.sources.0.locator", "no scheme 'ftp'", "pypi:NAME==", "urls:"],
        ),
        ("curate.sources.0.locator=pypi:easy-vqa", ["curate.sources.0.locator: write pypi:NAME==VERSION"]),
        ("curate.sources.0.locator='folder:'", ["curate.sources.0.locator: write folder:PATH"]),
        ("curate.sources.0.reader=Easy-VQA", ["curate.sources.0.reader", "pattern"]),
        ("curate.sources=[]", ["curate.sources", "at least 1"]),
        ("align.losses=['sigmoid']", ["losses and loss_weights must have the same length"]),
        ("pretrain.model.text_width=100", ["multiple of 32"]),
        ("pretrain.model.image_size=60", ["image_size must be a multiple"]),
        ("align=3", ["align"]),
        ("curate.sources.9.limit=1", ["curate.sources.9"]),
        ("curate.sources.first.limit=1", ["curate.sources.first"]),
        ("name.first=1", ["name.first"]),
        ("align.beta", ["section.key=value", "align.beta"]),
        ("align..beta=1", ["section.key=value"]),
        ("=1", ["section.key=value"]),
        ("pretrain.max_shift={film = 3}", ["pretrain.max_shift", "film", "vqa"]),
        ('evaluate.min_gain={"film/test" = 0.1}', ["evaluate.min_gain", "film", "vqa"]),
        ('evaluate.without_image=["film/test"]', ["evaluate.without_image", "film", "vqa"]),
        ("ablate.objective={film = 1.0}", ["ablate.objective", "film", "vqa"]),
        ("curate.duplicates.same_text_only=['film', '*']", ["duplicates.same_text_only", "film", "vqa"]),
        ("curate.safety.exempt=['film']", ["safety.exempt", "film", "vqa"]),
        ("curate.alignment.categories=['film']", ["alignment.categories", "film", "vqa"]),
        ("curate.annotate.ocr.categories=['film']", ["annotate.ocr.categories", "film", "vqa"]),
    ],
)
def test_config_wrong_value_is_refused_naming_the_key(small: Path, override: str, names: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(small, [override])
    for name in names:
        assert name in str(caught.value)


def test_config_several_mistakes_are_all_named(small: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(small, ["align.beta=0", "sft.steps=0", "deploy.x=1"])
    for key in ("align.beta", "sft.steps", "deploy.x"):
        assert key in str(caught.value)
    assert str(small) in str(caught.value)


def test_config_bad_item_of_a_list_is_one_mistake(small: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(small, ["curate.sources.0.locator=foldr:photos"])
    assert str(caught.value).count("\n  - ") == 1


def test_config_without_a_source_names_its_category_nowhere(small: Path) -> None:
    other = '{locator = "folder:x", category = "photo"}'
    config = load(
        small,
        [
            f'curate.sources=[{{locator = "folder:y", category = "vqa"}}, {other}]',
            'curate.duplicates.same_text_only=["*", "photo", "vqa"]',
            'curate.safety.exempt=["photo"]',
            'curate.alignment.categories=["photo"]',
            'curate.annotate.ocr.categories=["photo", "vqa"]',
        ],
    )
    left = config.curate.of_sources(config.curate.sources[:1])
    assert left.duplicates.same_text_only == ("*", "vqa")
    assert left.safety and not left.safety.exempt and left.alignment is None
    assert left.annotate and left.annotate.ocr and left.annotate.ocr.categories == ("vqa",)
    assert CurateConfig.model_validate_json(left.model_dump_json()) == left
    last = config.curate.of_sources(config.curate.sources[1:])
    assert last.alignment == config.curate.alignment
    assert config.curate.of_sources(config.curate.sources) == config.curate


def test_config_file_missing_names_those_beside_it(small: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no config file .*cpu\.toml.*small\.toml"):
        load(small.with_name("cpu.toml"))


@pytest.mark.parametrize("content", [b"name = ", b"[a]\n[a]\n", b"\xff\xfe"])
def test_config_file_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(path)


def test_config_required_section_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text('name = "empty"\n')
    with pytest.raises(ConfigError, match=r"curate\.sources: Field required"):
        load(path)


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("align.beta=0.2", 0.2),
        ("align.beta = 0.2", 0.2),
        ("quantize.scheme=W8A8", "W8A8"),
        ('deploy.model_name="other"', "other"),
        ("deploy.model_name=a-b", "a-b"),
        ("deploy.keep_serving=true", True),
        ("deploy.weights=[0.5]", (0.5,)),
    ],
)
def test_override_value_is_read_as_toml_or_text(small: Path, override: str, wanted: object) -> None:
    section, _, field = override.partition("=")[0].strip().partition(".")
    assert getattr(getattr(load(small, [override]), section), field) == wanted


def test_override_inside_a_list_changes_one_item(small: Path) -> None:
    config = load(small, ["curate.sources.0.limit=5", "pretrain.phases.0.steps=3"])
    assert (config.curate.sources[0].limit, config.pretrain.phases[0].steps) == (5, 3)


def test_identity_execution_settings_do_not_count(small: Path) -> None:
    plain = load(small)
    other = load(
        small,
        [
            "execution.threads=1",
            "execution.workers=7",
            "execution.device=cpu",
            "execution.workspace='elsewhere'",
            "pretrain.checkpoint_every_s=1",
            "pretrain.log_every=1",
            "deploy.port=0",
            "deploy.keep_serving=true",
            "curate.remote='s3://bucket'",
            "curate.sources.0.urls.concurrency=3",
            "execution.engine='ray'",
        ],
    )
    for name in SECTIONS:
        assert getattr(plain, name).identity() == getattr(other, name).identity()


@pytest.mark.parametrize(
    "override",
    [
        "align.beta=0.2",
        "align.seed=1",
        "seed=1",
        "align.lora.rank=8",
        "align.losses=['ipo','bco_pair','sft']",
    ],
)
def test_identity_what_changes_the_result_counts(small: Path, override: str) -> None:
    assert load(small).align.identity() != load(small, [override]).align.identity()


def test_config_is_frozen(small: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(small).align.beta = 1.0


def test_config_json_round_trip_gives_the_same_config(small: Path) -> None:
    config = load(small, ["seed=3", "sft.seed=4"])
    assert LifecycleConfig.model_validate_json(config.model_dump_json()) == config


finite = st.floats(1e-6, 1.0)


@given(
    beta=finite, rate=finite, seed=st.integers(0, 2**31), threads=st.integers(1, 64), limit=st.integers(0, 99)
)
def test_config_toml_round_trip_any_values_gives_the_same_config(
    tmp_path_factory: pytest.TempPathFactory, beta: float, rate: float, seed: int, threads: int, limit: int
) -> None:
    data = tomllib.loads(SMALL)
    data["curate"]["sources"][0]["limit"] = limit
    data |= {"seed": seed, "align": {"beta": beta}, "sft": {"learning_rate": rate}}
    data["execution"] = {"threads": threads}
    config = LifecycleConfig.model_validate(data)
    path = tmp_path_factory.mktemp("config") / "again.toml"
    path.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
    assert load(path) == config


def test_execution_paths_stand_in_the_workspace(tmp_path: Path) -> None:
    execution = Execution(workspace=tmp_path)
    assert execution.artifacts == tmp_path.resolve() / ".opsin" / "artifacts"


def test_config_without_a_skipped_source_names_its_category_nowhere_and_loads_again(tmp_path: Path) -> None:
    config = load(Path("configs/cpu.toml"))
    left = tuple(each for each in config.curate.sources if not each.locator.startswith("deb:"))
    less = config.with_data(config.curate.of_sources(left))
    assert "product" in config.ablate.objective and "product" in config.align.categories
    assert sorted(less.ablate.objective) == ["caption", "chart", "digits", "vqa"]
    assert less.align.categories == ("vqa", "digits", "chart")
    assert less.curate.duplicates.same_text_only == ("vqa", "digits", "chart")
    path = tmp_path / "less.toml"
    path.write_text(to_toml(less.model_dump(mode="json")))
    assert load(path) == less
