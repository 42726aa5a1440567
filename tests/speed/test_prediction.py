"""Whole exams: predicted, deconvolved, cut."""

import pytest

from dscgan_jax.configs import physics
from dscgan_jax.data import exams
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.speed import inputs, prediction


@pytest.mark.slow
def test_an_exam_is_predicted_deconvolved_and_cut(tmp_path, tiny_config):
    config = tiny_config()
    files = inputs.simulated_exam(config, tmp_path)
    exam = exams.load_exam(files)
    assert exam.series.shape[:3] == (32, 32, inputs.MORE_SLICES)
    assert inputs.first_slices(exam, 6).maps["cbf"].shape == (32, 32, 6)
    measured = prediction.measure_inference(config, exam, tmp_path, 1)
    assert {"one_map", "five_maps", "preparation"} < set(measured)
    assert set(measured["five_maps"]) == {"per_slice", "running"}
    assert prediction.measure_deconvolution(exam, files, 1, ("csvd",))["methods"]["csvd"]["repeats"] == 1
    predictor, _ = inputs.predictor_of(config, MAP_NAMES, tmp_path)
    assert predictor.predict(exam).scaled.values.shape == (inputs.MORE_SLICES, 32, 32, 5)


def test_the_temporal_stack_is_measured_alone(tiny_config):
    config = tiny_config(**{"model.generator": "temporal", "model.unet_width": 2})
    measured = prediction.measure_temporal_stack(config, 1)
    assert measured["counted_flops"] == 4 * inputs.count(config).temporal
    assert measured["running"]["fraction_of_peak"]["float32"] > 0
    assert prediction.measure_temporal_stack(tiny_config(), 1) is None
    light = physics.get_config("demo")
    assert inputs.count(light).temporal and prediction.measure_temporal_stack(light, 1) is None
