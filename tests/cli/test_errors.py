"""Unusable input: one message, exit code 2, no traceback."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from mmtune.cli import main


def photo(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "grey").save(path)
    return path


def coco(folder, *, boxes=((5, 5, 10, 10),), name="a.png"):
    photo(folder / "a.png")
    content = {
        "images": [{"id": 0, "file_name": name, "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": 1, "bbox": list(box), "area": 1, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return folder / "truth.json"


def missing_file(folder):
    return ["data", "check", str(folder / "nowhere.json")], "nowhere.json: there is no such file"


def malformed_json(folder):
    (folder / "truth.json").write_text('{"images": [],\n "annotations": [}\n')
    return ["data", "check", str(folder / "truth.json")], "truth.json:2: expected JSON"


def no_annotations(folder):
    (folder / "empty").mkdir()
    return ["data", "check", str(folder / "empty"), "--task", "detection"], "empty"


def all_boxes_outside(folder):
    file = coco(folder, boxes=[(100, 100, 10, 10)], name="b.png")
    return ["data", "check", str(file), "--task", "detection"], "b.png"


def unknown_task(folder):
    return ["data", "check", str(coco(folder)), "--task", "detecton"], "did you mean 'detection'?"


def unknown_format(folder):
    return ["data", "check", str(coco(folder)), "--format", "cocoo"], "did you mean 'coco'?"


def unknown_command(_):
    return ["trian"], "did you mean 'train'?"


def unknown_key(folder):
    words = [
        "train",
        "--task",
        "detection",
        "--data",
        str(coco(folder)),
        "--set",
        "optimizer.learning_rat=1",
        "lora.rang=2",
    ]
    return words, "did you mean 'optimizer.learning_rate'?"


def two_faults_at_once(folder):
    words = ["train", "--task", "detection", "--data", str(coco(folder)), "--set", "batch_size=0", "lora.rank=x"]
    return words, "lora.rank: expected a whole number, got 'x'"


def unknown_option_of_the_task(folder):
    words = ["train", "--task", "detection", "--data", str(coco(folder)), "--set", "options.noise=5"]
    return words, "did you mean 'options.noise_boxes'?"


def no_task(folder):
    return ["train", "--data", str(coco(folder))], "task: is required"


def recipe_without_toml(folder):
    (folder / "bad.toml").write_text("task = \n")
    return ["train", str(folder / "bad.toml")], "bad.toml: no TOML"


def unknown_model(folder):
    photo(folder / "a.png")
    return ["predict", "tinny", "--task", "detection", "--image", str(folder / "a.png")], "did you mean 'tiny'?"


def no_picture(_):
    return ["predict", "tiny", "--task", "detection"], "--image FILE"


def absent_picture(folder):
    return ["predict", "tiny", "--task", "detection", "--image", str(folder / "no.jpg")], "no.jpg"


def truncated_picture(folder):
    whole = photo(folder / "whole.jpg", (640, 480))
    cut = folder / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:700])
    return ["predict", "tiny", "--task", "detection", "--prompt", "detect cat", "--image", str(cut)], "cut.jpg"


def no_prompt_for_an_untaught_model(folder):
    photo(folder / "a.png")
    return ["predict", "tiny", "--task", "detection", "--image", str(folder / "a.png")], "detect cat ; dog"


def nothing_to_resume(folder):
    return ["train", "--out", str(folder / "run"), "--resume"], "holds no run to go on with"


def full_and_adapter(folder):
    return [
        "train",
        "--task",
        "detection",
        "--data",
        str(coco(folder)),
        "--full",
        "--lora-rank",
        "4",
    ], "give one of them"


def score_of_a_missing_file(folder):
    words = ["score", "--task", "detection", "--truth", str(coco(folder)), "--predictions", str(folder / "none.json")]
    return words, "none.json"


def fraction_out_of_range(folder):
    words = ["train", "--task", "detection", "--data", str(coco(folder)), "--val", "1.5", "--out", str(folder / "run")]
    return words, "fraction between 0 and 1"


def steps_and_epochs(folder):
    words = ["train", "--task", "detection", "--data", str(coco(folder)), "--steps", "4", "--epochs", "1"]
    return words, "give one of them"


def json_into_a_folder(folder):
    words = ["eval", "tiny", "--task", "detection", "--data", str(coco(folder)), "--json", str(folder)]
    return words, "expected the name of a file, found a folder"


def json_below_a_file(folder):
    words = ["data", "check", str(coco(folder)), "--json", str(folder / "truth.json" / "report.json")]
    return words, "is no folder that lets us write"


def out_below_a_file(folder):
    words = ["data", "convert", str(coco(folder)), str(folder / "truth.json" / "out"), "--format", "yolo"]
    return words, "truth.json"


def overlays_without_a_task(folder):
    words = ["data", "check", str(coco(folder)), "--out", str(folder / "out")]
    return words, "--out draws what a task teaches: give --task as well"


def overlays_of_texts(folder):
    (folder / "chat.jsonl").write_text('{"question": "a?", "answer": "b"}')
    words = ["data", "check", str(folder / "chat.jsonl"), "--task", "instruct", "--out", str(folder / "out")]
    return words, "the task instruct is about text alone: leave --out out"


def overlays_into_a_file(folder):
    file = str(coco(folder))
    return ["data", "check", file, "--task", "detection", "--out", file], "is no folder that lets us write"


def only_box_outside(folder):
    return [
        "data",
        "check",
        str(coco(folder, boxes=[(100, 100, 10, 10)])),
        "--task",
        "detection",
    ], "no box of this coco data"


def no_boxes_at_all(folder):
    words = ["train", "--task", "detection", "--data", str(coco(folder, boxes=[])), "--out", str(folder / "run")]
    return words, "expected at least one box"


def only_truncated_photos(folder):
    file = coco(folder)
    Image.effect_noise((40, 30), 90).save(folder / "whole.png")
    (folder / "a.png").write_bytes((folder / "whole.png").read_bytes()[:700])
    return ["data", "check", str(file), "--task", "detection"], "none of 1 records can be used for detection"


def training_on_truncated_photos(folder):
    words, _ = only_truncated_photos(folder)
    words = ["train", "--task", "detection", "--data", words[2], "--steps", "1", "--out", str(folder / "run")]
    return words, "none of the 1 training pictures can be opened; the first:"


def evaluation_of_truncated_photos(folder):
    words, _ = only_truncated_photos(folder)
    return ["eval", "tiny", "--task", "detection", "--data", words[2]], "none of 1 records could be evaluated"


CASES = [
    only_box_outside,
    no_boxes_at_all,
    only_truncated_photos,
    training_on_truncated_photos,
    evaluation_of_truncated_photos,
    steps_and_epochs,
    json_into_a_folder,
    json_below_a_file,
    out_below_a_file,
    overlays_without_a_task,
    overlays_of_texts,
    overlays_into_a_file,
    missing_file,
    malformed_json,
    no_annotations,
    all_boxes_outside,
    unknown_task,
    unknown_format,
    unknown_command,
    unknown_key,
    two_faults_at_once,
    unknown_option_of_the_task,
    no_task,
    recipe_without_toml,
    unknown_model,
    no_picture,
    absent_picture,
    truncated_picture,
    no_prompt_for_an_untaught_model,
    nothing_to_resume,
    full_and_adapter,
    score_of_a_missing_file,
    fraction_out_of_range,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_message_and_exit_code_2(case, tmp_path, capsys):
    words, expected = case(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert sum(line.startswith("mmtune:") for line in said.splitlines()) == 1
    assert expected in said
    assert "Traceback" not in said


def test_all_faults_of_a_recipe_are_reported_together(tmp_path, capsys):
    words, _ = unknown_key(tmp_path)
    with pytest.raises(SystemExit):
        main([*words, "batch_size=many"])
    said = capsys.readouterr().err
    for part in ("optimizer.learning_rate", "lora.rank", "batch_size: expected a whole number, got 'many'"):
        assert part in said


@pytest.mark.parametrize(
    "words", [["train", "--nonsense"], ["eval", "tiny"], ["predict"], ["train", "--steps", "many"]], ids=" ".join
)
def test_wrong_usage_exits_with_2_and_no_traceback(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_pictures_that_cannot_be_opened_are_left_out(tmp_path, capsys):
    photo(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    words = ["predict", "tiny", "--task", "detection", "--prompt", "detect cat", "--max-tokens", "9", "--json", "-"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--image", str(tmp_path / "b.png"), str(tmp_path / "a.png")])
    said = capsys.readouterr()
    assert left.value.code == 0
    assert [item["image"] for item in json.loads(said.out)] == [str(tmp_path / "a.png")]
    assert "left out: " in said.err
    assert "b.png" in said.err


def test_boxes_outside_are_named_and_the_rest_is_used(tmp_path, capsys):
    file = coco(tmp_path, boxes=[(5, 5, 10, 10), (100, 100, 10, 10), (30, 20, 50, 50)])
    with pytest.raises(SystemExit) as left:
        main(["data", "check", str(file), "--task", "detection", "--json", "-"])
    assert left.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["boxes"]["total"] == 2
    assert len(report["faults"]) == 2
    assert all(str(file) in fault["file"] for fault in report["faults"])


@pytest.mark.parametrize("module", ["keras", "jax", "tensorflow", "torch", "datasets", "pandas", "gradio", "numpy"])
def test_help_imports_nothing_heavy(module):
    code = (
        f"import sys, mmtune.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: assert {module!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
