"""`--set` where a task has options: `score`, `data check`, `eval`, `predict`; and `mmtune data convert --from`."""

import json

import numpy as np
import pytest
from commands import run
from mask_networks import NARROW, random_arrays
from PIL import Image

from mmtune.codecs.mask_files import load_codec, save_codec
from mmtune.data.read import read
from mmtune.tasks.segmentation import Segmentation, SegmentationOptions


def written(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


ANSWERS = ["pink"] * 2 + ["rose"] * 8
ASKED = {"id": 1, "image": "a.jpg", "question": "which?", "answers": ANSWERS} | {
    "choices": ["Pink", "red"],
    "correct_choice_idx": 0,
}
CAPTIONS = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "A dog"}]}


@pytest.mark.parametrize(
    ("task", "truth", "found", "options", "metric", "plain", "changed"),
    [
        pytest.param("ocr", "image,text\na.jpg,Exit\n", "a.jpg\texit\n", ["options.case_sensitive=false"],
                     "CER", 0.25, 0.0, id="case"),
        pytest.param("ocr", "image,text\na.jpg,Exit\n", "a.jpg\texit\n", ["case_sensitive=false"],
                     "CER", 0.25, 0.0, id="without the name of the table"),
        pytest.param("ocr", 'image,text\na.jpg,"a  b"\n', "a.jpg\ta b\n", ["options.white_space=collapse"],
                     "exact_match", 0.0, 1.0, id="white space"),
        pytest.param("ocr", 'image,text\na.jpg,"A  b"\n', "a.jpg\ta b\n",
                     ["options.white_space=collapse", "options.lower_case=true"], "exact_match", 0.0, 1.0, id="two"),
        pytest.param("vqa", [ASKED], "1\tpink\n", ["options.scoring=any"], "accuracy", 0.6, 1.0, id="scoring"),
        pytest.param("vqa", [ASKED], "1\trose\n", ["options.prompt=choose"], "accuracy", 1.0, 0.0, id="choices"),
        pytest.param("vqa", [ASKED], "1\tROSE\n", ["options.lower_case=true"], "exact_match", 0.0, 1.0, id="answers"),
        pytest.param("captioning", CAPTIONS, "1\ta dog\n", ["options.lower_case=true"], "exact_match", 0.0, 1.0,
                     id="captions"),
    ],
)  # fmt: skip
def test_scores_follow_the_options(capsys, tmp_path, task, truth, found, options, metric, plain, changed):
    file = written(tmp_path / ("truth.csv" if isinstance(truth, str) else "truth.json"), truth)
    words = ["score", "--task", task, "--truth", file, "--predictions", written(tmp_path / "found.tsv", found)]
    for more, expected in (([], plain), (["--set", *options], changed)):
        code, out, err = run(capsys, *words, "--json", "-", *more)
        assert code == 0, err
        assert json.loads(out)["metrics"][metric] == pytest.approx(expected), more


def test_segmentation_tokens_in_the_truth_are_read_by_the_codec(capsys, tmp_path):
    """Boxes of truth and answer are the same; what lies in them depends on the codec."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    codes = load_codec().encode(np.tri(64, dtype=bool)[None])[0].tolist()
    text = "<loc0000><loc0000><loc1023><loc1023>" + "".join(f"<seg{code:03d}>" for code in codes) + " cat"
    truth = written(tmp_path / "t.jsonl", json.dumps({"image": "a.png", "prefix": "segment cat", "suffix": text}))
    other = tmp_path / "other.npz"
    save_codec(random_arrays(NARROW, seed=3), other)  # whose masks fill their boxes
    task = Segmentation(("cat",), SegmentationOptions(codec="small"))
    (mask,) = task.prepared(read(truth, task="segmentation")[0]).masks
    run_lengths = {"size": list(mask.size), "counts": mask.counts.decode()}
    object_ = {"label": "cat", "score": 1.0, "box": [0, 0, 64, 64]}
    answer = [{"record": "a.png", "boxes": [object_], "masks": [object_ | {"rle": run_lengths}]}]
    words = ["score", "--task", "segmentation", "--truth", truth, "--predictions",
             written(tmp_path / "found.json", answer), "--json", "-"]  # fmt: skip
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert json.loads(out)["metrics"]["mIoU"] == 1.0
    _, out, _ = run(capsys, *words, "--set", f"options.codec={other}")
    assert json.loads(out)["metrics"]["mIoU"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["options.case_sensitve=false"], "did you mean 'options.case_sensitive'?", id="name"),
        pytest.param(["case_sensitive=maybe"], "options.case_sensitive: expected true or false, got", id="value"),
        pytest.param(["options.white_space=x"], "options.white_space: expected one of keep, collapse", id="choice"),
        pytest.param(["case_sensitive"], "--set options.case_sensitive: expected key=value", id="no value"),
        pytest.param(["steps=3"], "unknown key 'options.steps'", id="key of a recipe"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["score", "check", "eval", "predict"])
def test_wrong_options_are_one_message(capsys, tmp_path, words, expected, command):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
    truth = written(tmp_path / "truth.csv", "image,text\na.jpg,Exit\n")
    start = {
        "score": ["score", "--truth", truth, "--predictions", truth],
        "check": ["data", "check", truth],
        "eval": ["eval", "tiny", "--data", truth],
        "predict": ["predict", "tiny", "--image", tmp_path / "a.jpg"],
    }[command]
    code, out, err = run(capsys, *start, "--task", "ocr", "--set", *words)
    assert (code, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err


def test_noise_boxes_fill_every_answer(capsys, tmp_path):
    words = ["eval", "tiny", "--task", "detection", "--data", "shapes:test?n=1&size=64", "--predictions"]
    code, _, err = run(capsys, *words, tmp_path / "found.jsonl", "--set", "options.noise_boxes=3")
    assert code == 0, err
    (line,) = (tmp_path / "found.jsonl").read_text().splitlines()
    assert len(json.loads(line)["boxes"]) >= 3
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(picture)
    words = ["predict", "tiny", "--task", "detection", "--image", picture, "--prompt", "detect star", "--json", "-"]
    code, out, err = run(capsys, *words, "--set", "noise_boxes=2")
    assert code == 0, err
    boxes = json.loads(out)[0]["boxes"]
    assert len(boxes) >= 2
    assert {box["label"] for box in boxes} == {"star"}


def test_data_check_with_options(capsys, tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
    truth = written(tmp_path / "truth.csv", "image,text\na.jpg,Exit\n")
    code, _, err = run(capsys, "data", "check", truth, "--task", "ocr", "--set", "options.max_length=3")
    assert code == 2
    assert "none of 1 records can be used for ocr" in err
    assert run(capsys, "data", "check", truth, "--task", "ocr", "--set", "options.max_length=4")[0] == 0
    code, _, err = run(capsys, "data", "check", truth, "--set", "options.max_length=4")
    assert code == 2
    assert "--set changes the options of a task: give --task as well" in err


def test_convert_from_a_named_format(capsys, tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "1.png")
    written(tmp_path / "1.txt", "two words")
    out = tmp_path / "out.jsonl"
    words = ["data", "convert", tmp_path / "1.txt", out, "--format", "jsonl", "--task", "ocr", "--from"]
    code, said, _ = run(capsys, *words, "text_lines")
    assert (code, said) == (0, f"1 of 1 records written to {out}\n")
    assert json.loads(out.read_text()) == {"image": "1.png", "prefix": "", "suffix": "two words"}
    code, _, err = run(capsys, *words, "text_line")
    assert code == 2
    assert "did you mean 'text_lines'?" in err


def test_convert_for_an_unknown_task(capsys, tmp_path):
    words = ["data", "convert", "shapes?n=1&size=64", tmp_path / "out", "--format", "coco", "--task", "detecton"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "did you mean 'detection'?" in err
    assert not (tmp_path / "out").exists()


def test_what_is_lost_is_no_record(capsys, tmp_path):
    words = ["data", "convert", "shapes?n=2&size=64", tmp_path / "o.jsonl", "--format", "jsonl", "--task"]
    code, out, err = run(capsys, *words, "segmentation")
    assert code == 0
    assert out.startswith("2 of 2 records written")
    assert "1 fault set aside (1 masks left out):" in err


def test_all_faults_of_result_files_are_told(capsys, tmp_path):
    truth = written(tmp_path / "truth.csv", "image,text\n" + "".join(f"{n}.jpg,Exit\n" for n in range(9)))
    found = written(tmp_path / "found.tsv", "0.jpg\tExit\n99.jpg\tx\n")
    code, _, err = run(capsys, "score", "--task", "ocr", "--truth", truth, "--predictions", found)
    assert code == 0
    assert "9 faults set aside (8 missing text, 1 unknown picture):" in err
    assert all(f"{number}.jpg: there is no text for this picture" in err for number in range(1, 9))
