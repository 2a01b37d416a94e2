"""What the communication benchmark counts and computes."""

import communication
import pytest
from command_line import unchecked

HLO = """
  %psum.1 = f32[2,16]{1,0} all-reduce(%a), channel_id=1, to_apply=%add
  %all-reduce.2 = (f32[3,3,16,16]{3,2,1,0}, f32[]) all-reduce(%b, %c), to_apply=%add
  %x = (s32[4]{0}, s32[4]{0}) all-reduce-start(%d), to_apply=%max
  %y = f32[8]{0} add(%all-reduce.2, %z)
"""


def test_collectives_are_found_in_a_program():
    found = communication.collectives(HLO)
    assert [c.kind for c in found] == ["all-reduce"] * 3
    assert [c.bytes for c in found] == [128, 4 * (9 * 16 * 16 + 1), 32]


def test_a_step_combines_its_gradients_once_and_little_more():
    parameters = 78_042 + 90 * 65  # ResNet-8, with 100 classes instead of 10
    sizes = {}
    for statistics in ("global", "device"):
        with unchecked():
            text = communication.compiled_step(8, 16, 8, statistics)
        sizes[statistics] = [c.bytes for c in communication.collectives(text)]
    for found in sizes.values():
        assert 4 * parameters <= sum(found) < 1.03 * 4 * parameters
        assert max(found) > 0.97 * 4 * parameters
    # The statistics of nine layers forward, and their gradients backward.
    assert 10 < len(sizes["global"]) <= 22
    assert len(sizes["device"]) <= 4


def test_the_better_of_ring_and_tree():
    seconds = communication.seconds_of_an_all_reduce
    assert seconds(1e6, 1, bandwidth=1e9, latency=1e-6) == 0
    ring = 2 * 7 * (1e-6 + 1e6 / 8 / 1e9)
    assert seconds(1e6, 8, bandwidth=1e9, latency=1e-6) == pytest.approx(ring)
    tree = 2 * 3 * (1e-6 + 8 / 1e9)
    assert seconds(8, 8, bandwidth=1e9, latency=1e-6) == pytest.approx(tree)
