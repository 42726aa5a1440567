"""Programs of a few lines as XLA writes them, read into instructions and places."""

import hlo
import pytest

TEXT = """\
HloModule jit_step, is_scheduled=true

FileNames
1 "/somewhere/benchmarks/gpu_program.py"
2 "/somewhere/dscgan_jax/models/unet.py"
3 "/elsewhere/site-packages/flax/nnx.py"

FunctionNames
1 "main"
2 "UNet.__call__"
3 "call"

FileLocations
1 {file_name_id=1 function_name_id=1 line=9 end_line=9 column=1 end_column=2}
2 {file_name_id=2 function_name_id=2 line=40 end_line=41 column=1 end_column=2}
3 {file_name_id=3 function_name_id=3 line=700 end_line=700 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}
3 {file_location_id=3 parent_frame_id=2}

%inside (p.1: f32[4,8]) -> f32[4,8] {
  %p.1 = f32[4,8]{1,0} parameter(0)
  ROOT %twice = f32[4,8]{1,0} add(%p.1, %p.1), metadata={op_name="jit(step)/add" stack_frame_id=3}
}

ENTRY %main.2 (x.1: f32[4,8], y.1: bf16[2]) -> (f32[4,8], bf16[2]) {
  %x.1 = f32[4,8]{1,0} parameter(0)
  %y.1 = bf16[2]{0} parameter(1), sharding={replicated}
  %a_fusion = f32[4,8]{1,0} fusion(%x.1), kind=kLoop, calls=%inside
  %here = f32[4,8]{1,0} copy(%a_fusion), metadata={op_name="jit(step)/transpose(jvp())/add" stack_frame_id=2}
  %nowhere = f32[4,8]{1,0} copy(%here), metadata={op_name="jit(step)/add" stack_frame_id=1}
  %call.1 = (f32[4,4]{1,0}, /*index=1*/s8[9]{0}) custom-call(%here, /*index=1*/%x.1), custom_call_target="__cublas$gemm"
  ROOT %all = (f32[4,8]{1,0}, bf16[2]{0}) tuple(%nowhere, %y.1)
}
"""


def entry():
    module = hlo.read(TEXT)
    return module, {one.name: one for one in module.computations[module.entry]}


def test_computations_and_their_instructions_are_all_there():
    module, lines = entry()
    assert module.entry == "main.2" and set(module.computations) == {"inside", "main.2"}
    assert list(lines) == ["x.1", "y.1", "a_fusion", "here", "nowhere", "call.1", "all"]
    assert [one.name for one in module.computations["main.2"] if one.is_root] == ["all"]


def test_an_instruction_has_its_arrays_operands_and_words():
    _, lines = entry()
    call = lines["call.1"]
    assert call.operation == "custom-call" and call.operands == ("here", "x.1")
    assert [str(shape) for shape in call.results] == ["f32[4,4]", "s8[9]"]
    assert call.named("custom_call_target") == "__cublas$gemm"
    assert lines["a_fusion"].named("calls") == "inside" and lines["a_fusion"].named("body") is None
    assert lines["y.1"].given == "1"


def test_bytes_of_an_array_follow_from_its_type():
    assert [hlo.Shape(dtype, (2, 3)).nbytes for dtype in ("f32", "bf16", "pred", "f64")] == [24, 12, 6, 48]
    assert hlo.Shape("s32", ()).nbytes == 4
    with pytest.raises(ValueError, match="type s5: unknown"):
        hlo.Shape("s5", (2,)).nbytes  # noqa: B018


def test_numbers_behind_a_word_are_read_in_both_spellings():
    def numbers(attributes):
        one = hlo.Instruction("a", "dot", (), (), "", attributes, False)
        return one.numbers("contracting")

    assert numbers(", contracting={1,2}") == (1, 2)
    assert numbers(', backend_config={"contracting":["0","3"]}') == (0, 3)
    assert numbers(", contracting={}") == ()
    assert numbers("") is None


def test_a_place_is_the_innermost_line_of_ours():
    module, lines = entry()
    assert module.place(lines["here"]) == "models/unet.py:40, derivative"
    assert module.place(lines["a_fusion"]) == "models/unet.py:40"  # of what it calls, past a library's line
    assert module.place(lines["nowhere"]) == ""  # a script beside the package
    assert module.place(lines["x.1"]) == ""


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.read("module @jit_step {\n}\n")
