"""Draws the examples of the demo: ``python serve/examples/draw.py``."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 256  # pixels
_SCALE = 2  # drawn larger, for smooth edges
_FULL = SIZE * _SCALE


def main() -> None:
    """Writes every picture beside this file."""
    for name, draw in PICTURES.items():
        picture = draw().filter(ImageFilter.GaussianBlur(2))
        grain = np.random.default_rng(0).normal(0, 5, (_FULL, _FULL, 1))
        pixels = np.clip(np.asarray(picture, np.float64) + grain, 0, 255)
        small = Image.fromarray(pixels.astype(np.uint8)).resize((SIZE, SIZE))
        small.quantize(128).save(Path(__file__).with_name(f"{name}.png"), optimize=True)


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    t = np.linspace(0, 1, _FULL)[:, None, None]
    rows = (1 - t) * np.array(top) + t * np.array(bottom)
    return Image.fromarray(np.broadcast_to(rows, (_FULL, _FULL, 3)).astype(np.uint8))


def _ball(
    image: Image.Image, x: float, y: float, radius: float, color: tuple[int, int, int]
) -> None:
    """A lit sphere; lengths as shares of the picture."""
    draw = ImageDraw.Draw(image)
    for step in range(60):
        part = step / 60
        r = radius * (1 - part) * _FULL
        shift = 0.35 * radius * part * _FULL
        cx, cy = x * _FULL - shift, y * _FULL - shift
        shade = 0.55 + 0.6 * part
        fill = tuple(min(255, round(c * shade + 70 * part**3)) for c in color)
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=fill)


def _apple() -> Image.Image:
    image = _gradient((250, 250, 248), (225, 222, 215))
    draw = ImageDraw.Draw(image)
    draw.ellipse(_box(0.22, 0.78, 0.8, 0.92), fill=(190, 186, 180))
    _ball(image, 0.42, 0.54, 0.27, (190, 25, 30))
    _ball(image, 0.58, 0.54, 0.27, (190, 25, 30))
    draw.line(_points([(0.5, 0.34), (0.53, 0.18)]), fill=(90, 60, 30), width=14)
    draw.ellipse(_box(0.53, 0.16, 0.72, 0.26), fill=(70, 140, 50))
    return image


def _orange() -> Image.Image:
    image = _gradient((245, 246, 250), (215, 215, 220))
    draw = ImageDraw.Draw(image)
    draw.ellipse(_box(0.18, 0.76, 0.84, 0.92), fill=(180, 178, 180))
    _ball(image, 0.5, 0.5, 0.35, (235, 130, 15))
    draw.ellipse(_box(0.46, 0.2, 0.52, 0.24), fill=(80, 110, 40))
    return image


def _sea() -> Image.Image:
    image = _gradient((120, 180, 235), (205, 225, 245))
    draw = ImageDraw.Draw(image)
    generator = np.random.default_rng(1)
    for row in range(_FULL // 2, _FULL, 2):
        depth = (row - _FULL / 2) / (_FULL / 2)
        color = tuple(
            round(c) for c in (30 - 10 * depth, 95 - 35 * depth, 150 - 40 * depth)
        )
        draw.rectangle((0, row, _FULL, row + 2), fill=color)
    for _ in range(260):
        depth = generator.uniform() ** 0.7
        x, y = generator.uniform() * _FULL, _FULL * (0.5 + depth / 2)
        length = 10 + 60 * depth
        draw.line((x, y, x + length, y), fill=(150, 195, 225), width=1 + int(4 * depth))
    return image


def _sunflower() -> Image.Image:
    image = _gradient((110, 170, 235), (150, 190, 110))
    draw = ImageDraw.Draw(image)
    draw.line(_points([(0.5, 0.5), (0.5, 1.0)]), fill=(70, 120, 40), width=22)
    for ring, (count, reach) in enumerate([(22, 0.4), (22, 0.33)]):
        for index in range(count):
            angle = 2 * math.pi * (index + ring / 2) / count
            tip = (0.5 + reach * math.cos(angle), 0.45 + reach * math.sin(angle))
            sides = [
                (
                    0.5 + 0.22 * math.cos(angle + turn),
                    0.45 + 0.22 * math.sin(angle + turn),
                )
                for turn in (-0.17, 0.17)
            ]
            fill = (250, 190 + 15 * ring, 20)
            draw.polygon(_points([(0.5, 0.45), sides[0], tip, sides[1]]), fill=fill)
    draw.ellipse(_box(0.33, 0.28, 0.67, 0.62), fill=(85, 50, 20))
    draw.ellipse(_box(0.4, 0.35, 0.6, 0.55), fill=(55, 32, 12))
    return image


def _mountain() -> Image.Image:
    image = _gradient((95, 150, 215), (215, 228, 240))
    draw = ImageDraw.Draw(image)
    slopes = [
        ([(0.0, 0.75), (0.25, 0.4), (0.5, 0.8)], (120, 130, 150)),
        ([(0.15, 0.85), (0.58, 0.18), (1.0, 0.85)], (90, 92, 105)),
        ([(0.58, 0.18), (0.66, 0.5), (0.6, 0.85), (1.0, 0.85)], (70, 72, 85)),
    ]
    for points, fill in slopes:
        draw.polygon(_points(points), fill=fill)
    snow = [(0.58, 0.18), (0.47, 0.35), (0.53, 0.33), (0.57, 0.4), (0.62, 0.33)]
    draw.polygon(_points([*snow, (0.68, 0.34)]), fill=(245, 248, 252))
    draw.rectangle(_box(0, 0.8, 1, 1), fill=(60, 95, 55))
    return image


def _rocket() -> Image.Image:
    image = _gradient((30, 60, 120), (150, 185, 225))
    draw = ImageDraw.Draw(image)
    draw.polygon(_points([(0.42, 0.72), (0.5, 1.0), (0.58, 0.72)]), fill=(255, 180, 50))
    draw.polygon(
        _points([(0.46, 0.72), (0.5, 0.9), (0.54, 0.72)]), fill=(255, 245, 200)
    )
    for side in (-1, 1):
        fin = [
            (0.5 + side * 0.1, 0.55),
            (0.5 + side * 0.2, 0.76),
            (0.5 + side * 0.1, 0.7),
        ]
        draw.polygon(_points(fin), fill=(190, 40, 40))
    draw.rectangle(_box(0.4, 0.28, 0.6, 0.73), fill=(235, 235, 240))
    draw.rectangle(_box(0.52, 0.28, 0.6, 0.73), fill=(205, 205, 215))
    draw.polygon(_points([(0.4, 0.28), (0.5, 0.07), (0.6, 0.28)]), fill=(190, 40, 40))
    draw.ellipse(_box(0.455, 0.36, 0.545, 0.45), fill=(60, 90, 140))
    return image


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
    return tuple(_FULL * edge for edge in (left, top, right, bottom))


def _points(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(_FULL * x, _FULL * y) for x, y in points]


PICTURES = {
    "apple": _apple,
    "mountain": _mountain,
    "orange": _orange,
    "rocket": _rocket,
    "sea": _sea,
    "sunflower": _sunflower,
}

if __name__ == "__main__":
    main()
