"""The counting of a GPU's program; compiling one needs JAX's CUDA build."""

from gpu_program import launches
from hlo_operations import kind_of, kinds, operations_of_a_step

# XLA's text, cut down to an operation of each kind that differs in form.
PROGRAM = """\
HloModule jit_looped

%fused_sums (x: bf16[128,32,32,16]) -> f32[256,16] {
  %x = bf16[128,32,32,16]{3,2,1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %r = f32[256,16]{1,0} reduce(%x, %zero), dimensions={0,1,2}, to_apply=%add
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

%body (c: (s32[], f32[3,3,16,16], f32[16], bf16[128,32,32,16])) -> (s32[]) {
  %c = (s32[], f32[3,3,16,16]{3,2,1,0}, f32[16]{0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %w = f32[3,3,16,16]{3,2,1,0} get-tuple-element(%c), index=1
  %p = f32[16]{0} get-tuple-element(%c), index=2
  %x = bf16[128,32,32,16]{3,2,1,0} get-tuple-element(%c), index=3
  %crop = u8[128,32,32,3]{3,2,1,0} gather(%i), metadata={op_name="while/body/vmap()/gather"}
  %cast = bf16[3,3,16,16]{3,2,1,0} fusion(%w), kind=kLoop, calls=%fused_cast, metadata={op_name="while/body/jvp()/convert"}
  %conv = (bf16[128,32,32,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %cast), custom_call_target="__cudnn$convForward", metadata={op_name="while/body/jvp()/conv"}
  %y = bf16[128,32,32,16]{3,2,1,0} get-tuple-element(%conv), index=0
  %sums = f32[256,16]{1,0} fusion(%y), kind=kInput, calls=%fused_sums, metadata={op_name="while/body/jvp()/reduce_sum"}
  %relu = bf16[128,32,32,16]{3,2,1,0} maximum(%y, /*index=1*/%p), metadata={op_name="while/body/jvp()/max"}
  %new = (f32[16]{0}, f32[16]{0}) fusion(%p, %p), kind=kLoop, calls=%fused_update, metadata={op_name="while/body/add"}
  ROOT %out = (s32[]) tuple(%i)
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
003: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    004: kCustomKernel [source | sink] wrapped_compare
  body:
    000: kCommandBuffer [source       | next=057 (1) ]
        005: kCustomKernel [source        | next=023 (1) ] loop_multiply_fusion
    007: kConvolution [source | sink]
008: kCopy [source | sink]
"""
IN_ONE_GRAPH = """\
000: kCommandBuffer [source]
    002: kWhile         [source | sink]
condition:
        003: kCustomKernel [source | sink] wrapped_compare
      body:
        004: kConvolution [source | sink]
"""


def test_each_operation_has_its_kind_and_bytes():
    found = operations_of_a_step(PROGRAM)
    x, w = 128 * 32 * 32 * 16, 3 * 3 * 16 * 16
    assert [(kind_of(o), o.bytes) for o in found] == [
        ("choice and augmentation of images", 128 * 32 * 32 * 3 + 4),
        ("casts of weights", w * (4 + 2)),
        ("convolutions", 2 * (x + w + x)),
        ("large reductions", 2 * x + 4 * 256 * 16),
        ("other elementwise", 2 * (x + x) + 4 * 16),
        ("updates of parameters, statistics and optimizer", 4 * 4 * 16),
    ]
    assert {kind_of(o, training=False) for o in found} <= set(kinds(training=False))


def test_launches_of_a_step_and_of_a_call():
    found = launches(THUNKS)
    assert found.step == {"CustomKernel": 1, "CommandBuffer": 1, "Convolution": 1}
    assert found.call == {"CommandBuffer": 1, "While": 1, "Copy": 1}
    found = launches(IN_ONE_GRAPH)
    assert found.step.total() == 0
    assert found.call == {"CommandBuffer": 1}
