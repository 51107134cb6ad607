"""Two processes that are set up wrongly end in seconds, both, with a sentence that says what is wrong."""

import pytest
from setups import SETUPS, ends

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_what_is_wrong_is_said(tmp_path, setup):
    found = ends(tmp_path, setup)
    codes = tuple(ended.code for _, ended in sorted(found.items()))
    said = "\n".join(ended.errors for _, ended in sorted(found.items()))
    if setup.name == "no launcher joins them, one folder":
        codes = tuple(sorted(codes))  # whichever comes first
    assert codes == setup.code, said[-3000:]
    for text in setup.says:
        assert text in said, said[-3000:]
    assert "Traceback" not in said
    assert "Gloo" not in said
    assert "    @ " not in said, "a stack of the C++ library"
    if setup.code == (2, 2):
        assert not (tmp_path / "run" / "recipe.toml").exists(), "a run began"
