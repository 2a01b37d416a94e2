import dataclasses
import json

import pytest
from metadata_fixtures import HISTORY, run_metadata

from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.runtime.errors import UserError


@pytest.fixture
def saved():
    """The metadata of a run, as a checkpoint gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(run_metadata(HISTORY))))


def test_metadata_goes_through_json(saved):
    assert RunMetadata.from_json({**saved, "step": 7}) == run_metadata(HISTORY)


def test_metadata_of_an_older_version_is_read(saved):
    del saved["run"]["changes"], saved["run"]["image_sizes"]
    run = RunMetadata.from_json(saved).run
    assert (run.changes, run.image_sizes) == ((), "")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m["run"].pop("title"), "run.title: Field required"),
        (lambda m: m["model"].update(depth="8"), "model.depth: .*valid integer"),
        (lambda m: m["model"].update(width=0), "model.width: .*greater than or equal"),
        (lambda m: m["history"][2].update(val_top1="much"), "history.2.val_top1"),
    ],
)
def test_metadata_of_another_shape_is_refused(saved, damage, message):
    damage(saved)
    with pytest.raises(UserError, match=message) as caught:
        RunMetadata.from_json(saved)
    assert "\n" not in str(caught.value)
