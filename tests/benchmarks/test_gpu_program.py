"""The counting of a GPU's program; compiling one needs JAX's CUDA build."""

from types import SimpleNamespace

import gpu_program
from gpu_program import Compiled, launches
from hlo_operations import kind_of, kinds, operations_of_a_step

# XLA's text, cut down to one operation of each kind.
PROGRAM = """\
HloModule jit_looped

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused_sums (x: bf16[128,32,32,16]) -> f32[256,16] {
  %x = bf16[128,32,32,16]{3,2,1,0} parameter(0)
  %x32 = f32[128,32,32,16]{3,2,1,0} convert(%x)
  %zero = f32[] constant(0)
  ROOT %r = f32[256,16]{1,0} reduce(%x32, %zero), dimensions={0,1,2}, to_apply=%add
}

%fused_sum (x: f32[256,16]) -> f32[16] {
  %x = f32[256,16]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %r = f32[16]{0} reduce(%x, %zero), dimensions={0}, to_apply=%add
}

%fused_cast (x: f32[3,3,16,16]) -> bf16[3,3,16,16] {
  %x = f32[3,3,16,16]{3,2,1,0} parameter(0)
  ROOT %c = bf16[3,3,16,16]{3,2,1,0} convert(%x)
}

%fused_update (p: f32[16], g: f32[16]) -> (f32[16], f32[16]) {
  %p = f32[16]{0} parameter(0)
  %g = f32[16]{0} parameter(1)
  %new = f32[16]{0} add(%p, %g)
  ROOT %both = (f32[16]{0}, f32[16]{0}) tuple(%new, %g)
}

%fused_max (x: bf16[128,32,32,16], b: f32[16]) -> bf16[128,32,32,16] {
  %x = bf16[128,32,32,16]{3,2,1,0} parameter(0)
  %b = f32[16]{0} parameter(1)
  ROOT %m = bf16[128,32,32,16]{3,2,1,0} maximum(%x, %x)
}

%body (c: (s32[], f32[3,3,16,16], f32[16], bf16[128,32,32,16])) -> (s32[]) {
  %c = (s32[], f32[3,3,16,16]{3,2,1,0}, f32[16]{0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %w = f32[3,3,16,16]{3,2,1,0} get-tuple-element(%c), index=1
  %p = f32[16]{0} get-tuple-element(%c), index=2
  %x = bf16[128,32,32,16]{3,2,1,0} get-tuple-element(%c), index=3
  %crop = u8[128,32,32,3]{3,2,1,0} fusion(%i), kind=kLoop, calls=%fused_max, metadata={op_name="jit(looped)/while/body/vmap()/gather"}
  %cast = bf16[3,3,16,16]{3,2,1,0} fusion(%w), kind=kLoop, calls=%fused_cast, metadata={op_name="jit(looped)/while/body/jvp()/convert_element_type"}
  %conv = (bf16[128,32,32,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %cast), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(looped)/while/body/jvp()/conv"}
  %y = bf16[128,32,32,16]{3,2,1,0} get-tuple-element(%conv), index=0
  %sums = f32[256,16]{1,0} fusion(%y), kind=kInput, calls=%fused_sums, metadata={op_name="jit(looped)/while/body/jvp()/reduce_sum"}
  %sum = f32[16]{0} fusion(%sums), kind=kInput, calls=%fused_sum, metadata={op_name="jit(looped)/while/body/jvp()/reduce_sum"}
  %scale = f32[16]{0} fusion(%sum, %p), kind=kLoop, calls=%fused_update, metadata={op_name="jit(looped)/while/body/jvp()/mul"}
  %relu = bf16[128,32,32,16]{3,2,1,0} fusion(%y, /*index=1*/%scale), kind=kLoop, calls=%fused_max, metadata={op_name="jit(looped)/while/body/jvp()/max"}
  %new = (f32[16]{0}, f32[16]{0}) fusion(%p, %sum), kind=kLoop, calls=%fused_update, metadata={op_name="jit(looped)/while/body/add"}
  %n = s32[] add(%i, %i), metadata={op_name="jit(looped)/while/body/add"}
  ROOT %out = (s32[]) tuple(%n)
}

%condition (c: (s32[])) -> pred[] {
  %c = (s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%i, %i), direction=LT
}

ENTRY %main (a: f32[3,3,16,16]) -> s32[] {
  %a = f32[3,3,16,16]{3,2,1,0} parameter(0)
  %turned = f32[3,3,16,16]{3,2,1,0} copy(%a)
  %loop = (s32[]) while(%turned), condition=%condition, body=%body
  ROOT %i = s32[] get-tuple-element(%loop), index=0
}
"""  # noqa: E501

THUNKS = """\
000: kCommandBuffer [source       | next=020 (1)]
    001: kCopy         [source | sink] kCopy
    002: kCustomKernel [source | sink] wrapped_transpose
003: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    004: kCustomKernel [source | sink] wrapped_compare
  body:
    000: kCommandBuffer [source       | next=057 (1) ]
        005: kCustomKernel [source        | next=023 (1) ] loop_multiply_fusion
        006: kCustomKernel [prev=022 (1)  | sink         ] loop_select_fusion
    007: kConvolution [source | sink]
008: kCopy [source | sink]
"""
IN_ONE_GRAPH = """\
000: kCommandBuffer [source]
    001: kCopy         [source | sink] kCopy
    002: kWhile         [source | sink]
condition:
        003: kCustomKernel [source | sink] wrapped_compare
      body:
        004: kConvolution [source | sink]
"""
LOOP_IN_LOOP = """\
000: kWhile         [source | sink]
condition:
    001: kCustomKernel [source | sink] wrapped_compare
  body:
    002: kWhile         [source | sink]
condition:
        003: kCustomKernel [source | sink] wrapped_compare
      body:
        004: kConvolution [source | sink]
    005: kCopy [source | sink]
006: kCopy [source | sink]
"""


def test_each_operation_has_its_kind_and_bytes():
    found = operations_of_a_step(PROGRAM)
    x, w = 128 * 32 * 32 * 16, 3 * 3 * 16 * 16
    assert [(kind_of(o), o.bytes) for o in found] == [
        ("choice and augmentation of images", 128 * 32 * 32 * 3 + 4),
        ("casts of weights", w * (4 + 2)),
        ("convolutions", 2 * (x + w + x)),
        ("large reductions", 2 * x + 4 * 256 * 16),
        ("final reductions", 4 * (256 * 16 + 16)),
        ("vectors of the channels", 4 * 3 * 16),
        ("other elementwise", 2 * (x + x) + 4 * 16),
        ("updates of parameters, statistics and optimizer", 4 * 4 * 16),
        ("single numbers", 3 * 4),
    ]


def test_evaluation_has_no_updates():
    found = operations_of_a_step(PROGRAM.replace("jvp()/", ""))
    names = [kind_of(o, training=False) for o in found]
    assert set(names) <= set(kinds(training=False))
    assert "updates of parameters, statistics and optimizer" not in names
    assert names.count("other elementwise") == 3


def test_launches_of_a_step_and_of_a_call():
    found = launches(THUNKS)
    assert found.step == {"CustomKernel": 1, "CommandBuffer": 1, "Convolution": 1}
    assert found.call == {"CommandBuffer": 1, "While": 1, "Copy": 1}
    found = launches(IN_ONE_GRAPH)
    assert found.step.total() == 0
    assert found.call == {"CommandBuffer": 1}
    found = launches(LOOP_IN_LOOP)
    assert +found.step == {"CustomKernel": 1, "While": 1, "Copy": 1}
    assert found.call == {"While": 1, "Copy": 1}


def test_the_report():
    memory = SimpleNamespace(
        temp_size_in_bytes=2_000_000,
        argument_size_in_bytes=3_100_000,
        alias_size_in_bytes=0,
    )
    found = Compiled(operations_of_a_step(PROGRAM), launches(THUNKS), memory, 12.4)
    printed = gpu_program.report(found, training=True)
    assert "| convolutions | 1 | 8.4 |" in printed
    assert "| all | 9 | " in printed
    assert (
        "| the host starts in a step | 3: 1 CustomKernel, 1 CommandBuffer, "
        "1 Convolution |" in printed
    )
    assert "| arguments, MB | 3.1 |" in printed
    assert "| compilation, s | 12 |" in printed
