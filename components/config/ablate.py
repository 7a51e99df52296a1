"""The section `[ablate]`: how a mixture is searched for."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from components.config.base import StageConfig, execution_field
from components.config.model import ModelConfig

MIN_PROXIES = 6
"""Fewer say nothing about a mixture."""
PredictorName = Literal["log_linear", "substitution", "gaussian", "linear", "lightgbm"]
Weights = dict[str, float]


class AblateConfig(StageConfig):
    """Proxy runs over mixtures → the mixture that training uses."""

    proxies: int = Field(6, ge=0)
    """Proxy runs besides the stratified baseline, six at least; 0: none are made, and training takes the
    stratified mixture (every category the same share of the loss)."""
    acquired: int = Field(0, ge=0)
    """How many of them are proposed from the runs before, by a Gaussian process's upper-confidence bound; the
    others are spread out beforehand."""
    steps: int = Field(60, ge=1)
    """Optimizer steps of a proxy run."""
    packs_per_step: int = Field(1, ge=1)
    """Packs of a proxy's step; fewer than pretraining's, so that few tokens still make many steps."""
    validation_samples: int = Field(100, ge=10)
    """Validation samples per category that a proxy's losses are taken over."""
    prior: Weights = Field(default_factory=dict)
    """Category → weight that proxies spread around, and one is run on; empty: the stratified mixture."""
    concentration: float = Field(2.0, gt=0)
    """Dirichlet concentration around the prior: smaller explores further."""
    candidates: dict[str, Weights] = Field(default_factory=dict)
    """Name → mixture to try before spread-out ones: an A/B test of five to eight mixtures."""
    variation: float = Field(0.0, ge=0, lt=1)
    """Try, before spread-out ones, the prior with each category's weight raised and lowered by this share of
    itself (0.05: five percent)."""
    min_share: float = Field(0.05, ge=0, le=0.5)
    """Floor of every category."""
    floors: Weights = Field(default_factory=dict)
    """Category → least share, in place of `min_share`: the slice that guards against forgetting."""
    ceilings: Weights = Field(default_factory=dict)
    """Category → most share."""
    predictor: PredictorName | Literal["auto"] = "auto"
    """How losses follow from weights; `auto`: the law of substitution, unless log-linear predicts others
    left out better by more than the standard error of the difference."""
    objective: Weights = Field(default_factory=dict)
    """Target → weight. Targets are categories (their validation loss) and `error/<category>` (the share of
    answers not matched exactly), each relative to the stratified run's; empty: equal weights."""
    objective_by: Literal["mean", "worst"] = "mean"
    """The weighted mean of the targets, or the worst of them."""
    min_rank_correlation: float = Field(0.3, ge=-1, le=1)
    """Under this cross-validated Spearman correlation the stratified mixture is kept."""
    min_gain: float = Field(0.0, ge=0, lt=1)
    """The stratified mixture is kept unless the gain's lower bound is above this."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples of the predicted gain's interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    confirm_pairs: int = Field(4, ge=0)
    """Pairs of new runs, searched mixture against stratified, that decide whether it goes on; 0: the search's
    own word is taken."""
    confirm_steps: int = Field(0, ge=0)
    """Optimizer steps of each of these runs; 0: as many as a proxy's."""
    confirm_model: Literal["proxy", "full"] = "proxy"
    """Size of the model in these runs: a proxy's, or that of `[pretrain]` itself."""
    model: dict[str, int | str] = Field(default_factory=dict)
    """What a proxy's model has otherwise than `[pretrain.model]`: its sizes, or smaller sources
    (`text_layers = 2`, `language = "hub:…"`); empty: proxies are as large as the run."""
    shortlist: int = Field(0, ge=0, le=8)
    """Best mixtures of the search (the predicted optimum, then the best that were run) that are trained
    longer beside the stratified one; the best of them goes on. 0: the predicted optimum does."""
    shortlist_steps: int = Field(0, ge=0)
    """Optimizer steps of each of these runs; 0: three times a proxy's."""
    recipe: str = execution_field("")
    """A `mixture.toml` that an earlier search left. As long as the data it was found on are the same it is
    taken as it is; where some categories changed, only a few of its runs are repeated."""
    recipe_sha256: str = ""
    """Of that file; found before anything runs. One that is given must be what is found."""
    reruns: int = Field(0, ge=0)
    """Runs of a recipe that are repeated beside the stratified one, where data changed; 0: a quarter of all,
    the stratified one among them."""
    at_once: int = execution_field(0, ge=0)
    """Proxy runs side by side on this machine; 0: one for each of `execution.threads` on a CPU, one on a GPU.
    With `execution.engine = "ray"` as many as the cluster has room for."""
    price_per_hour: float = execution_field(0.0, ge=0)
    """Of the machine that proxies run on; for the search's price in the report."""

    def proxy_model(self, model: ModelConfig) -> ModelConfig:
        """A proxy's model: the run's with what `model` here has otherwise.

        Raises:
            ValueError: that is no model: an unknown key, or sizes that do not fit.
        """
        sizes = model.model_dump() | self.model
        if self.model.keys() & {"checkpoint", "vision", "connector", "language"}:
            sizes["digests"] = {}  # of the run's own sources; a proxy's are found before it runs
        try:
            return ModelConfig.model_validate(sizes)
        except ValidationError as problem:
            first = problem.errors()[0]
            key = ".".join(["ablate.model", *map(str, first["loc"])])
            raise ValueError(
                f"{key}: {first['msg']}; give it keys of pretrain.model, smaller than there"
            ) from None

    @field_validator("proxies")
    @classmethod
    def _enough_or_none(cls, proxies: int) -> int:
        if 0 < proxies < MIN_PROXIES:
            raise ValueError(f"greater than or equal to {MIN_PROXIES}, or 0 for the stratified mixture")
        return proxies

    @field_validator("confirm_pairs")
    @classmethod
    def _pairs_or_none(cls, pairs: int) -> int:
        if pairs == 1:
            raise ValueError("one pair says nothing about noise: 2 at least, or 0 for none")
        return pairs

    @field_validator("prior", "floors", "ceilings", "objective")
    @classmethod
    def _not_negative(cls, weights: Weights) -> Weights:
        if any(not weight >= 0 for weight in weights.values()) or (weights and not sum(weights.values())):
            raise ValueError("weights must not be negative, and one must be positive")
        return weights

    @field_validator("candidates")
    @classmethod
    def _mixtures(cls, candidates: dict[str, Weights]) -> dict[str, Weights]:
        for name, weights in candidates.items():
            if any(not weight >= 0 for weight in weights.values()) or not sum(weights.values()) > 0:
                raise ValueError(f"'{name}' has no positive weight, or a negative one")
        return candidates

    @model_validator(mode="after")
    def _some_spread_out(self) -> Self:
        if self.acquired and self.proxies - self.acquired < MIN_PROXIES // 2:
            raise ValueError(
                f"acquired: a Gaussian process needs {MIN_PROXIES // 2} runs before it proposes; at most "
                f"{max(0, self.proxies - MIN_PROXIES // 2)} of {self.proxies} can be acquired"
            )
        return self
