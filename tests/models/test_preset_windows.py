"""Which layers of a preset see a window alone: those of KerasHub's own backbone."""

import pytest
from backbones import make

from mmtune.models.presets import preset_spec
from mmtune.models.spec import read_spec


@pytest.mark.parametrize(("name", "family"), [("gemma2_2b_en", "gemma2"), ("pali_gemma2_pt_3b_224", "paligemma2")])
def test_windows_lie_where_kerashub_has_them(name, family):
    spec = preset_spec(name).text
    count = 4
    backbone = make(family, num_layers=count, sliding_window_size=4096)
    theirs = [layer.attention.use_sliding_window_attention for layer in backbone.transformer_layers]
    assert any(theirs)
    assert not all(theirs)
    wanted = tuple(4096 if sees_a_window else None for sees_a_window in theirs)
    assert spec.windows == wanted * (spec.num_layers // count) + wanted[: spec.num_layers % count]
    assert read_spec(backbone).text.windows == wanted


def test_the_first_gemma_has_no_windows():
    assert set(preset_spec("gemma_2b_en").text.windows) == {None}
