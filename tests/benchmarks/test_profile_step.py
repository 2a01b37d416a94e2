"""What the profiler tells of the training step."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import kernels
import profile_step
import pytest
from jax import lax
from jax_variants import Training


def test_operations_of_a_cpu():
    turns = jax.jit(lambda x: lax.fori_loop(0, 5, lambda _, x: x @ x, x))
    x = jnp.eye(300)
    turns(x).block_until_ready()
    found, seconds = kernels.traced(lambda: turns(x).block_until_ready())
    assert 5 in Counter(kernel.name for kernel in found).values()
    assert not any(kernel.name.startswith("while") for kernel in found)
    assert 0 < kernels.busy(found) <= kernels.seconds(found)
    assert kernels.busy(found) < seconds


def test_kernels_of_a_gpu_are_those_of_its_streams(tmp_path):
    text = """
    planes {
      name: "/device:GPU:0"
      event_metadata { key: 1 value { id: 1 name: "loop_add_fusion_12" } }
      lines { name: "Stream #7(Compute)" timestamp_ns: 1000
        events { metadata_id: 1 offset_ps: 0 duration_ps: 2000000 }
        events { metadata_id: 1 offset_ps: 1000000 duration_ps: 2000000 } }
      lines { name: "XLA Ops" timestamp_ns: 1000
        events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
    }
    planes { name: "/host:CPU" }
    """
    path = tmp_path / "a.xplane.pb"
    path.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(text))
    found = kernels.read(path)
    assert [kernel.name for kernel in found] == ["loop_add_fusion_12"] * 2
    assert kernels.seconds(found) == pytest.approx(4e-6)
    assert kernels.busy(found) == pytest.approx(3e-6)
    lines = profile_step.totals(found, 2, profiled=12e-6, alone=6e-6).splitlines()
    assert lines[0].startswith("- Kernels: 1.0 a step, 1.5 us of a step")
    assert lines[1].endswith("0.006 ms a step, busy 25.0 % of it")
    assert lines[2].endswith("0.003 ms a step; the same kernels are 50.0 % of it")


@pytest.mark.parametrize(
    ("name", "short", "kind"),
    [
        ("loop_add_fusion_12", "loop_add_fusion", "other fusions"),
        ("input_convert_reduce_fusion.3", None, "fusions that reduce"),
        ("void cudnn::ops::nchwToNhwcKernel<float, 1>(int)", None, "copies"),
        ("sm90_xmma_dgrad_implicit_gemm_bf16_" + 60 * "x", None, "convolutions"),
        ("loop_convert_fusion", "loop_convert_fusion", "other fusions"),
        ("nvjet_hsh_128x64", "nvjet_hsh_128x64", "matrix products"),
        ("MemcpyD2D", "MemcpyD2D", "copies"),
        ("RngBits", "RngBits", "others"),
    ],
)
def test_names(name, short, kind):
    found = kernels.shortened(name)
    assert len(found) <= 64
    assert not re.search("[<(]", found)
    assert short is None or found == short
    assert kernels.kind(name).startswith(kind)


def test_the_step(tmp_path, capsys, monkeypatch, restored):
    # What JAX compiles ahead it describes by states without arrays in them.
    monkeypatch.setattr(Training, "warm_up", lambda self: None)
    output = tmp_path / "profile.md"
    command = "--device cpu --dtype float32 --depth 8 --batch-size 4 --steps 2"
    command += " --augment none --rows 3"
    arguments = [*command.split(), "--output", str(output)]
    assert profile_step.main(arguments) == 0
    printed = capsys.readouterr().out
    assert output.read_text() == printed
    kinds, named = (
        [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
        for table in printed.strip().split("\n\n")[-2:]
    )
    assert "convolutions" in [row[0] for row in kinds]
    assert len(named) == 4
    assert re.fullmatch(r"\(\d+ more\)", named[-1][0])
    for rows in (kinds, named):
        shares = [float(row[3].removesuffix(" %")) for row in rows]
        assert sum(shares) == pytest.approx(100, abs=0.1 * len(rows))
