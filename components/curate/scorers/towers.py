"""The small contrastive model: an image and a text tower that meet in one space, trained by CLIP's loss.

B: pairs of a batch, N: pairs of the corpus, D: width of the shared space.

Everything random comes from the model's own generator, so that several can train in threads side by side
and each comes out the same every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.config.scorers import ContrastiveConfig

SIDE = 64
"""Pixels that the convolutional tower looks at."""
MAX_SHIFT = 4
"""Pixels that training pictures are moved by at most."""
FIRST_SCALE = math.log(1 / 0.07)
"""CLIP's first temperature (Radford et al. 2021), and the bound on what it learns."""
MAX_SCALE = math.log(100)


class Dropout(nn.Module):
    """Dropout from a generator of its own: torch's takes the global one, which threads would share."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        return x * (torch.rand(x.shape, generator=self.generator) >= self.rate) / (1 - self.rate)


class FeatureTower(nn.Module):
    """Frozen features → the shared space: standardised, one hidden layer."""

    def __init__(self, train_NX: Tensor, config: ContrastiveConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = nn.Buffer(train_NX.mean(0))
        self.std = nn.Buffer(train_NX.std(0, correction=0) + 1e-3)
        self.layers = nn.Sequential(
            nn.Linear(train_NX.shape[1], config.hidden),
            nn.GELU(),
            Dropout(config.dropout, generator),
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, features_BX: Tensor) -> Tensor:
        return F.normalize(self.layers((features_BX - self.mean) / self.std), dim=-1)


class PixelTower(nn.Module):
    """64×64 RGB bytes → the shared space: 16×16, 8×8, 4×4, one hidden layer; 0.4M parameters and some."""

    CHANNELS = (32, 64, 128)

    def __init__(self, config: ContrastiveConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        layers: list[nn.Module] = []
        channels, kernel, stride = 3, 4, 4
        for wider in self.CHANNELS:
            layers += [nn.Conv2d(channels, wider, kernel, stride, int(kernel == 3)), nn.GroupNorm(8, wider)]
            layers += [nn.GELU(), nn.Conv2d(wider, wider, 3, 1, 1), nn.GroupNorm(8, wider), nn.GELU()]
            channels, kernel, stride = wider, 3, 2
        flat = channels * (SIDE // 16) ** 2
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(flat, config.hidden),
            nn.GELU(),
            Dropout(config.dropout / 2, generator),
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        if self.training:
            down, right = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,), generator=self.generator).tolist()
            pixels_B3HW = torch.roll(pixels_B3HW, (down, right), (2, 3))
        return F.normalize(self.layers(pixels_B3HW.float() / 127.5 - 1), dim=-1)


class TwoTowers(nn.Module):
    """Cosines of pictures and texts, and the scale that makes them logits."""

    def __init__(
        self, train_vision: Tensor, train_text_NX: Tensor, config: ContrastiveConfig, seed: int
    ) -> None:
        super().__init__()
        self.config, self.generator = config, torch.Generator().manual_seed(seed)
        with seeded(seed):
            self.vision: nn.Module = (
                PixelTower(config, self.generator)
                if train_vision.ndim == 4
                else FeatureTower(train_vision, config, self.generator)
            )
            self.text = FeatureTower(train_text_NX, config, self.generator)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=MAX_SCALE).exp()

    def fit(self, vision: Tensor, text_NX: Tensor, text_ids_N: Tensor) -> None:
        """AdamW with one cycle of the learning rate; equal texts of a batch are all right answers."""
        config = self.config
        size = min(config.batch_size, len(text_NX))
        steps = config.epochs * (len(text_NX) // size)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
        self.train()
        for _ in range(config.epochs):
            order_N = torch.randperm(len(text_NX), generator=self.generator)
            for start in range(0, len(order_N) - size + 1, size):
                chosen_B = order_N[start : start + size]
                loss = self._loss(vision[chosen_B], text_NX[chosen_B], text_ids_N[chosen_B])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        self.eval()

    def _loss(self, vision: Tensor, text_BX: Tensor, text_ids_B: Tensor) -> Tensor:
        logits_BB = self.scale * self.vision(vision) @ self.text(text_BX).T
        same_BB = (text_ids_B[:, None] == text_ids_B[None]).float()
        target_BB = same_BB / same_BB.sum(1, keepdim=True)
        return (F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB)) / 2


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator from a seed, and as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
