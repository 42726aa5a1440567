"""The section of a compiled program: its table, its targets, and that it is never taken for a measurement."""

import copy

import pytest

from dscgan_jax.speed import page, program, records, targets

GIB = 2**30


def row(what="train", **changes):
    kernels = [
        {"kind": "fusion", "launches": 341, "moved_bytes": 50e9, "flops": 0},
        {"kind": "copy", "launches": 40, "moved_bytes": 1e9, "flops": 0},
    ]
    memory = {"temporary_bytes": 4 * GIB, "argument_bytes": 1, "output_bytes": 1, "alias_bytes": 0}
    return {
        "what": what,
        "batch": 8 if what == "predict" else 4,
        "compute": "bfloat16",
        "lean": False,
        "devices": 1,
        "norm": "per_slice" if what == "predict" else None,
        "moved_bytes": 51e9,
        "matrix_flops": 11e12,
        "memory": memory,
        "kernels": kernels,
        "collectives": [],
        "largest": [],
        **changes,
    }


def with_memory(gibibytes, **changes):
    changed = copy.deepcopy(row(**changes))
    changed["memory"]["temporary_bytes"] = gibibytes * GIB
    return changed


def reduced(*dtypes):
    return [{"operation": "all-reduce", "dtype": dtype, "number": 3, "nbytes": 100} for dtype in dtypes]


def record(*rows):
    return {
        "schema": records.PROGRAM,
        "command": "python benchmarks/gpu_program.py --all",
        "versions": {"jax": "0"},
        "chip": {"name": "a chip"},
        "config": {"size": 128, "frames": 80, "model": {"width": 128}},
        "rows": list(rows),
    }


def verdict(beginning, *rows):
    return next(one[2:] for one in program.checklist(list(rows)) if one[0].startswith(beginning))


def test_the_page_says_that_nothing_of_it_was_measured():
    text = page.page([record(row())])
    assert "## A compiled program, not a measured time: a chip, 128 x 128 x 80, width 128" in text
    assert "| train | 1 | 4 | bfloat16 | no | 51 GB | 4.00 GiB | 11 TFLOP | 341 fusions, 40 copies | – |" in text
    assert "cuDNN's layouts and workspaces" in text


def test_no_measured_target_is_met_by_a_compiled_program():
    assert targets.checklist([record(row())]) == targets.checklist([])


def test_without_rows_nothing_was_compiled():
    assert {one[2:] for one in program.checklist([])} == {(program.NOT_COMPILED, program.NOT_COMPILED)}


@pytest.mark.parametrize(("moved", "met"), [(50e9, "yes"), (50.1e9, "**no**")])
def test_a_step_may_move_so_many_bytes(moved, met):
    assert verdict("training step, 4 slices, bfloat16", row(moved_bytes=moved))[1] == met
    assert verdict("training step, 4 slices, float32", row(moved_bytes=moved))[1] == program.NOT_COMPILED


def test_lean_is_held_against_not_lean_of_the_same_type():
    full = with_memory(8.0, compute="float32")
    assert verdict("… lean", full, with_memory(4.0, compute="float32", lean=True)) == ("0.50 x", "yes")
    assert verdict("… lean", full, with_memory(9.0, compute="float32", lean=True)) == ("1.12 x", "**no**")
    assert verdict("… lean", full, with_memory(4.0, lean=True))[1] == program.NOT_COMPILED


def test_prediction_is_held_to_its_bytes():
    assert verdict("predict", row("predict", moved_bytes=29e9)) == ("29 GB", "yes")
    assert verdict("predict", row("predict", norm="running", moved_bytes=29e9))[1] == program.NOT_COMPILED


def test_eight_devices_add_up_in_float32_and_need_little_more_memory():
    many, one = with_memory(4.4, devices=8, collectives=reduced("f32", "s32")), with_memory(4.0)
    types, memory = "training step on 8 GPUs", "… temporary memory beyond"
    assert verdict(types, many) == ("f32", "yes")
    assert verdict(types, row(devices=8, collectives=reduced("bf16", "f32"))) == ("bf16, f32", "**no**")
    assert verdict(memory, many, one) == ("0.40 GiB", "yes")
    assert verdict(memory, many) == (program.NOT_COMPILED, program.NOT_COMPILED)


def test_messages_stand_in_the_table_by_type():
    words = program.row_words(row(devices=8, collectives=reduced("bf16", "f32")))
    assert words[-1] == "3 all-reduce bf16 (100 B), 3 all-reduce f32 (100 B)"


def test_operations_of_pallas_kernels_are_said_to_be_missing():
    pallas = {"kind": "Pallas kernel", "launches": 6, "moved_bytes": 1e9, "flops": 0}
    assert "11 TFLOP beside those of Pallas kernels" in program.row_words(row(kernels=[pallas]))
