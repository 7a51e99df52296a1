"""The section on the mixture: what was tried, what was predicted, what was chosen and what confirmed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from components.report.files import RunFiles, read_json
from components.report.plots import ACCENT, MUTED, PALETTE, STYLE, colours, grid, svg
from components.report.wording import percent

PALE = "#b9c1c9"
TABLED = 6
"""Categories that fit into the table side by side, with their weights."""


@dataclass(frozen=True)
class Row:
    """A mixture in the table."""

    name: str
    weights: tuple[str, ...]
    predicted: str
    observed: str


@dataclass(frozen=True)
class MixtureSection:
    verdict: str
    facts: tuple[tuple[str, str], ...]
    categories: tuple[str, ...]
    rows: tuple[Row, ...]
    plots: tuple[tuple[str, Markup], ...]
    """Name and picture."""


def mixture(files: RunFiles) -> MixtureSection | None:
    """How the mixture was chosen; None where no ablation finished."""
    outcome, confirmed = files.finished("ablate"), files.finished("confirm")
    study = read_json(outcome.output / "ablation.json") if outcome else None
    if study is None:
        return None
    confirmation = read_json(confirmed.output / "confirmation.json") if confirmed else None
    verdict = (confirmation or study)["verdict"]
    shown = tuple(study["categories"])[:TABLED]
    rows = [_row(each, shown) for each in (study["optimum"], *study["baselines"])]
    settled = files.finished("settle")
    longer = read_json(settled.output / "shortlist.json") if settled else None
    told = [] if longer is None else [f"{longer['verdict'][:1].upper()}{longer['verdict'][1:]}."]
    return MixtureSection(
        verdict=" ".join([*told, f"{verdict[:1].upper()}{verdict[1:]}."]),
        facts=_facts(study, confirmation, files.records["ablate"].metrics),
        categories=shown,
        rows=tuple(rows),
        plots=tuple(pictures(study, confirmation).items()),
    )


def pictures(study: Mapping[str, Any], confirmation: Mapping[str, Any] | None) -> dict[str, Markup]:
    """Name → plot, of `ablation.json` and, where it ran, `confirmation.json`."""
    return {
        "weights-and-fit": _weights_and_fit(study),
        "mixtures-and-responses": _tried_and_answered(study),
        "regret-and-runs" if confirmation is None else "regret-and-pairs": _regret_and_pairs(
            study, confirmation
        ),
    }


def _row(mixture: Mapping[str, Any], categories: Sequence[str]) -> Row:
    observed = mixture["observed_objective"]
    return Row(
        mixture["name"],
        tuple(f"{mixture['weights'][name]:.1%}" for name in categories),
        f"{mixture['predicted_objective']:.4f}",
        "not run" if observed is None else f"{observed:.4f}",
    )


def _facts(
    study: Mapping[str, Any], confirmation: Mapping[str, Any] | None, metrics: Mapping[str, float]
) -> tuple[tuple[str, str], ...]:
    facts = [
        ("chosen", confirmation["chosen"] if confirmation else study["chosen"]["name"]),
        ("proxy runs", str(len(study["runs"]))),
        ("predictor", study["predictor"].replace("_", "-")),
        ("cross-validated rank correlation", f"{study['rank_correlation']:+.2f}"),
        ("predicted gain over stratified", _interval(study["gain"])),
    ]
    if confirmation:
        facts.append((f"gain in {len(confirmation['pairs'])} new pairs", _interval(confirmation["gain"])))
    facts.append(("expected regret", percent(study["regret"])))
    if metrics.get("search_flops"):
        facts.append(("charged to the search", f"{metrics['search_flops'] / 1e12:,.2f} TFLOP"))
    if metrics.get("search_cost"):
        facts.append(("price of the search", f"{metrics['search_cost']:,.2f}"))
    return tuple(facts)


def _interval(gain: Mapping[str, float]) -> str:
    return f"{percent(gain['value'])} [{percent(gain['low'])}, {percent(gain['high'])}]"


def _weights_and_fit(study: Mapping[str, Any]) -> Markup:
    """Left: weights of the optimum and the stratified mixture. Right: proxy runs as others predict them."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = grid(2, 2, height=3.2)
        categories = study["categories"]
        shown = {each["name"]: each["weights"] for each in (study["optimum"], study["stratified"])}
        thick = 0.8 / len(shown)
        for index, (name, weights) in enumerate(shown.items()):
            places = [place + index * thick for place in range(len(categories))]
            values = [weights[category] for category in categories]
            bars = left.barh(places, values, thick * 0.9, label=name, color=(ACCENT, PALE)[index])
            left.bar_label(bars, [f"{value:.0%}" for value in values], padding=3, color=MUTED, fontsize=8)
        left.set_yticks([place + 0.4 - thick / 2 for place in range(len(categories))], categories)
        left.invert_yaxis()
        left.grid(axis="y", visible=False)
        left.xaxis.set_major_formatter("{x:.0%}")
        left.margins(x=0.12)
        left.set_title("Weights")
        left.legend()
        _fit(right, study)
        return svg(figure)


def _fit(ax: Axes, study: Mapping[str, Any]) -> None:
    ax.set_title("Proxy runs: predicted from the others against observed")
    ax.set_xlabel("predicted, relative to stratified")
    ax.set_ylabel("observed")
    reference = next(run["losses"] for run in study["runs"] if run["name"] == study["stratified"]["name"])
    points = {
        target: [
            (run["predicted"][target] / reference[target], run["losses"][target] / reference[target])
            for run in study["runs"]
        ]
        for target in study["targets"]
    }
    ends = [value for pairs in points.values() for pair in pairs for value in pair]
    ax.axline((min(ends), min(ends)), slope=1, color=PALE, linewidth=1, linestyle="--")
    for target, colour in colours(points).items():
        x, y = zip(*points[target], strict=True)
        ax.scatter(x, y, s=22, color=colour, label=target)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _tried_and_answered(study: Mapping[str, Any]) -> Markup:
    """Left: every mixture that was run, as a line over the categories. Right: the predicted objective as one
    category's weight moves."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = grid(2, 2, height=3.2)
        categories, places = study["categories"], range(len(study["categories"]))
        values = [run["objective"] for run in study["runs"]]
        scale = matplotlib.cm.ScalarMappable(Normalize(min(values), max(values)), "viridis")
        for run in study["runs"]:
            line = [run["weights"][name] for name in categories]
            left.plot(
                places, line, color=scale.to_rgba(run["objective"]), linewidth=1.2, marker="o", markersize=3
            )
        best = [study["optimum"]["weights"][name] for name in categories]
        left.plot(places, best, color=PALETTE[1], linewidth=2.4, label="optimum")
        left.set_xticks(places, categories)
        left.yaxis.set_major_formatter("{x:.0%}")
        left.set_title("Mixtures that were run")
        left.legend()
        figure.colorbar(scale, ax=left, label="objective")
        for name, colour in colours(study["responses"]).items():
            x, y = zip(
                *((point["weight"], point["objective"]) for point in study["responses"][name]), strict=True
            )
            right.plot(x, y, color=colour, label=name)
            right.plot(
                study["optimum"]["weights"][name], study["optimum"]["predicted_objective"], "o", color=colour
            )
        right.xaxis.set_major_formatter("{x:.0%}")
        right.set_title("From the optimum: one weight moves")
        right.set_xlabel("weight")
        right.set_ylabel("predicted objective")
        right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(figure)


def _regret_and_pairs(study: Mapping[str, Any], confirmation: Mapping[str, Any] | None) -> Markup:
    """Left: how far the first runs alone led. Right: the pairs that confirm or refuse; without any, what each
    run reached."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = grid(2, 2, height=2.8)
        curve = study["regret_curve"]
        runs, regrets = ([point[key] for point in curve] for key in ("runs", "regret"))
        left.plot(runs, regrets, marker="o", color=ACCENT)
        left.set_title("Regret of the optimum found from the first runs")
        left.set_xlabel("proxy runs")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.yaxis.set_major_formatter("{x:.1%}")
        if confirmation:
            _pairs(right, confirmation)
        else:
            _reached(right, study["runs"])
        return svg(figure)


def pairs(confirmation: Mapping[str, Any]) -> Markup:
    """The pairs of `confirmation.json` on their own."""
    with matplotlib.rc_context(STYLE):
        figure, (ax,) = grid(1, 1)
        _pairs(ax, confirmation)
        return svg(figure)


def _pairs(ax: Axes, confirmation: Mapping[str, Any]) -> None:
    gain, pairs = confirmation["gain"], confirmation["pairs"]
    reach = [[gain["value"] - gain["low"]], [gain["high"] - gain["value"]]]
    ax.axvline(0, color=PALE, linewidth=1)
    ax.plot(pairs, range(1, len(pairs) + 1), "o", color=MUTED)
    ax.errorbar(gain["value"], 0, xerr=reach, fmt="D", color=ACCENT, capsize=4)
    names = ["mean", *(f"pair {number + 1}" for number in range(len(pairs)))]
    ax.set_yticks(range(len(names)), names)
    ax.xaxis.set_major_formatter("{x:+.1%}")
    ax.set_title("Gain over stratified in new pairs of runs")


def _reached(ax: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(runs, key=lambda run: -run["objective"])
    ax.axvline(1, color=PALE, linewidth=1)
    ax.plot([run["objective"] for run in ordered], range(len(ordered)), "o", color=ACCENT)
    ax.set_yticks(range(len(ordered)), [run["name"] for run in ordered], fontsize=8)
    ax.set_title("Objective that each run reached (less is better)")
