"""`--codec` where segmentation tokens have a meaning, and what it says elsewhere."""

import numpy as np
import pytest
from mask_networks import NARROW, random_arrays

from mmtune.cli import main
from mmtune.codecs.mask_files import load_codec, save_codec

SHAPES = "shapes?n=2&size=64&max_objects=2"


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    return left.value.code or 0, said.out + said.err


def test_data_check_measures_the_codec_that_is_given(capsys, tmp_path):
    other = tmp_path / "other.npz"
    save_codec(random_arrays(NARROW), other)
    code, said = run(capsys, "data", "check", SHAPES, "--task", "segmentation", "--codec", str(other))
    assert code == 0
    assert f"(codec id: other.npz {load_codec(other).fingerprint})" in said
    code, said = run(capsys, "data", "check", SHAPES, "--task", "segmentation")
    assert code == 0
    assert "score mIoU 0.9" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(("--codec", "small"), "give --task segmentation as well", id="no task"),
        pytest.param(("--task", "detection", "--codec", "small"), "unknown key 'options.codec'", id="other task"),
        pytest.param(("--task", "segmentation", "--codec", "none.npz"), "none.npz: no such file", id="absent"),
        pytest.param(("--task", "segmentation", "--codec", "BROKEN"), "2 arrays are missing: encoder.0", id="broken"),
    ],
)
def test_wrong_use_is_one_sentence(capsys, tmp_path, words, expected):
    arrays = random_arrays(NARROW)
    del arrays["encoder.0.weight"], arrays["encoder.0.bias"]
    np.savez(tmp_path / "broken.npz", **arrays)
    words = [str(tmp_path / "broken.npz") if word == "BROKEN" else word for word in words]
    code, said = run(capsys, "data", "check", SHAPES, *words)
    assert code == 2
    assert expected in said
    assert "Traceback" not in said
