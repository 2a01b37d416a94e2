import math
import re
from dataclasses import replace

import numpy as np
import pytest
from metadata_fixtures import HISTORY, INFO, record
from PIL import Image

from jax_resnet.checkpoint.history import best_epoch
from jax_resnet.reporting.curves import draw_curves
from jax_resnet.reporting.log import Final, render_log


def epoch_rows(log: str) -> list[list[str]]:
    table = log.split("## Epochs")[1].split("## Result")[0]
    rows = [line.strip("| ").split(" | ") for line in table.split("\n")]
    return [row for row in rows if row[0].strip("*").isdigit()]


def test_log_shows_the_records():
    log = render_log(INFO, HISTORY[:4], None)
    assert log.startswith("# resnet56\n\n**Unfinished: epochs 4 of 5.**\n")
    for text in ("861,620", "`test`", "cifar100: 50,000", "jax 0.10.2", INFO.command):
        assert text in log
    rows = epoch_rows(log)
    assert rows[0] == ["1", "3.8750", "5.00", "4.0571", "10.00", "30.00", "0.1", "11.0"]
    # The first of two equals is the best so far, and it alone is bold.
    assert [row[0] for row in rows] == ["1", "2", "**3**", "4"]
    assert rows[2][4] == "**43.21**"
    assert "## Result" not in log


def test_log_of_the_end_tells_how_the_best_was_selected():
    final = Final(True, 3725.0, 31.26)
    log = render_log(INFO, HISTORY, final)
    assert "Finished: epochs 5 of 5." in log and "Unfinished" not in log
    result = log.split("## Result\n")[1]
    assert re.search(r"\| last \| 5 \|.*\| 40.00 \|", result)
    assert re.search(r"\| best \| 3 \|.*\| 43.21 \|", result)
    assert "optimistic. Last is the figure to quote." in result
    assert "3,725 s in all, 31.3 s" in result and "3,000 images/s" in result
    part = render_log(replace(INFO, eval_name="test[:5000]"), HISTORY, final)
    assert "optimistic" in part
    held = render_log(replace(INFO, eval_name="holdout"), HISTORY, final)
    assert "selected on `holdout`" in held and "figure to quote" not in held
    stopped = render_log(INFO, HISTORY[:2], Final(False, 1.0, 1.0))
    assert "**Unfinished: epochs 2 of 5.**" in stopped and "## Result so far" in stopped


def test_best_is_the_first_of_equals_and_never_nan():
    assert best_epoch([]) is None
    assert best_epoch(HISTORY) is HISTORY[2]
    assert best_epoch([record(1, val_top1=math.nan), *HISTORY[1:2]]) is HISTORY[1]
    assert best_epoch([record(1, val_top1=math.nan)]) is None


def test_changes_are_said():
    info = replace(INFO, changes=("from step 9 on seed was 0 and is 1",))
    log = render_log(info, [record(1)], None)
    assert "| changed | from step 9 on seed was 0 and is 1 |" in log


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.filterwarnings("error")
def test_curves_are_a_picture_of_the_history(tmp_path, epochs):
    hard = "$x^$ \\frac \n\0\u065e \u718a \u05d0" if epochs == 5 else "plain"
    info = replace(INFO, title=30 * hard, dataset=hard, eval_name=hard)
    picture = draw_curves(info, HISTORY[:epochs])
    (tmp_path / "a.png").write_bytes(picture)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert pixels.shape == (576, 1320, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (214, 39, 40)):  # two lines, a star
        assert (pixels == colour).all(axis=-1).sum() > 20
