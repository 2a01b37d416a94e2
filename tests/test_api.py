"""The library: what ``import jax_resnet`` offers."""

import asyncio
import os
import pydoc
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import pytest
from command_line import assert_same_run, records, unchecked
from ml_collections import ConfigDict

import jax_resnet
from jax_resnet import config
from jax_resnet.checkpoint.history import best_epoch
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.store import select


@pytest.fixture
def settings(tiny, restored):
    with unchecked():
        yield config.load(str(tiny), ["--config.mesh.devices=1"])


@pytest.mark.slow  # imports everything
def test_importing_it_is_quick_and_help_says_how_to_begin():
    code = "import sys, jax_resnet; print({'jax', 'numpy'} & sys.modules.keys())"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "set()"
    text = pydoc.render_doc(jax_resnet, renderer=pydoc.plaintext)
    assert 'jax_resnet.fit("smoke", "runs/smoke")' in text
    for start in (
        r"load\(\s*path_or_run:",
        r"fit\(\s*config:",
        r"evaluate_run\(\s*path_or_run:",
    ):
        assert re.search(rf"^    {start} ", text, re.M)


@pytest.mark.slow
def test_a_run_is_loaded_and_evaluated_by_its_path_or_result(finished):
    metadata = RunMetadata.from_json(select(finished, "latest").metadata)
    before = sorted(finished.rglob("*"))
    model = jax_resnet.load(jax_resnet.Result(finished, metadata), "latest")
    found = jax_resnet.evaluate_run(finished, "test[:100]", checkpoint=model.step)
    assert found["top1"] == records(finished)[-1]["val_top1"]
    assert jax_resnet.load(str(finished)).step == best_epoch(metadata.history)["step"]
    assert sorted(finished.rglob("*")) == before


@pytest.mark.slow
def test_a_run_is_stopped_in_a_thread_and_in_a_notebook_and_ends_the_same(
    settings, finished, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_enable_x64", True)
    settings.train.steps_per_call = 1  # the signal comes before the next epoch's end
    workdir, seen = tmp_path / "tiny", []
    fit = partial(jax_resnet.fit, settings, "tiny", quiet=True)

    def fail(record):
        assert jax.numpy.ones(()).dtype == "float64"  # as the program has set it
        seen.append(record)
        raise RuntimeError("enough")

    def interrupt(record):
        seen.append(record)
        os.kill(os.getpid(), signal.SIGINT)

    def go_elsewhere(record):
        seen.append(record)
        os.chdir("/")

    async def cell():  # where an event loop runs, as in a notebook
        return fit(on_epoch=interrupt)

    with ThreadPoolExecutor(1) as thread, pytest.raises(RuntimeError, match="enough"):
        thread.submit(fit, on_epoch=fail).result()
    assert len(records(workdir)) == 1
    assert asyncio.run(cell()).stopped_by == "SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    result = fit(on_epoch=go_elsewhere)
    assert result.stopped_by is None
    assert seen == result.metadata.history == records(workdir)
    assert_same_run(workdir, finished)


@pytest.mark.ci
def test_two_runs_at_once(settings, finished, tmp_path):
    workdirs = [tmp_path / "one" / "tiny", tmp_path / "two" / "tiny"]
    with ThreadPoolExecutor(2) as threads:
        fit = partial(jax_resnet.fit, settings, quiet=True)
        for result in threads.map(fit, workdirs):
            assert_same_run(result.workdir, finished)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ConfigDict({"seed": 0}), "config has no field 'model.depth'"),
        ("nowhere.py", "no config file 'nowhere.py'"),
    ],
)
def test_bad_configs(tmp_path, given, message):
    with pytest.raises(jax_resnet.UserError, match=message):
        jax_resnet.fit(given, tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_a_function_resumes_with_the_same_one_alone(settings, tmp_path):
    def noise(key, image, *, strength):
        return image + strength * jax.random.normal(key, image.shape)

    def run(function, strength):
        with settings.unlocked():
            settings.augment.transforms = ("random_flip", function, "normalize")
            settings.augment.noise = ConfigDict({"strength": strength})
            settings.train.epochs = 1
        return jax_resnet.fit(settings, tmp_path / "run", quiet=True)

    first = run(noise, 8.0)
    assert run(noise, 8.0).metadata == first.metadata
    kept, same = first.metadata.config["augment"], noise

    def noise(key, image, *, strength):
        return image

    with pytest.raises(jax_resnet.UserError, match=r"transforms was .*noise \(sha256 "):
        run(noise, 8.0)
    with pytest.raises(jax_resnet.UserError, match=r"strength was 8\.0 and is 9\.0"):
        run(same, 9.0)
    assert kept["noise"] == {"strength": 8.0}
