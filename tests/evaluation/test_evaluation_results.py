import dataclasses
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from metadata_fixtures import run_metadata
from PIL import Image

from jax_resnet.evaluation import report
from jax_resnet.evaluation.figures import draw_all, draw_confusion
from jax_resnet.evaluation.metrics import cross_entropy
from jax_resnet.evaluation.results import compare, evaluate
from jax_resnet.runtime.errors import UserError

N = 120
PETS = dataclasses.replace(
    run_metadata().dataset,
    class_names=("cat", "dog", "oak", "elm", "car", "van", "none"),
    superclass_names=("animal", "tree", "vehicle"),
    superclass_of=(0, 0, 1, 1, 2, 2, 2),
)


def make(seed):
    """Returns logits that lean towards the label, with ties; class 6 has no image."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, 6, N)
    logits = 2 * rng.normal(size=(N, 7))
    logits[np.arange(N), labels] += 1.5
    return (np.round(4 * logits) / 4).astype(np.float32), labels


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(*make(0), PETS, split="test")


@pytest.fixture(scope="module")
def as_json(evaluation):
    header = {
        "title": "tiny",
        "checkpoint": "best",
        "step": 9,
        "epoch": 2,
        "selected_on": "test",
        "dataset": "pets",
        "split": "test",
        "device": "cpu",
    }
    content = header | evaluation
    return json.loads(json.dumps(content, allow_nan=False))


def test_results_equal_plain_loops(as_json):
    logits, labels = make(0)
    rows, loss, bins, of = logits.tolist(), 0.0, {}, PETS.superclass_of
    predicted = [row.index(max(row)) for row in rows]
    for row, y, p in zip(rows, labels, predicted, strict=True):
        total = math.fsum(map(math.exp, row))
        loss += math.log(total) - row[y]
        confidence = math.exp(max(row)) / total
        bins.setdefault(math.ceil(confidence * 15), []).append((confidence, p == y))
    gaps = [sum(hit - c for c, hit in members) for members in bins.values()]
    order = [sorted(range(7), key=lambda c: (-row[c], c)) for row in rows]
    in_top5 = [y in best[:5] for y, best in zip(labels, order, strict=True)]
    assert as_json["n"] == N
    assert as_json["top1"] == np.mean(predicted == labels)
    assert as_json["top5"] == np.mean(in_top5)
    assert as_json["loss"] == pytest.approx(loss / N, rel=1e-12)
    assert as_json["ece"] == pytest.approx(sum(map(abs, gaps)) / N, rel=1e-9)

    hits = [of[p] == of[y] for p, y in zip(predicted, labels, strict=True)]
    assert as_json["superclass_top1"] == np.mean(hits)
    for c, group in enumerate(as_json["per_class"][:6]):
        own = np.array(predicted)[labels == c]
        accuracy = np.mean(own == c)
        expected = {"name": PETS.class_names[c], "count": len(own)}
        assert group == expected | {"accuracy": accuracy}
    assert as_json["per_class"][6] == {"name": "none", "count": 0, "accuracy": None}
    for s, group in enumerate(as_json["per_superclass"]):
        own = [hit for hit, y in zip(hits, labels, strict=True) if of[y] == s]
        assert (group["count"], group["accuracy"]) == (len(own), np.mean(own))
    pairs = zip(labels.tolist(), predicted, strict=True)
    wrong = Counter((y, p) for y, p in pairs if y != p)
    expected = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:10]
    names = PETS.class_names
    assert as_json["most_confused"] == [
        [names[y], names[p], n] for (y, p), n in expected
    ]


def test_intervals_and_mistakes(as_json):
    logits, labels = make(0)
    for name in ("top1", "top5", "loss"):
        low, high = as_json["intervals"][name]
        assert low < as_json[name] < high
    confidence = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:25]
    assert [m["index"] for m in as_json["mistakes"]] == order.tolist()
    first, names = as_json["mistakes"][0], PETS.class_names
    assert first["label"] == names[labels[order[0]]]
    assert first["predicted"] == names[logits[order[0]].argmax()]
    assert first["confidence"] == pytest.approx(confidence[order[0]], rel=1e-5)


def test_the_temperature_is_fitted_on_held_out_images(evaluation):
    logits, labels = make(0)
    held_out = 4 * logits, labels
    found = evaluate(logits, labels, PETS, split="test", held_out=held_out)[
        "calibration"
    ]
    own = evaluation["calibration"]
    assert found["temperature"] == pytest.approx(4 * own["temperature"], rel=1e-3)
    assert found["fitted_on"] == "120 training images that were held out"
    assert "cross-validated" in own["fitted_on"]
    expected = cross_entropy(logits / found["temperature"], labels).mean()
    assert found["loss_after"] == pytest.approx(expected, rel=1e-6)


def test_unusable_logits_are_refused():
    logits, labels = make(0)
    with pytest.raises(UserError, match="two"):
        evaluate(logits[:1], labels[:1], PETS, split="test[:1]")
    logits[3, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        evaluate(logits, labels, PETS, split="test")


def test_the_page_shows_the_results(as_json):
    page = report.render(as_json, "pictures")
    low, high = (f"{100 * x:.2f} %" for x in as_json["intervals"]["top1"])
    assert f"| top-1 | {100 * as_json['top1']:.2f} % ({low} to {high}) |" in page
    assert "the split it is evaluated on" in page
    page = report.render(as_json | {"selected_on": "holdout"}, "pictures")
    assert "optimistic" not in page


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_the_pictures_of_the_page(tmp_path, as_json):
    names = ("$x^$", "\\frac", "a\nb\0", "\u718a", "", "x" * 400, "$x^$")
    info = dataclasses.replace(PETS, class_names=names, superclass_names=names[-3:])
    evaluation = evaluate(*make(0), info, split="test")
    images = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 4), dtype=np.uint8)
    pictures = draw_all(evaluation, info, images)
    ungrouped = dataclasses.replace(info, superclass_names=(), superclass_of=())
    draw_confusion(np.array(evaluation["confusion"]), ungrouped)
    page = report.render(as_json, "pictures")
    assert set(re.findall(r"\(pictures/(.*?)\)", page)) == set(pictures)
    for name, picture in pictures.items():
        (tmp_path / name).write_bytes(picture)
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_a_comparison(as_json):
    (first, labels), (second, _) = make(0), make(1)
    a, b = (logits.argmax(axis=1) == labels for logits in (first, second))
    found = compare(["runs/a", "runs/b"], [a, b])
    only = [int(np.sum(a & ~b)), int(np.sum(b & ~a))]
    (test,) = found["paired_tests"]
    assert [test["only_first"], test["only_second"]] == only
    mean = (a.mean() + b.mean()) / 2
    assert found["top1_over_models"]["mean"] == pytest.approx(mean)

    models = [{"workdir": name, **as_json} for name in ("runs/a", "runs/b")]
    header = {"dataset": "pets", "split": "test", "models": models}
    page = report.render_comparison(header | found)
    p_value = f"{test['p_value']:.3g}"
    assert f"| runs/a | runs/b | {only[0]} | {only[1]} | {p_value} |" in page
    assert f"Mean {100 * mean:.2f} %, standard deviation" in page
