"""The packaged MiniLM."""

from __future__ import annotations

import os

import numpy as np
import torch

from components.curate.scorers.text_embeddings import embed_texts


def test_embeddings_are_unit_vectors_and_near_for_near_meanings() -> None:
    vectors = embed_texts(["a cat", "a small kitten", "a bar chart of sales", ""], threads=1)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5 > 0.2 > cosines[0, 2]


def test_embeddings_keep_the_order_and_repeat_repeated_texts() -> None:
    texts = [f"picture number {number} of many" for number in range(70)]
    vectors = embed_texts([*texts, texts[3]], threads=1)
    assert np.array_equal(vectors[70], vectors[3])
    assert np.allclose(vectors[:70][::-1], embed_texts(texts[::-1], threads=1), atol=1e-5)
    assert embed_texts([], threads=1).shape == (0, 384)


def test_embeddings_are_the_same_for_any_number_of_threads() -> None:
    texts = [f"picture {'of many things ' * (number % 9)} {number}" for number in range(200)]
    assert np.array_equal(embed_texts(texts, threads=1), embed_texts(texts, threads=3))


def test_embedding_leaves_threads_and_environment_as_they_were() -> None:
    threads, environment = torch.get_num_threads(), dict(os.environ)
    embed_texts(["a cat"], threads=threads + 1)
    assert torch.get_num_threads() == threads and dict(os.environ) == environment
