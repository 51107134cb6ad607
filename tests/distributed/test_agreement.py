"""What processes differ in is named, with every value and the processes that have it."""

import pytest

from mmtune.distributed.agreement import differences, disagreement, stated, versions

SAME = {"seed": "0", "steps": "6"}


def test_the_same_is_no_difference():
    assert differences([SAME, dict(SAME), SAME]) == []


def test_every_value_is_named_with_its_processes():
    others = [SAME | {"seed": "7"}, SAME, SAME | {"seed": "7"}, {"steps": "6"}]
    assert differences([SAME, *others]) == ["seed: 0 in processes 0, 2; 7 in processes 1, 3; not given in process 4"]


def test_a_key_that_only_the_last_has():
    assert differences([SAME, SAME | {"mesh": "'data=2'"}]) == ["mesh: not given in process 0; 'data=2' in process 1"]


def test_nested_settings_are_stated_by_keys_with_dots():
    assert stated({"optimizer": {"clip": 1.0}, "out": "runs/a"}) == {"optimizer.clip": "1.0", "out": "'runs/a'"}


def test_one_difference_is_one_line_and_many_are_cut():
    assert "\n" not in str(disagreement(["seed: 0 in process 0; 1 in process 1"]))
    many = str(disagreement([f"key{index}: a in process 0; b in process 1" for index in range(40)])).split("\n")
    assert many[0].startswith("the processes differ: start all of them with the same")
    assert many[1].startswith("key0: ")
    assert many[-1] == "and 28 more"


def test_long_values_are_cut():
    line = differences([{"a": "x" * 500}, {"a": "y" * 500}])[0]
    assert len(line) < 250
    assert "x..." in line
    assert "y..." in line


@pytest.mark.parametrize("package", ["mmtune", "jax", "keras", "keras-hub", "python"])
def test_versions_are_stated(package):
    assert versions()[f"version of {package}"][0].isdigit()
