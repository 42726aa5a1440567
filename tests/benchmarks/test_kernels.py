"""Kernels, bytes and operations of programs of a few lines, counted by hand."""

import hlo
import kernels
import pytest

F32, BF16 = 4, 2


def program(entry, others=""):
    text = f"{others}\nENTRY %main (a: f32[1]) -> f32[1] {{\n{entry}\n}}\n"
    return kernels.program_of(hlo.read(text))


def lone(line, *parameters):
    """The one kernel of a program of one instruction."""
    given = [f"  %{name} = {shape} parameter({n})" for n, (name, shape) in enumerate(parameters)]
    [kernel] = program("\n".join([*given, f"  ROOT %it = {line}"])).kernels
    return kernel


def fused(body, *parameters):
    """The one kernel of a program of one fusion."""
    given = [f"  %p{n} = {shape} parameter({n})" for n, shape in enumerate(parameters)]
    others = "\n".join(["%inside (p: f32[1]) -> f32[1] {", *given, body, "}"])
    outside = [f"  %a{n} = {shape} parameter({n})" for n, shape in enumerate(parameters)]
    operands = ", ".join(f"%a{n}" for n in range(len(parameters)))
    line = f"  ROOT %it = f32[1]{{0}} fusion({operands}), kind=kLoop, calls=%inside"
    [kernel] = program("\n".join([*outside, line]), others).kernels
    return kernel


# --- What is a kernel -----------------------------------------------------------------------------------------------


def test_names_for_values_that_are_there_are_no_kernels():
    entry = """\
  %a = f32[8]{0} parameter(0)
  %b = f32[2,4]{1,0} bitcast(%a)
  %t = (f32[8]{0}, f32[2,4]{1,0}) tuple(%a, %b)
  ROOT %g = f32[8]{0} get-tuple-element(%t), index=0"""
    assert program(entry).kernels == ()


def test_a_loop_counts_as_often_as_it_runs_and_loops_in_it_multiply():
    others = """\
%inner (i: (f32[8])) -> (f32[8]) {
  %i = (f32[8]{0}) parameter(0)
  %x.1 = f32[8]{0} get-tuple-element(%i), index=0
  %c.1 = f32[8]{0} copy(%x.1)
  ROOT %r.1 = (f32[8]{0}) tuple(%c.1)
}
%outer (o: (f32[8])) -> (f32[8]) {
  %o = (f32[8]{0}) parameter(0)
  ROOT %w.1 = (f32[8]{0}) while(%o), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}"""
    entry = """\
  %a = (f32[8]{0}) parameter(0)
  ROOT %w = (f32[8]{0}) while(%a), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"5"}}"""
    found = program(entry, others)
    assert [one.times for one in found.kernels] == [15]
    assert found.moved_bytes == 15 * 2 * 8 * F32
    assert found.kinds() == [kernels.KindTotal("copy", 15, 15 * 2 * 8 * F32, 0)]


@pytest.mark.parametrize("line", ["while(%a), condition=%c, body=%b", "conditional(%a), branch_computations={%b}"])
def test_what_runs_nobody_knows_how_often_is_refused(line):
    with pytest.raises(ValueError, match="cannot be counted"):
        program(f"  %a = f32[8]{{0}} parameter(0)\n  ROOT %w = f32[8]{{0}} {line}")


# --- Bytes ----------------------------------------------------------------------------------------------------------


def test_a_kernel_reads_its_operands_and_writes_its_results():
    kernel = lone("bf16[8]{0} convert(%a)", ("a", "f32[8]{0}"))
    assert (kernel.kind, kernel.read_bytes, kernel.written_bytes) == ("convert", 8 * F32, 8 * BF16)
    assert [str(shape) for shape in kernel.made] == ["bf16[8]"]


def test_a_fusion_that_takes_slices_reads_them_alone():
    body = """\
  %left = f32[10,4]{1,0} slice(%p0), slice={[0:10], [0:4]}
  %right = f32[10,4]{1,0} slice(%p0), slice={[0:10], [1:5]}
  ROOT %sum = f32[10,4]{1,0} add(%left, %right)"""
    kernel = fused(body, "f32[10,100]{1,0}")
    assert (kernel.kind, kernel.read_bytes, kernel.written_bytes) == ("fusion", 80 * F32, 40 * F32)


def test_slices_that_overlap_read_an_operand_no_more_than_whole():
    body = """\
  %left = f32[10,4]{1,0} slice(%p0), slice={[0:10], [0:4]}
  %right = f32[10,4]{1,0} slice(%p0), slice={[0:10], [1:5]}
  ROOT %sum = f32[10,4]{1,0} add(%left, %right)"""
    assert fused(body, "f32[10,5]{1,0}").read_bytes == 50 * F32


def test_a_slice_of_a_converted_operand_reads_the_slice_in_the_operands_type():
    body = """\
  %wide = f32[10,100]{1,0} convert(%p0)
  ROOT %some = f32[10,4]{1,0} slice(%wide), slice={[0:10], [0:4]}"""
    assert fused(body, "bf16[10,100]{1,0}").read_bytes == 40 * BF16


def test_a_fusion_that_reduces_reads_all_and_writes_the_sums():
    body = """\
  %zero = f32[] constant(0)
  ROOT %sums = f32[10]{0} reduce(%p0, %zero), dimensions={1}, to_apply=%add"""
    kernel = fused(body, "f32[10,100]{1,0}")
    assert (kernel.read_bytes, kernel.written_bytes) == (1000 * F32, 10 * F32)


def test_a_broadcast_operand_is_read_once():
    body = """\
  %many = f32[1000,8]{1,0} broadcast(%p1), dimensions={1}
  ROOT %sum = f32[1000,8]{1,0} add(%p0, %many)"""
    assert fused(body, "f32[1000,8]{1,0}", "f32[8]{0}").read_bytes == 8008 * F32


def test_a_slice_that_is_written_in_place_counts_alone():
    body = """\
  %new = f32[1,8]{1,0} negate(%p1)
  %whole = f32[100,8]{1,0} dynamic-update-slice(%p0, %new, %p2, %p2)
  ROOT %same = f32[100,8]{1,0} bitcast(%whole)"""
    kernel = fused(body, "f32[100,8]{1,0}", "f32[1,8]{1,0}", "s32[]")
    assert (kernel.read_bytes, kernel.written_bytes, kernel.made) == (8 * F32 + 4, 8 * F32, ())


def test_a_slice_written_into_a_computed_array_writes_all_of_it():
    body = """\
  %base = f32[100,8]{1,0} negate(%p0)
  ROOT %whole = f32[100,8]{1,0} dynamic-update-slice(%base, %p1, %p2, %p2)"""
    kernel = fused(body, "f32[100,8]{1,0}", "f32[1,8]{1,0}", "s32[]")
    assert (kernel.read_bytes, kernel.written_bytes) == (808 * F32 + 4, 800 * F32)


def test_a_fusion_of_several_results_writes_each():
    body = """\
  %low = bf16[8]{0} convert(%p0)
  %minus = f32[8]{0} negate(%p0)
  ROOT %both = (bf16[8]{0}, f32[8]{0}) tuple(%low, %minus)"""
    kernel = fused(body, "f32[8]{0}")
    assert (kernel.read_bytes, kernel.written_bytes) == (8 * F32, 8 * F32 + 8 * BF16)
    assert [str(shape) for shape in kernel.made] == ["bf16[8]", "f32[8]"]


def test_lone_slices_move_what_they_touch():
    cut = lone("f32[1,8]{1,0} dynamic-slice(%a, %i, %i)", ("a", "f32[100,8]{1,0}"), ("i", "s32[]"))
    put = ("a", "f32[100,8]{1,0}"), ("u", "f32[1,8]{1,0}"), ("i", "s32[]")
    written = lone("f32[100,8]{1,0} dynamic-update-slice(%a, %u, %i, %i)", *put)
    assert cut.moved_bytes == written.moved_bytes == 16 * F32


# --- Matrix operations ----------------------------------------------------------------------------------------------

PRODUCT = """(f32[64,16]{1,0}, s8[4194304]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],\
"rhs_contracting_dimensions":["0"]}}}"""


def test_a_library_product_counts_its_sums_and_no_workspace():
    kernel = lone(PRODUCT, ("a", "f32[64,32]{1,0}"), ("b", "f32[32,16]{1,0}"))
    assert (kernel.kind, kernel.flops) == ("matrix product", 2 * 64 * 32 * 16)
    assert kernel.moved_bytes == (64 * 32 + 32 * 16 + 64 * 16) * F32


def test_a_product_within_a_fusion_counts_as_one():
    body = "  ROOT %d = f32[64,16]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    kernel = fused(body, "f32[64,32]{1,0}", "f32[32,16]{1,0}")
    assert (kernel.kind, kernel.flops) == ("matrix product", 2 * 64 * 32 * 16)


def convolution(target, result, *operands):
    kind = f'custom_call_target="__cudnn${target}"'
    line = f"({result}, u8[0]{{0}}) custom-call(%a, %b), window={{size=4x4 stride=2x2}}, "
    return lone(line + f"dim_labels=b01f_o01i->b01f, {kind}", *zip(("a", "b"), operands))


def test_a_convolution_and_both_its_gradients_count_the_same():
    x, kernel, y = "f32[2,32,32,3]{3,2,1,0}", "f32[8,4,4,3]{3,2,1,0}", "f32[2,16,16,8]{3,2,1,0}"
    found = [
        convolution("convForward", y, x, kernel),
        convolution("convBackwardInput", x, y, kernel),
        convolution("convBackwardFilter", kernel, x, y),
    ]
    assert {one.kind for one in found} == {"convolution"}
    assert {one.flops for one in found} == {2 * (2 * 16 * 16 * 8) * (4 * 4 * 3)}
    assert {one.moved_bytes for one in found} == {(2 * 32 * 32 * 3 + 8 * 4 * 4 * 3 + 2 * 16 * 16 * 8) * F32}


def test_a_convolution_whose_shapes_do_not_fit_its_labels_is_refused():
    x, kernel, y = "f32[2,32,32,3]{3,2,1,0}", "f32[3,4,4,8]{3,2,1,0}", "f32[2,16,16,8]{3,2,1,0}"
    with pytest.raises(ValueError, match="does not give the channels"):
        convolution("convForward", y, x, kernel)


def test_a_library_call_of_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match=r"__cudnn\$fmha, whose operations are not known"):
        lone('f32[8]{0} custom-call(%a), custom_call_target="__cudnn$fmha"', ("a", "f32[8]{0}"))


def test_a_pallas_kernel_has_bytes_and_its_own_name():
    kernel = lone('f32[8]{0} custom-call(%a), custom_call_target="__gpu$xla.gpu.triton"', ("a", "f32[8]{0}"))
    assert (kernel.kind, kernel.flops, kernel.moved_bytes) == ("Pallas kernel", 0, 16 * F32)


# --- Between devices, and the largest arrays -------------------------------------------------------------------------


def test_messages_between_devices_are_counted_by_type():
    entry = """\
  %a = f32[100]{0} parameter(0)
  %b = bf16[10]{0} parameter(1)
  %s.1 = (f32[100]{0}, f32[100]{0}) all-reduce-start(%a, %a), to_apply=%add
  %d.1 = (f32[100]{0}, f32[100]{0}) all-reduce-done(%s.1)
  %s.2 = bf16[10]{0} all-reduce-start(%b), to_apply=%add
  ROOT %d.2 = bf16[10]{0} all-reduce-done(%s.2)"""
    found = program(entry)
    assert found.collectives == (
        kernels.Collective("all-reduce", "bf16", 1, 10 * BF16),
        kernels.Collective("all-reduce", "f32", 2, 200 * F32),
    )
    assert found.kinds() == [kernels.KindTotal("collective", 2, 2 * (200 * F32 + 10 * BF16), 0)]


def test_the_largest_arrays_come_first_and_equal_ones_together():
    entry = """\
  %a = f32[8]{0} parameter(0)
  %one = f32[8]{0} negate(%a)
  %two = f32[8]{0} negate(%one)
  ROOT %low = bf16[8]{0} convert(%two)"""
    first, second = program(entry).largest(5)
    assert (str(first.shape), first.number) == ("f32[8]", 2)
    assert (str(second.shape), second.number) == ("bf16[8]", 1)
    assert program(entry).largest(1) == [first]
