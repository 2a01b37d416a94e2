from dataclasses import replace

import yaml
from format_fixtures import make_predictor
from metadata_fixtures import HISTORY

from jax_resnet.formats import model_card


def render(step, *, history=HISTORY, **changes):
    stored = make_predictor().stored
    metadata = replace(
        stored.metadata,
        run=replace(stored.metadata.run, epochs=5, **changes),
        dataset=replace(stored.metadata.dataset, name="cifar100"),
        history=history,
    )
    card = model_card.render(replace(stored, metadata=metadata, step=step))
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_last_epoch():
    front, body = render(5 * 391)
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["uoft-cs/cifar100"]
    assert {"jax", "resnet", "cifar100"} <= set(front["tags"])
    assert "Top-1 40.00 %, top-5 70.00 % on the 10,000 images of `test`" in body
    assert "epoch 5 of 5 (last epoch)." in body
    assert "optimistic" not in body


def test_a_selected_epoch():
    front, body = render(3 * 391)
    metric = front["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == 0.4321
    assert metric["name"] == "top-1 accuracy, epoch selected on test"
    assert "optimistic" in body


def test_another_epoch():
    front, body = render(391)
    metric = front["model-index"][0]["results"][0]["metrics"][0]
    assert metric["name"] == "top-1 accuracy, neither the best epoch nor the last"
    assert "optimistic" not in body


def test_names_are_no_markup():
    front, body = render(
        391, title="a: b\n---\n# <script>", command="`x` [y](z)", device="x\n\n# y"
    )
    assert front["model-index"][0]["name"] == r"a: b\n---\n# <script>"
    assert body.count("\n# ") == 1
    assert r"# a: b\\n---\\n\# \<script\>" in body
    assert "`` `x` [y](z) ``" in body
