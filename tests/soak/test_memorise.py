"""A few real pictures are learned by heart: minutes, so run by hand with `-m soak`."""

import pytest

from benchmarks.memorise import memorise


@pytest.mark.soak
@pytest.mark.parametrize(
    ("folder", "task", "metric", "least"),
    [
        ("nuts", "detection", "AP50", 0.9),
        ("bccd", "detection", "AP50", 0.9),
        ("nuts", "segmentation", "AP50", 0.8),
        ("words/crops", "ocr", "exact_match", 0.9),
        ("lines", "ocr", "exact_match", 0.9),
        ("captions/flickr8k", "captioning", "exact_match", 0.9),
    ],
)
def test_real_pictures_are_learned_by_heart(shared_data, tmp_path, folder, task, metric, least):
    assert memorise(shared_data / folder, tmp_path / "run", task, verbose=False).metrics[metric] >= least
