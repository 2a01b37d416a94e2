import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from jax_resnet.evaluation.metrics import (
    evaluate,
    expected_calibration_error,
    label_ranks,
    log_softmax,
    mean_log_probabilities,
)
from jax_resnet.evaluation.text import format_evaluation


@dataclass(frozen=True)
class Info:
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...] = ()
    superclass_of: tuple[int, ...] = ()


PETS = Info(
    ("cat", "dog", "oak", "elm", "car", "van"),
    ("animal", "tree", "vehicle"),
    (0, 0, 1, 1, 2, 2),
)


def names(classes: int) -> Info:
    return Info(tuple(f"class {i}" for i in range(classes)))


def draw(seed: int, n: int = 400, classes: int = 6, scale: float = 2.0):
    """Logits that lean towards the label, in steps of a quarter, so with ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = scale * rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    return (np.round(4 * logits) / 4).astype(np.float32), labels


def predictions(logits):
    """The prediction of each image by a plain loop, ties going to the first."""
    return [row.index(max(row)) for row in logits.tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_plain_loops(seed):
    logits, labels = draw(seed)
    result = evaluate(logits, labels, info=PETS)
    predicted = predictions(logits)

    top5 = loss = 0
    bins = {}
    for row, label, guess in zip(logits.tolist(), labels, predicted, strict=True):
        order = sorted(range(6), key=lambda c: (-row[c], c))
        top5 += label in order[:5]
        total = math.fsum(math.exp(x) for x in row)
        loss += math.log(total) - row[label]
        confidence = math.exp(max(row)) / total
        m = math.ceil(confidence * 15)
        bins.setdefault(m, []).append((confidence, guess == label))
    ece = sum(
        abs(np.mean([right for _, right in b]) - np.mean([c for c, _ in b])) * len(b)
        for b in bins.values()
    )
    n = len(labels)
    assert result.n == n
    assert result.top1 == np.mean(np.array(predicted) == labels)
    assert result.top5 == top5 / n
    assert result.loss == pytest.approx(loss / n, rel=1e-12)
    assert result.ece == pytest.approx(ece / n, rel=1e-9)

    for c, group in enumerate(result.per_class):
        mine = [p == c for p, y in zip(predicted, labels, strict=True) if y == c]
        assert (group.name, group.count) == (PETS.class_names[c], len(mine))
        assert group.accuracy == np.mean(mine)
    of = PETS.superclass_of
    for s, group in enumerate(result.per_superclass):
        mine = [
            of[p] == s for p, y in zip(predicted, labels, strict=True) if of[y] == s
        ]
        assert (group.name, group.count) == (PETS.superclass_names[s], len(mine))
        assert group.accuracy == np.mean(mine)
    assert result.superclass_top1 == np.mean(
        [of[p] == of[y] for p, y in zip(predicted, labels, strict=True)]
    )
    wrong = {}
    for p, y in zip(predicted, labels, strict=True):
        if p != y:
            wrong[int(y), p] = wrong.get((int(y), p), 0) + 1
    expected = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:10]
    assert result.most_confused == tuple(
        (PETS.class_names[y], PETS.class_names[p], count) for (y, p), count in expected
    )


@pytest.mark.torch
def test_figures_equal_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(3000, 100)).astype(np.float32) * 3
    labels = rng.integers(0, 100, 3000)
    logits[np.arange(3000), labels] += 4
    result = evaluate(logits, labels, info=names(100))

    x, y = torch.from_numpy(logits), torch.from_numpy(labels)
    assert result.loss == pytest.approx(
        torch.nn.functional.cross_entropy(x.double(), y).item(), rel=1e-12
    )
    top = x.topk(5).indices == y[:, None]
    assert result.top1 == top[:, 0].sum().item() / 3000
    assert result.top5 == top.any(1).sum().item() / 3000


def test_figures_do_not_depend_on_the_order_of_the_images():
    logits, labels = draw(3)
    order = np.random.default_rng(0).permutation(len(labels))
    a = evaluate(logits, labels, info=PETS)
    b = evaluate(logits[order], labels[order], info=PETS)
    assert (a.top1, a.top5, a.per_class, a.most_confused) == (
        b.top1,
        b.top5,
        b.per_class,
        b.most_confused,
    )
    assert a.loss == pytest.approx(b.loss, rel=1e-13)


def test_of_equal_logits_the_first_ranks_first():
    logits = np.array([[1, 1, 0], [1, 1, 0], [2, 1, 1]], np.float32)
    assert label_ranks(logits, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    constant = np.zeros((100, 10), np.float32)
    result = evaluate(constant, np.arange(100) % 10, info=names(10))
    assert (result.top1, result.top5) == (0.1, 0.5)  # chance, not all right


@pytest.mark.parametrize("place", [0, 1, slice(None)])
def test_nan_is_never_right(place):
    logits = np.zeros((1, 3), np.float32)
    logits[0, 0] = 5
    logits[0, place] = np.nan
    info = Info(("a", "b", "c"), ("all",), (0, 0, 0))
    result = evaluate(logits, np.array([0]), info=info)
    assert (result.top1, result.top5, result.superclass_top1) == (0, 0, 0)
    assert result.per_class[0].accuracy == 0
    assert result.most_confused == ()
    assert math.isnan(result.loss) and math.isnan(result.ece)
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["loss"] is None


def test_extreme_logits_stay_finite():
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)
    assert np.isfinite(log_softmax(logits)).all()
    result = evaluate(logits, np.array([0, 1]), info=names(2))
    assert (result.top1, result.loss, result.ece) == (1, 0, 0)
    assert math.copysign(1, result.loss) == 1


def test_the_mean_of_several_models_by_plain_numpy():
    logits = [draw(seed)[0].astype(np.float32) for seed in range(3)]
    powers = [np.exp(one.astype(np.float64)) for one in logits]
    mean = sum(p / p.sum(axis=1, keepdims=True) for p in powers) / 3
    found = mean_log_probabilities(logits)
    np.testing.assert_allclose(np.exp(found), mean, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(found), found, atol=1e-12)
    # Where a probability is too small for a number its logarithm is not.
    far = np.array([[0.0, 2000.0], [0.0, 0.0]])
    found = mean_log_probabilities([far, far])
    np.testing.assert_allclose(found, [[-2000.0, 0.0], [-np.log(2)] * 2], atol=1e-12)


def test_loss_keeps_precision_that_float32_would_lose():
    logits = np.array([[20.0, 0.0]], np.float32)
    loss = evaluate(logits, np.array([0]), info=names(2)).loss
    assert loss == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


def test_calibration_error_by_hand():
    # 15 bins: 0.9 and 0.92 share (13/15, 14/15], 0.5 is alone, 1.0 is in the last.
    confidence = np.array([0.9, 0.92, 0.5, 1.0])
    right = np.array([True, False, True, True])
    expected = (2 * abs(0.5 - 0.91) + abs(1 - 0.5) + 0) / 4
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)
    # An edge belongs to the bin below it, where it meets 0.3 and their gaps cancel.
    edge = expected_calibration_error(
        np.array([0.3, 0.5]), np.array([False, True]), bins=2
    )
    assert edge == pytest.approx((1 - 0.8) / 2)


def test_a_calibrated_model_has_little_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 200_000)
    right = rng.uniform(size=200_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.006
    assert expected_calibration_error(confidence, ~right) > 0.2


def test_classes_without_images_and_without_superclasses():
    result = evaluate(
        np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1], np.uint8), info=names(3)
    )
    assert [g.accuracy for g in result.per_class] == [1, 1, None]
    assert (result.per_superclass, result.superclass_top1) == ((), None)
    assert "uperclass" not in format_evaluation(result)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), [], "no images"),
        (np.zeros((1, 4)), [0], "4 logits for 3 class names"),
        (np.zeros((1, 3)), [3], "outside"),
        (np.zeros((1, 3)), [-1], "outside"),
    ],
)
def test_what_does_not_belong_together_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(logits.astype(np.float32), np.array(labels, np.int32), info=names(3))


def test_readable_text():
    logits, labels = draw(1, n=1000, classes=30)
    info = Info(
        tuple(f"c{i:02}" for i in range(30)), ("x", "long name"), (0,) * 10 + (1,) * 20
    )
    result = evaluate(logits, labels, info=info)
    text = format_evaluation(result)
    blocks = [block.split("\n") for block in text.split("\n\n")]
    assert [len(block) for block in blocks] == [6, 3, 11, 11, 11]
    for block in blocks[1:]:
        assert len({len(line) for line in block[1:]}) == 1, block
    assert f"top-1             {100 * result.top1:6.2f} %" in text
    accuracies = [
        [float(line.split()[1]) for line in block[1:]] for block in blocks[2:4]
    ]
    best, worst = accuracies
    every = sorted(round(100 * g.accuracy, 2) for g in result.per_class)
    assert (worst, best) == (every[:10], every[::-1][:10])
    true, predicted, count = result.most_confused[0]
    assert blocks[4][1].split() == [true, predicted, str(count)]
