"""How well does the alignment scorer that a corpus trains itself tell wrong texts from right ones?

Real drawings with real titles: Open Clip Art (dirty), and emoji by four vendors. Before anything is learned,
the texts of 5% of each source's pictures are passed on among them; no scorer knows which. Every scorer is
cross-fitted over the same folds, so a pair is scored by a model that never saw its picture. What is measured
is how well the scores rank replaced texts below the others of the same source: area under the ROC curve
(AUC; 0.5 is chance), average precision, and precision in the lowest 2%. Open Clip Art's own wrong titles
count as right ones here, so its precisions are lower bounds.

Titles judged by eye (`alignment_titles.json`, drawn before they were judged, in mixed order and without
their scores) say how many of Open Clip Art's own titles are wrong, and how many of its lowest.

python -m benchmarks.alignment_quality [--quick]
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from benchmarks.harness import CONFIDENCE, quick, report
from components.config import CurateConfig, Execution, SourceConfig, TextFilter
from components.config.scorers import ContrastiveConfig
from components.curate import packages
from components.curate.samples import Draft, share
from components.curate.scorers.contrastive import Contrastive, assign_folds
from components.curate.scorers.pairs import Pairs, text_of
from components.curate.scorers.safety import judge_safety
from components.curate.scorers.text_embeddings import embed_texts
from components.curate.sources import READERS
from components.curate.text import find_text_problems
from components.progress import track
from components.stage import hardware

CLIPART = "deb:openclipart-svg==1:0.18+dfsg-19"
VENDORS = (
    "npm:@iconify-json/noto==1.2.9",
    "npm:@iconify-json/twemoji==1.2.5",
    "npm:@iconify-json/openmoji==1.2.29",
    "npm:@iconify-json/fluent-emoji-flat==1.2.6",
)
LABELS = "npm:emojibase-data==17.0.0"
TITLES = TextFilter(min_chars=3, max_chars=60, max_repeats=20, languages=("en",))
"""What `cpu.toml` asks of clip art's titles."""
JUDGED = Path(__file__).with_name("alignment_titles.json")
SIDE = 256
"""Pixels that pictures are drawn at: what the funnel hands to models."""
SHRUNK = 64
REPLACED = 0.05
LOWEST = 0.02
RESAMPLES = 1000
SEED, FOLDS, THREADS = 0, 5, 2
RIDGE = 100.0
"""Of 1, 10, 100 and 1000 the best average precision on clip art: the baseline at its best."""


@dataclass(frozen=True)
class Corpus:
    """Pictures, their texts, and which texts were replaced."""

    pairs: Pairs
    ids: tuple[str, ...]
    replaced_N: npt.NDArray[np.bool_]


def load_corpus(limit: int) -> Corpus:
    """What the text filter leaves, without pictures that repeat; at most `limit` a source (0: all)."""
    images, texts, groups, keys, ids = [], [], [], [], []
    for locator in (CLIPART, *VENDORS):
        seen: set[str] = set()
        reader, drafts = plan(locator)
        drafts = sorted(drafts, key=lambda draft: share(SEED, locator, draft.original_id))[: limit or None]
        for draft in track(drafts, f"draw {locator}", total=len(drafts)):
            try:
                image = READERS[reader].render(draft.payload, SIDE)  # type: ignore[misc]
            except (OSError, ValueError):
                continue
            digest = str(imagehash.phash(image))
            if digest in seen or np.ptp(np.asarray(image)) == 0:
                continue
            seen.add(digest)
            images.append(image)
            texts.append(text_of(draft.turns))
            groups.append(locator)
            keys.append(f"{locator}/{draft.original_id}")
            ids.append(draft.original_id)
    replaced_N, texts = replace_texts(texts, groups, keys)
    features_ND = judge_safety(images, threads=THREADS).features_ND
    images = [image.resize((SHRUNK, SHRUNK)) for image in images]  # all that is looked at again
    return Corpus(Pairs(images, texts, groups, keys, features_ND), tuple(ids), replaced_N)


def plan(locator: str) -> tuple[str, list[Draft]]:
    """Name of the reader, and what the text filter leaves of the source."""
    downloads = Path(os.environ.get("OPSIN_DOWNLOADS", Execution().downloads))
    emoji = locator != CLIPART
    source = SourceConfig(
        locator=locator,
        reader="emoji" if emoji else "clipart",
        category="drawing",
        options={"labels": LABELS} if emoji else {},
    )
    wanted = {"data": locator} | ({"labels": LABELS} if emoji else {})
    archives = {role: packages.fetch(each, source, downloads).path for role, each in wanted.items()}
    drafts = READERS[source.reader].plan(archives, source, CurateConfig(sources=(source,), seed=SEED))
    if emoji:
        return source.reader, drafts
    problems = find_text_problems([(locator, each.turns) for each in drafts], {locator: TITLES})
    return source.reader, [each for place, each in enumerate(drafts) if place not in problems]


def replace_texts(
    texts: Sequence[str], groups: Sequence[str], keys: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Pass on the texts of a seeded 5% of each group among them."""
    mixed = list(texts)
    for group in sorted(set(groups)):
        members = [place for place, each in enumerate(groups) if each == group]
        ranked = sorted(members, key=lambda place: share(SEED, "replaced", keys[place]))
        chosen = ranked[: int(REPLACED * len(ranked))]
        for place, giver in zip(chosen, [*chosen[1:], *chosen[:1]], strict=True):
            mixed[place] = texts[giver]
    return np.array([old != new for old, new in zip(texts, mixed, strict=True)]), mixed


def score_by_ridge(pairs: Pairs) -> npt.NDArray[np.float64]:
    """The baseline: a linear map from the same image features to the same text embeddings, cross-fitted;
    the cosine with the own text, less the mean of the five best of the group (better than the cosine alone).
    """
    assert pairs.features_ND is not None
    text_NX, folds_N = embed_texts(pairs.texts, threads=THREADS), assign_folds(pairs.keys, FOLDS, SEED)
    groups_N, scores_N = np.array(pairs.groups), np.zeros(len(pairs.texts))
    for fold in range(FOLDS):
        train, held_out = folds_N != fold, folds_N == fold
        mean, std = pairs.features_ND[train].mean(0), pairs.features_ND[train].std(0) + 1e-3
        vision_NX = (pairs.features_ND - mean) / std
        centre = text_NX[train].mean(0)
        with threadpool_limits(1):
            guess_NX = Ridge(RIDGE).fit(vision_NX[train], text_NX[train]).predict(vision_NX[held_out])
        guess_NX, known_NX = unit(guess_NX - centre), unit(text_NX - centre)
        rows = np.flatnonzero(held_out)
        for group in np.unique(groups_N):
            own = rows[groups_N[rows] == group]
            cosines = guess_NX[groups_N[rows] == group] @ known_NX[groups_N == group].T
            best = np.sort(cosines, axis=1)[:, -5:].mean(1)
            scores_N[own] = (guess_NX[groups_N[rows] == group] * known_NX[own]).sum(1) - best
    return scores_N


def unit(vectors_NX: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scaled_NX: npt.NDArray[Any] = vectors_NX / np.linalg.norm(vectors_NX, axis=1, keepdims=True)
    return scaled_NX


def quality(scores_N: npt.NDArray[np.float64], corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Per source: AUC, average precision and precision in the lowest 2%, with bootstrap intervals."""
    groups_N, found = np.array(corpus.pairs.groups), {}
    for group in sorted(set(corpus.pairs.groups)):
        rows = np.flatnonzero((groups_N == group) & ~np.isnan(scores_N))
        wrong, low = corpus.replaced_N[rows], -scores_N[rows]
        drawn = resample(wrong)
        lowest = np.argsort(-low, kind="stable")[: round(LOWEST * len(rows))]
        found[group] = {
            "pairs": len(rows),
            "replaced": int(wrong.sum()),
            "auc": auc(wrong, low),
            "auc_interval": interval([auc(wrong[each], low[each]) for each in drawn]),
            "average_precision": average_precision(wrong, low),
            "average_precision_interval": interval(
                [average_precision(wrong[each], low[each]) for each in drawn]
            ),
            "precision_in_lowest_2_percent": float(wrong[lowest].mean()),
        }
    return found


def resample(wrong: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Bootstrap draws of the wrong and of the right ones, each as many as there are."""
    rng, parts = np.random.default_rng(SEED), (np.flatnonzero(wrong), np.flatnonzero(~wrong))
    return [np.concatenate([rng.choice(part, len(part)) for part in parts]) for _ in range(RESAMPLES)]


def auc(wrong: npt.NDArray[np.bool_], low: npt.NDArray[np.float64]) -> float:
    """Chance that a wrong one is lower than a right one (Mann and Whitney's U)."""
    count = int(wrong.sum())
    ranks = rankdata(low)[wrong].sum() - count * (count + 1) / 2
    return float(ranks / (count * (len(wrong) - count)))


def average_precision(wrong: npt.NDArray[np.bool_], low: npt.NDArray[np.float64]) -> float:
    """Precision at each wrong one, from the lowest score up, on average."""
    ranked = wrong[np.argsort(-low, kind="stable")]
    hits = np.flatnonzero(ranked)
    return float((np.arange(1, len(hits) + 1) / (hits + 1)).mean())


def interval(values: Sequence[float]) -> list[float]:
    tail = (1 - CONFIDENCE) / 2
    return [float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))]


def ratio_interval(
    ours_N: npt.NDArray[np.float64], peer_N: npt.NDArray[np.float64], corpus: Corpus
) -> tuple[float, list[float]]:
    """Our AUC on clip art by theirs, over the same resampled pairs."""
    rows = np.flatnonzero(np.array(corpus.pairs.groups) == CLIPART)
    wrong, ours, theirs = corpus.replaced_N[rows], -ours_N[rows], -peer_N[rows]
    ratios = [auc(wrong[each], ours[each]) / auc(wrong[each], theirs[each]) for each in resample(wrong)]
    return auc(wrong, ours) / auc(wrong, theirs), interval(ratios)


def judged_titles() -> dict[str, Any]:
    """Wrong titles among those judged by eye: of a random draw, and of the lowest scores of the full run."""
    titles = json.loads(JUDGED.read_text())["titles"]
    found = {}
    for drawn in ("random", "lowest"):
        verdicts = Counter(each["fits"] for each in titles.values() if drawn in each["drawn"])
        total = verdicts.total()
        found[drawn] = {
            "judged": total,
            "wrong": verdicts[False],
            "share": verdicts[False] / total,
            "interval": wilson(verdicts[False], total),
        }
    return found


def wilson(hits: int, total: int) -> list[float]:
    """Wilson's interval of a share."""
    z, rate = 1.96, hits / total
    centre, spread = (
        rate + z * z / (2 * total),
        z * (rate * (1 - rate) / total + z * z / (4 * total**2)) ** 0.5,
    )
    return [(centre - spread) / (1 + z * z / total), (centre + spread) / (1 + z * z / total)]


def timed(score: Callable[[], Any]) -> tuple[npt.NDArray[np.float64], float]:
    """Scores, and the processor seconds that they took."""
    begin = time.process_time()
    return np.array(score()), time.process_time() - begin


def main() -> None:
    small = quick(__doc__ or "")
    corpus = load_corpus(150 if small else 0)
    config = ContrastiveConfig(folds=FOLDS)
    unseen_texts = replace(corpus.pairs, keys=corpus.pairs.texts)
    pixels = config.model_copy(update={"vision": "pixels"})
    contenders: dict[str, Callable[[], Any]] = {
        "contrastive on Open-NSFW features": lambda: Contrastive(config, SEED, THREADS).score(corpus.pairs),
        f"ridge regression on the same features (scikit-learn {version('scikit-learn')})": lambda: (
            score_by_ridge(corpus.pairs)
        ),
    }
    if not small:
        contenders |= {
            "contrastive from pixels": lambda: Contrastive(pixels, SEED, THREADS).score(corpus.pairs),
            "contrastive on Open-NSFW features, of texts never learned from": lambda: Contrastive(
                config, SEED, THREADS
            ).score(unseen_texts),
        }
    results = {name: timed(run) for name, run in contenders.items()}
    (ours, (ours_N, _)), *others = results.items()
    ratios = {name: ratio_interval(ours_N, scores_N, corpus) for name, (scores_N, _) in others}
    measured = {name: quality(scores_N, corpus) for name, (scores_N, _) in results.items()}
    report(
        {
            "name": "alignment_quality",
            "claim": "texts that were replaced rank below right ones of the same source",
            "unit": "AUC on Open Clip Art, held out",
            "ours": measured[ours][CLIPART]["auc"],
            "peers": {name: measured[name][CLIPART]["auc"] for name, _ in others},
            "floor": {"chance": 0.5},
            "ratios": {name: ratio for name, (ratio, _) in ratios.items()},
            "intervals": {name: bounds for name, (_, bounds) in ratios.items()},
            "quality": measured,
            "processor_seconds": {name: round(seconds, 1) for name, (_, seconds) in results.items()},
            "titles_judged_by_eye": judged_titles() if JUDGED.exists() else None,
            "quick": small,
            "versions": {each: version(each) for each in ("torch", "onnxruntime", "scikit-learn")}
            | {"python": platform.python_version()},
            "machine": hardware(),
        }
    )


if __name__ == "__main__":
    main()
