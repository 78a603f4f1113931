"""Compiled programs, read as they run: loops, products, links, traffic."""

import jax
import jax.numpy as jnp
import pytest

from synpo_jax.planning import costs, kernels

# Two loops in each other (5 x 3), one of them noted by the compiler, the other
# unrolled: from 1 to 6 in steps of two, added in a fusion; a gather
# among 4 within, in two parts of one channel; a gather that starts before the
# loops and goes on in them; a sum among 2 of 8 outside.
PROGRAM = """
HloModule made_up, num_partitions=8

%part (p: bf16[8,64]) -> bf16[32,64] {
  %p = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %g.0 = bf16[32,64]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
}

%span (q: bf16[8,64]) -> bf16[32,64] {
  %q = bf16[8,64]{1,0} parameter(0)
  ROOT %g.2 = bf16[32,64]{1,0} all-gather(%q), channel_id=9, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
}

%plus (n: s32[], m: s32[]) -> s32[] {
  %n = s32[] parameter(0)
  %m = s32[] parameter(1)
  ROOT %nm = s32[] add(%n, %m)
}

%inner (s: (s32[], bf16[8,64])) -> (s32[], bf16[8,64]) {
  %s = (s32[], bf16[8,64]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = bf16[8,64]{1,0} get-tuple-element(%s), index=1
  %start = bf16[32,64]{1,0} fusion(%x), kind=kCustom, calls=%part
  %on = bf16[32,64]{1,0} fusion(%x), kind=kCustom, calls=%span
  %g.1 = bf16[32,64]{1,0} all-gather(%x), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  %y = bf16[8,32]{1,0} dot(%x, %g.1), lhs_contracting_dims={1}, rhs_contracting_dims={1}
  %two = s32[] constant(2)
  %next = s32[] fusion(%i, %two), kind=kLoop, calls=%plus
  ROOT %r = (s32[], /*index=1*/bf16[8,64]{1,0}) tuple(%next, %x)
}

%inner_test (s.1: (s32[], bf16[8,64])) -> pred[] {
  %s.1 = (s32[], bf16[8,64]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %end = s32[] constant(6)
  ROOT %lt = pred[] compare(%i.1, %end), direction=LT
}

%outer (t: (s32[], bf16[8,64])) -> (s32[], bf16[8,64]) {
  %t = (s32[], bf16[8,64]{1,0}) parameter(0)
  %one = s32[] constant(1)
  %v = bf16[8,64]{1,0} get-tuple-element(%t), index=1
  %first = (s32[], bf16[8,64]{1,0}) tuple(%one, %v)
  ROOT %w = (s32[], bf16[8,64]{1,0}) while(%first), condition=%inner_test, body=%inner
}

%never (u: (s32[], bf16[8,64])) -> pred[] {
  %u = (s32[], bf16[8,64]{1,0}) parameter(0)
  ROOT %no = pred[] constant(false)
}

ENTRY %main (a: bf16[8,64], stack: f32[9,64]) -> bf16[8,64] {
  %a = bf16[8,64]{1,0} parameter(0)
  %stack = f32[9,64]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %begin = bf16[32,64]{1,0} fusion(%a), kind=kCustom, calls=%span
  %state = (s32[], bf16[8,64]{1,0}) tuple(%zero, %a)
  %loop = (s32[], bf16[8,64]{1,0}) while(%state), condition=%never, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %sum = f32[9,64]{1,0} all-reduce(%stack), channel_id=7, replica_groups=[4,2]<=[8], to_apply=%never
  %row = f32[1,64]{1,0} dynamic-slice(%sum, %zero, %zero), dynamic_slice_sizes={1,64}
  ROOT %out = bf16[8,64]{1,0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_loops_count_as_often_as_they_run():
  total = costs.count(PROGRAM)
  assert total.flops == 15 * 2 * 8 * 32 * 64
  gathered, summed = 32 * 64 * 2, 9 * 64 * 4
  assert total.received == {
    "all-gather": (15 + 1) * gathered * 3 / 4,  # a quarter is there already
    "all-reduce": 2 * summed / 2,
  }


def test_a_loop_that_data_ends_is_an_error():
  text = PROGRAM.replace(
    "%end = s32[] constant(6)", "%end = s32[] get-tuple-element(%s.1), index=0"
  )
  with pytest.raises(ValueError, match="loop w: no counter"):
    costs.count(text)


@pytest.mark.parametrize(
  "groups, size",
  [
    ("{{0,1,2,3},{4,5,6,7}}", 4),
    ("[2,8]<=[4,2,2]T(1,0,2)", 8),
    ("mesh['a'=2,'b'=4] {'a','b'}", 8),
    ("mesh['a'=2,'b'=8] {'b':(1)2}", 2),
    ("@mesh['a'=16] {'a'}", 16),
  ],
)
def test_groups_are_read_in_every_form(groups, size):
  assert (
    costs.group_size(f", replica_groups={groups}, dimensions={{0}}") == size
  )


def gradients(unroll):
  """Gradients of six layers, three products in each."""

  def layer(x, w):
    return jnp.tanh(x @ w), None

  def loss(w, x):
    return jnp.sum(jax.lax.scan(layer, x, w, unroll=unroll)[0] ** 2)

  w, x = jnp.ones((6, 256, 256)), jnp.ones((128, 256))
  return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(w, x).compile()


def test_flops_of_a_scan_are_those_of_its_layers_unrolled():
  scanned, unrolled = gradients(1), gradients(6)
  ours = costs.count(scanned.as_text()).flops
  assert ours == 6 * 3 * 2 * 128 * 256 * 256
  assert ours == costs.count(unrolled.as_text()).flops
  theirs = unrolled.cost_analysis()["flops"]  # elementwise work too: 0.5 %
  assert ours == pytest.approx(theirs, rel=0.02)
  assert ours > 3 * scanned.cost_analysis()["flops"]  # which counts one layer


def test_batch_dimensions_of_products_as_tpus_write_them():
  """Of a compilation for v5e: 8 heads, 256 queries and keys, 128 wide."""
  text = """
ENTRY %main (q: bf16[1,256,8,128], k: bf16[8,256,128]) -> bf16[8,256,256] {
  %q = bf16[256,8,128]{2,1,0} parameter(0)
  %k = bf16[256,8,128]{2,1,0} parameter(1)
  ROOT %c = bf16[8,256,256]{2,1,0} convolution(%q, %k), window={size=8 stride=7 lhs_dilate=8}, dim_labels=b0f_o0i->0bf
}
"""  # noqa: E501
  assert costs.count(text).flops == 2 * 8 * 256 * 256 * 128


# Of compilations for v5e: splash's backward kernel, with dq and without.
FUSED = """
ENTRY %main (q: bf16[2,32,1536,128]) -> bf16[2,32,1536,128] {
  %q = bf16[2,32,1536,128]{3,2,1,0} parameter(0)
  %splash_mha_dkv_segmented_no_residuals.1 = (f32[2,384,128]{2,1,0:T(8,128)}, f32[2,384,128]{2,1,0:T(8,128)}, bf16[2,4,32,1536,128]{4,3,2,1,0:T(8,128)(2,1)S(1)}, bf16[2,32,1536,128]{3,2,1,0:T(8,128)(2,1)}, bf16[2,32,1536,128]{3,2,1,0:T(8,128)(2,1)}) custom-call(%q), custom_call_target="tpu_custom_call"
  ROOT %dv = bf16[2,32,1536,128]{3,2,1,0} get-tuple-element(%splash_mha_dkv_segmented_no_residuals.1), index=4
}
"""  # noqa: E501
DQ_PARTS = " bf16[2,4,32,1536,128]{4,3,2,1,0:T(8,128)(2,1)S(1)},"


@pytest.mark.parametrize(
  "text,products", [(FUSED, 5), (FUSED.replace(DQ_PARTS, ""), 4)]
)
def test_a_kernel_that_makes_dq_too_has_another_product(text, products):
  ((name, runs),) = costs.count(text).kernels.items()
  assert (kernels.products(name), runs) == (products, 1)


def test_a_slice_of_a_stack_costs_the_slice():
  text = """
%pick (p: f32[9,64], i: s32[]) -> f32[1,64] {
  %p = f32[9,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %d = f32[1,64]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={1,64}
}

ENTRY %main (a: f32[9,64], n: s32[]) -> f32[1,64] {
  %a = f32[9,64]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %f = f32[1,64]{1,0} fusion(%a, %n), kind=kLoop, calls=%pick
}
"""  # noqa: E501
  assert costs.count(text).traffic == 2 * 64 * 4 + 4
  fast = text.replace("f32[1,64]{1,0} fusion", "f32[1,64]{1,0:S(1)} fusion")
  assert costs.count(fast).traffic == 64 * 4 + 4


def test_a_slice_within_two_fusions_costs_the_slice():
  text = """
%pick (p: f32[9,64], i: s32[]) -> f32[1,64] {
  %p = f32[9,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %d = f32[1,64]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={1,64}
}

%put (p.2: f32[9,64], i.2: s32[], x.2: f32[1,64]) -> f32[9,64] {
  %p.2 = f32[9,64]{1,0} parameter(0)
  %i.2 = s32[] parameter(1)
  %x.2 = f32[1,64]{1,0} parameter(2)
  ROOT %u = f32[9,64]{1,0} dynamic-update-slice(%p.2, %x.2, %i.2, %i.2)
}

%both (p.1: f32[9,64], i.1: s32[]) -> f32[9,64] {
  %p.1 = f32[9,64]{1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %x = f32[1,64]{1,0} fusion(%p.1, %i.1), kind=kLoop, calls=%pick
  %y = f32[1,64]{1,0} negate(%x)
  ROOT %z = f32[9,64]{1,0} fusion(%p.1, %i.1, %y), kind=kLoop, calls=%put
}

ENTRY %main (a: f32[9,64], n: s32[]) -> f32[9,64] {
  %a = f32[9,64]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %f = f32[9,64]{1,0} fusion(%a, %n), kind=kOutput, calls=%both
}
"""  # noqa: E501
  assert costs.count(text).traffic == 2 * 64 * 4 + 4


def test_what_a_start_takes_is_read_once():
  text = """
ENTRY %main (a: f32[9,64], b: f32[9,64]) -> f32[9,64] {
  %a = f32[9,64]{1,0} parameter(0)
  %b = f32[9,64]{1,0:S(1)} parameter(1)
  %s = ((f32[9,64]{1,0}), f32[1,64]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:1], [0:64]}
  %t = f32[1,64]{1,0:S(1)} slice-done(%s)
  %c = (f32[9,64]{1,0:S(1)}, f32[9,64]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %d = f32[9,64]{1,0:S(1)} copy-done(%c)
  %e = ((f32[9,64]{1,0:S(1)}), f32[9,64]{1,0}, s32[]{:S(2)}) collective-permute-start(%b), source_target_pairs={{0,1}}
  ROOT %f = f32[9,64]{1,0} collective-permute-done(%e)
}
"""  # noqa: E501
  contexts = 2 * 4 + 4  # a word of each, counted as if it were data
  assert costs.count(text).traffic == (1 + 9 + 9) * 64 * 4 + contexts
