import dataclasses
import json

import pytest
from metadata_fixtures import HISTORY, record, run_metadata

from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.runtime.errors import UserError


def saved(history=HISTORY):
    """As a checkpoint gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(run_metadata(history))))


def test_a_record_goes_through_json():
    assert RunMetadata.from_json({**saved(), "step": 7}) == run_metadata(HISTORY)


def test_records_of_version_1():
    old = saved()
    del old["run"]["changes"]
    del old["run"]["initial_model"]
    del old["config"]["train"]["max_skipped_steps"]
    del old["config"]["train"]["initial_model"]
    run = RunMetadata.from_json(old).run
    assert (run.changes, run.initial_model) == ((), "")


def without(metadata, *names):
    *groups, last = names
    for name in groups:
        metadata = metadata[name]
    del metadata[last]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: without(m, "clock"), "clock: Field required"),
        (lambda m: without(m, "run", "title"), "run.title: Field required"),
        (lambda m: without(m, "config", "seed"), "no field 'seed'"),
        (lambda m: without(m, "config", "model"), "no field 'model.depth'"),
        (lambda m: m["model"].update(depth="8"), "model.depth: .*valid integer"),
        (lambda m: m["model"].update(dtype="x" * 9999), "model.dtype: .*'bfloat16'"),
        (lambda m: m["model"].update(depth=14), "not the config's"),
        (lambda m: m["model"].update(num_classes=4), "not the data set's"),
        (lambda m: m["config"]["model"].update(depth=10**9), "must be at most 2000"),
        (lambda m: m["dataset"].update(mean=[0.1, 0.2]), "one mean and deviation"),
        (lambda m: m["dataset"].update(image_shape=[4, 4]), "dataset.image_shape"),
        (lambda m: m["dataset"].update(image_shape=[0, 4, 1]), "images of shape"),
        (lambda m: m["dataset"].update(image_shape=[4, 10**9, 1]), "images of shape"),
        (lambda m: m["dataset"].update(mean=[float("nan")]), "with means"),
        (lambda m: m["dataset"].update(std=[0.0]), "with deviations"),
        (lambda m: m["dataset"].update(superclass_of=[0, 1, 2]), "one superclass"),
        (lambda m: m["run"]["versions"].update({"a\nb" * 999: 1}), "run.versions"),
        (
            lambda m: m["config"]["data"].update(dir="a\0b"),
            "data.dir must be printable",
        ),
        (lambda m: m["history"].append(record(1)), "the epochs 1, 2, 3"),
        (lambda m: m["history"][2].update(val_top1="much"), "history.2.val_top1"),
        (lambda m: m.update(config=[]), "config: .*object"),
    ],
)
def test_what_is_no_record_is_refused(damage, message):
    metadata = saved()
    damage(metadata)
    with pytest.raises(UserError, match=message) as caught:
        RunMetadata.from_json(metadata)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
