"""What happens to each case when training pictures and volumes are altered.

A draw depends on the keys of the run, the epoch and the case alone, never on its place in a batch.
Every case draws the same numbers in the same order, used or not: changing one strength leaves all
other alterations as they were.
"""

# n cases, G control points along a side

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.seeds import seed_for
from bench.spec import Augmentation

G = 5  # a bend is a Bezier surface of 5 x 5 control points, so none of it exceeds theirs; ours
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601
NAMES = (
    *("any", "h_flip", "v_flip", "quarter_turn", "quarters"),
    *("move", "shift_x", "shift_y", "scale", "rotate", "distort"),
    *("colour", "brightness", "contrast", "saturation", "hue"),
    *("crop_z", "crop_y", "crop_x", "noise", "noise_sd", "erase"),
    *("side_z", "side_y", "side_x", "corner_z", "corner_y", "corner_x"),
)


def bernstein(n_places: int) -> np.ndarray:
    """Return the weight of each control point at places along a side: (n_places, G), sum 1."""
    at = (np.arange(n_places)[:, None] + 0.5) / n_places
    order = np.arange(G)
    choices = np.array([math.comb(G - 1, k) for k in range(G)])
    return choices * at**order * (1 - at) ** (G - 1 - order)


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of some cases, as uniform numbers and as what they mean under the settings."""

    settings: Augmentation
    numbers: np.ndarray  # (n, 28 + 2 G G) in [0, 1)
    seeds: tuple[int, ...]  # (n,) one per case, for noise

    @classmethod
    def of(cls, settings: Augmentation, cases: Sequence[str], *keys: object) -> Draws:
        """Draw for these cases.

        Args:
            settings: how much of what.
            cases: n names.
            keys: whatever else the draws depend on: run, epoch, modality.
        """
        seeds = tuple(seed_for("augmentation", *keys, case) for case in cases)
        size = len(NAMES) + 2 * G * G
        numbers = [np.random.Generator(np.random.PCG64(seed)).random(size) for seed in seeds]
        return cls(settings, np.array(numbers).reshape(len(seeds), size), seeds)

    def _u(self, name: str) -> np.ndarray:
        """Return (n,) uniform numbers in [0, 1)."""
        return self.numbers[:, NAMES.index(name)]

    def _happens(self, name: str, p: float) -> np.ndarray:
        """Return in which cases something happens: (n,) bool."""
        return (self._u("any") < self.settings.p) & (self._u(name) < p)

    def _within(self, name: str, strength: float, happens: np.ndarray) -> np.ndarray:
        """Return (n,) in -strength to strength, 0 where it does not happen."""
        return np.where(happens, strength * (2 * self._u(name) - 1), 0.0)

    @cached_property
    def h_flip(self) -> np.ndarray:
        """Which are mirrored left to right: (n,) bool."""
        return self._happens("h_flip", self.settings.p_h_flip)

    @cached_property
    def v_flip(self) -> np.ndarray:
        """Which are mirrored upside down: (n,) bool."""
        return self._happens("v_flip", self.settings.p_v_flip)

    @cached_property
    def _quarters(self) -> np.ndarray:
        """How many quarter turns: (n,) int, 0 to 3."""
        turned = self._happens("quarter_turn", self.settings.p_quarter_turn)
        return np.where(turned, 1 + np.floor(3 * self._u("quarters")), 0).astype(int)

    def maps(self, height: int, width: int) -> np.ndarray:
        """Return where each place of an altered picture comes from, but for the bend: (n, 2, 3).

        Places are (x, y, 1) with x and y from -1 to 1 over the picture.
        """
        chosen, given = self._happens("move", self.settings.p_move), self.settings
        angle = np.radians(self._within("rotate", given.rotate, chosen))
        factor = 1 + self._within("scale", given.scale, chosen)
        shift_x = 2 * self._within("shift_x", given.shift, chosen)
        shift_y = 2 * self._within("shift_y", given.shift, chosen)
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        turn_cos = np.array([1, 0, -1, 0])[self._quarters]
        turn_sin = np.array([0, 1, 0, -1])[self._quarters]
        mirror_x, mirror_y = np.where(self.h_flip, -1, 1), np.where(self.v_flip, -1, 1)
        # first move, then mirror, then turn; turns are of pixels, not of shares of unlike sides
        a, b = cos * mirror_x, -sin * mirror_x * height / width
        c, d = sin * mirror_y * width / height, cos * mirror_y
        e, f = -shift_x * mirror_x, -shift_y * mirror_y
        rows_x = turn_cos * [a, b, e] - turn_sin * height / width * [c, d, f]
        rows_y = turn_sin * width / height * [a, b, e] + turn_cos * [c, d, f]
        return np.stack([rows_x.T, rows_y.T], 1)

    @cached_property
    def bends(self) -> np.ndarray:
        """How far control points move, in the unit of `maps`: (n, 2, G, G)."""
        chosen = self._happens("distort", self.settings.p_distort)
        free = 2 * self.numbers[:, len(NAMES) :].reshape(-1, 2, G, G) - 1
        return free * (2 * self.settings.distort * chosen)[:, None, None, None]

    def moved(self, maps: np.ndarray) -> np.ndarray:
        """Return in which cases a picture is not left in place: (n,) bool."""
        in_place = (maps == np.eye(2, 3)).all((1, 2))
        return ~in_place | self.bends.any((1, 2, 3))

    @cached_property
    def offsets(self) -> np.ndarray:
        """What is added to each value of 0 to 1, brightness and contrast: (n,)."""
        return self._colour("brightness") + 0.5 * (1 - self.factors)

    @cached_property
    def factors(self) -> np.ndarray:
        """What each value is multiplied by: (n,)."""
        return 1 + self._colour("contrast")

    def _colour(self, name: str) -> np.ndarray:
        chosen = self._happens("colour", self.settings.p_colour)
        return self._within(name, getattr(self.settings, name), chosen)

    @cached_property
    def mixtures(self) -> np.ndarray | None:
        """How red, green and blue are mixed, saturation and hue: (n, 3, 3); None: not at all."""
        if not (self.settings.saturation or self.settings.hue):
            return None
        saturation = (1 + self._colour("saturation"))[:, None, None]
        angle = np.radians(self._colour("hue"))[:, None, None]
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
        return (saturation * np.eye(3) + (1 - saturation) * LUMA) @ turn

    @cached_property
    def coloured(self) -> np.ndarray:
        """In which cases values change: (n,) bool."""
        names = ("brightness", "contrast", "saturation", "hue")
        return np.any([self._colour(name) != 0 for name in names], 0)

    def steps(self, sides: Sequence[int]) -> np.ndarray:
        """Return by how many voxels a volume is shifted along each axis: (n, 3) int."""
        chosen = self._happens("any", 1.0)
        shares = [self._within(f"crop_{axis}", self.settings.crop, chosen) for axis in "zyx"]
        return np.rint(np.stack(shares, 1) * sides).astype(int)

    @cached_property
    def noise(self) -> np.ndarray:
        """How many standard deviations of noise a volume gets: (n,)."""
        chosen = self._happens("noise", self.settings.p_noise)
        return np.where(chosen, self.settings.noise * self._u("noise_sd"), 0.0)

    def boxes(self, sides: Sequence[int]) -> np.ndarray:
        """Return first and last + 1 of the box that is erased, along each axis: (n, 3, 2) int."""
        chosen = self._happens("erase", self.settings.p_erase)[:, None]
        shares = np.stack([self._u(f"side_{axis}") for axis in "zyx"], 1)
        sizes = np.rint(self.settings.erase * chosen * shares * sides).astype(int)
        corners = np.stack([self._u(f"corner_{axis}") for axis in "zyx"], 1)
        first = np.floor(corners * (np.array(sides) - sizes + 1)).astype(int)
        return np.stack([first, first + sizes], 2)
