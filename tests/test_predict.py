"""The command that classifies pictures."""

import json

import numpy as np
import pytest
from command_line import ROOT, assert_one_line, run_here
from PIL import Image

from jax_resnet.predict import Predictor


@pytest.mark.slow  # if it is the first to train the run
def test_pictures_of_any_kind_are_classified(tiny, finished, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    paths = [tmp_path / name for name in ("noise.png", "grey one.png", "wide.jpg")]
    Image.fromarray(pixels).save(paths[0])
    Image.fromarray(pixels[..., 0]).save(paths[1])
    Image.fromarray(np.tile(pixels, (3, 5, 1))).save(paths[2])
    options = ("--top", "2", "--json", str(tmp_path / "answers.json"))
    words = [*map(str, paths), *options]
    result = run_here(tiny, finished, *words, module="predict")
    assert (result.returncode, result.stdout.count("\n")) == (0, 3), result.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())["images"]
    assert [answer["file"] for answer in answers] == [*map(str, paths)]
    predictor = Predictor.open(finished)
    (expected,) = predictor.predict(pixels[None])
    first, second = answers[0]["classes"]
    assert first["label"] == predictor.info.class_names[expected.argmax()]
    assert [first["confidence"], second["confidence"]] == sorted(expected)[:-3:-1]
    assert f"{paths[0]}: {first['label']} {100 * expected.max():.1f} %" in result.stdout


@pytest.mark.slow
def test_files_that_are_no_pictures(tiny, finished, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    apple = str(ROOT / "serve/examples/apple.png")
    words = [str(tmp_path / "text.png"), apple]
    result = run_here(tiny, finished, *words, module="predict")
    assert f"{apple}: " in result.stdout  # the others are answered
    assert result.returncode == 2
    assert "1 of 2 files could not be read: '" in result.stderr
    unwritable = run_here(tiny, finished, *words, "--json=.", module="predict")
    assert_one_line(unwritable, r"cannot write \.: name another file")
    missing = run_here(tiny, finished, str(tmp_path / "none.png"), module="predict")
    assert_one_line(missing, "none.png' is no file")
