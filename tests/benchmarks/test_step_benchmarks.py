"""The benchmarks of the training step: its variants, and XLA's flags."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import profile_step
import pytest
import rounds
import step_changes
import step_variants
import train_throughput
from jax import lax
from jax_variants import Training
from rounds import FailedError, Measurement, Result
from step_changes import BASELINE, CHANGES, LOOPS, PARTS, parse
from variant import Options

from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.multi_step import MultiStep

OPTIONS = Options(device="cpu", depth=8, batch_size=4, dtype="float32", augment="none")


@pytest.mark.parametrize("name", [BASELINE, *LOOPS])
def test_each_loop_applies_the_step_as_often_as_another(name):
    change = CHANGES[name]
    count = change.steps_per_call or 16
    step = MultiStep(
        lambda carry, constant: 3 * carry + constant,
        DeviceMesh((jax.devices()[0],)),
        [REPLICATED],
        None if change.loop_on_device is False else change.loop,
    )
    expected = np.uint32(1)
    for _ in range(count):
        expected = np.uint32((3 * int(expected) + 5) % 2**32)
    assert step(jnp.uint32(1), count, jnp.uint32(5)) == expected


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_dots_convolve(side, stride, at_once):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 6, 6, 3), np.float32))
    kernel = jnp.asarray(rng.standard_normal((side, side, 3, 4), np.float32))
    padding = ((side // 2, side // 2),) * 2
    found = step_changes.convolve_by_dots(
        x, kernel, (stride, stride), padding, at_once=at_once, precision=None
    )
    expected = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_changed_steps_train_alike(restored):
    names = [BASELINE, "flat-optimizer+bn-two-pass"]
    trained = [Training(OPTIONS, parse(name)) for name in names]
    vectors = [leaf for leaf in jax.tree.leaves(trained[1]._carry) if leaf.ndim == 1]
    for training in trained:
        training.run(1)
    (expected, sums), (found, other_sums) = (t._carry for t in trained)
    parameters = sum(leaf.size for leaf in expected.params.values())
    assert max(leaf.size for leaf in vectors) == parameters
    np.testing.assert_allclose(other_sums.loss, sums.loss, rtol=1e-5)
    for name, leaf in expected.params.items():
        np.testing.assert_allclose(found.params[name], leaf, atol=1e-4)
    assert any((found.params[n] != leaf).any() for n, leaf in expected.params.items())


def test_changes_come_together():
    change = parse("scan+rbg+dispatch")
    assert change.label.count(",") == 2
    assert change.key == "rbg"
    assert change.loop is LOOPS["scan"].loop
    assert change.loop_on_device is False
    assert step_changes.fields(PARTS["rbg"]) == ("key",)
    assert step_changes.step_key(change, 0).dtype != jax.random.key(0).dtype
    with pytest.raises(UserError, match="did you mean 'flat-optimizer'"):
        parse("scan+flat-optimiser")


class TestFlags:
    def test_come_after_the_users_and_never_change_them(self):
        environment = {"XLA_FLAGS": "--xla_a=1 --xla_b=2", "HOME": "/"}
        found = rounds.with_flags(environment, ["--xla_c=3"])
        assert found == environment | {"XLA_FLAGS": "--xla_a=1 --xla_b=2 --xla_c=3"}
        with pytest.raises(FailedError, match="XLA_FLAGS has --xla_b already"):
            rounds.with_flags(environment, ["--xla_b=1"])

    def test_what_jaxlib_refuses_is_a_note(self, monkeypatch):
        monkeypatch.delenv("XLA_FLAGS", raising=False)
        unknown = f"{BASELINE} --xla_there_is_no_such_flag=true"
        illegal = f"{BASELINE} --xla_gpu_autotune_level=much"
        names = [unknown, illegal]
        measured = rounds.measure(names, OPTIONS, steps=1, rounds=1, at_once=2)
        assert not measured.results
        notes = measured.notes
        assert notes[unknown] == (
            "skipped: not known to this jaxlib: --xla_there_is_no_such_flag=true"
        )
        assert notes[illegal].startswith("skipped: refused by this jaxlib: Couldn't")

    def test_a_variant_that_takes_too_long_is_left_out(self):
        measured = rounds.measure([BASELINE], OPTIONS, steps=1, rounds=1, patience=0.01)
        assert measured.notes == {BASELINE: "skipped: no answer within 0.01 s"}


def fake_measure(times, seen):
    """In place of :func:`rounds.measure`: seconds of each round, by name."""

    def measure(names, options, *, rounds, after_round, **_):
        seen.append(list(names))
        found = {n: Result(1.0, [times.get(n, 1.0)] * rounds, 2**20) for n in names}
        notes = {n: "skipped: no" for n in names if times.get(n, 1.0) is None}
        results = {n: result for n, result in found.items() if n not in notes}
        measured = Measurement(results, notes, {"jax": "0"})
        after_round(measured)
        return measured

    return measure


def test_what_is_faster_is_put_together(tmp_path, monkeypatch, capsys):
    buffers = f"{BASELINE} --xla_gpu_enable_command_buffer"
    times = {
        "scan-unroll-2": 0.9,
        "scan-unroll-4": 0.8,
        "rbg": 0.7,
        "unsafe-rbg": 0.6,
        "no-augmentation": 0.1,
        f"{buffers}=+CONVOLUTION": 0.5,
        f"{buffers}=+CONVOLUTION,+WHILE": 0.6,
        f"{BASELINE} --xla_gpu_autotune_level=0": 0.5,
        f"{BASELINE} --xla_gpu_force_conv_nhwc=true": 1.1,
        f"{BASELINE} --xla_gpu_graph_min_graph_size=1": None,
    }
    seen, output = [], tmp_path / "report.md"
    monkeypatch.setattr(step_variants, "measure", fake_measure(times, seen))
    command = "--device cpu --steps 40 --rounds 2 --groups loops parts graphs flags"
    assert step_variants.main([*command.split(), "--output", str(output)]) == 0
    assert [names[0] for names in seen] == [BASELINE] * 5
    assert "bfloat16" not in seen[1]
    everything, changes, both = seen[-1][1:]
    assert everything.startswith(BASELINE)
    assert "--xla_gpu_force_conv_nhwc=true" in everything
    assert "--xla_gpu_enable_command_buffer=+CONVOLUTION" in everything.split()
    assert "autotune_level" not in everything
    assert "min_graph_size" not in everything
    # The only faster flag has a row of its own already.
    assert changes == "scan-unroll-4+unsafe-rbg"
    assert both == f"{changes} --xla_gpu_enable_command_buffer=+CONVOLUTION"
    printed = capsys.readouterr().out
    assert output.read_text() == printed
    row = "| `--xla_gpu_enable_command_buffer=+CONVOLUTION` | 12.500 (12.500 to 12.500)"
    assert f"{row} | 0.500 (0.500 to 0.500) |" in printed
    assert f"- `{BASELINE} --xla_gpu_graph_min_graph_size=1` skipped: no" in printed
    titles = re.findall(r"^### (.*)", printed, re.MULTILINE)
    assert titles == ["loops", "parts", "graphs", "flags", "together"]


@pytest.mark.parametrize("program", [step_variants, train_throughput])
def test_the_report_grows_with_each_round(tmp_path, monkeypatch, program):
    output = tmp_path / "report.md"

    def measure(names, options, *, after_round, **_):
        after_round(Measurement({names[0]: Result(1.0, [1.0])}))
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        program.main(["--device", "cpu", "--output", str(output)])
    assert re.search(
        r"^\| `(baseline|ours-dispatch)`", output.read_text(), re.MULTILINE
    )


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (step_variants, ["--steps", "30", "--groups", "loops"], "a multiple of 40"),
        (step_variants, ["--groups", "loop"], "did you mean 'loops'"),
        (step_variants, ["--variants", "scn"], "did you mean 'scan'"),
        (step_variants, ["--variants", "scan xla_a=1"], "'xla_a=1' is no flag"),
        (step_variants, ["--at-once", "0"], "--at-once must be at least 1"),
        (step_variants, ["--patience", "0"], "--patience must be at least 1"),
        (profile_step, ["--variant", "scn"], "did you mean 'scan'"),
        (profile_step, ["--variant", "scan", "--steps", "3"], "a multiple of 40"),
        (profile_step, ["--rows", "0"], "--rows must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(program, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        program.main(["--device", "cpu", *arguments])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_variants_run_in_turns(capsys):
    command = "--device cpu --dtype float32 --depth 8 --batch-size 4 --steps 2"
    names = ["unsafe-rbg --xla_gpu_autotune_level=0"]
    code = step_variants.main([*command.split(), "--rounds", "2", "--variants", *names])
    assert code == 0
    printed = capsys.readouterr()
    turns = re.findall(r"^round (./2, .*):", printed.err, re.MULTILINE)
    assert turns == [f"{i}/2, {name}" for i in (1, 2) for name in (BASELINE, *names)]
    rows = [line for line in printed.out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [BASELINE, *names]
