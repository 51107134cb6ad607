"""Files of mask codecs: the shipped one, the public names, and what is wrong with others."""

from importlib.resources import files

import numpy as np
import pytest
from mask_networks import NARROW, PUBLIC_WIDTHS, random_arrays

from mmtune.codecs import mask_files
from mmtune.codecs import mask_network as network
from mmtune.codecs.mask_files import load_codec, save_codec
from mmtune.errors import ModelError
from mmtune.models.train_masks import SMALL_WIDTHS


def test_shipped_codec():
    path = files("mmtune") / "assets" / "mask_codec.npz"
    with np.load(str(path)) as archive:
        assert network.read_widths(archive) == SMALL_WIDTHS
        assert all(archive[name].dtype == np.float16 for name in archive.files)
    assert len(path.read_bytes()) < 300_000
    codec = load_codec()
    assert codec is load_codec("small")
    assert codec.name == "small"
    # Models that were taught its codes hold this; another codec under the same name would break them.
    assert codec.fingerprint == "bd3e76dbd864"


def test_file_of_the_published_widths_loads_under_its_own_names(tmp_path):
    arrays = random_arrays(PUBLIC_WIDTHS)
    np.savez(tmp_path / "vae-oid.npz", **arrays, other=np.zeros(3))
    codec = load_codec(tmp_path / "vae-oid.npz")
    codes = codec.encode(np.random.default_rng(0).random((2, 64, 64)))
    vectors = network.encode(network.matrices(arrays), np.random.default_rng(0).random((2, 64, 64)).astype(np.float32))
    assert (codes == network.nearest(arrays["_vq_vae._embedding"], vectors).reshape(2, 16)).all()
    assert codec.name == str(tmp_path / "vae-oid.npz")


def test_saved_codec_is_read_back(tmp_path):
    arrays = random_arrays(NARROW)
    save_codec(arrays, tmp_path / "a.npz")
    save_codec(arrays, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert load_codec(tmp_path / "a.npz").fingerprint == load_codec(tmp_path / "b.npz").fingerprint
    arrays["decoder.12.bias"] = arrays["decoder.12.bias"] + 1
    save_codec(arrays, tmp_path / "c.npz")
    assert load_codec(tmp_path / "c.npz").fingerprint != load_codec(tmp_path / "a.npz").fingerprint


def _without(name):
    return lambda arrays: arrays.pop(name)


def _shaped(name, shape):
    return lambda arrays: arrays.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_without("encoder.8.net.2.bias"), "1 arrays are missing: encoder.8.net.2.bias", id="missing"),
        pytest.param(
            _shaped("decoder.6.weight", (2, 3, 4, 4)),
            "wrong shapes: decoder.6.weight (2, 3, 4, 4) instead of (3, 2, 4, 4)",
            id="transposed",
        ),
        pytest.param(_shaped("encoder.0.bias", (2, 1)), "number of axes: encoder.0.bias (2, 1)", id="axes of a bias"),
        pytest.param(_shaped("_vq_vae._embedding", (640,)), "axes: _vq_vae._embedding (640,)", id="axes of codebook"),
        pytest.param(
            _shaped("_vq_vae._embedding", (64, 5)),
            "_vq_vae._embedding (64, 5) instead of (128, 5)",
            id="another number of codes",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, spoil, words):
    arrays = random_arrays(NARROW)
    spoil(arrays)
    path = tmp_path / "codec.npz"
    np.savez(path, **arrays)
    with pytest.raises(ModelError) as error:
        load_codec(path)
    assert str(error.value).startswith(f"{path}: no mask codec: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "no such file; expected the .npz file of a mask codec", id="absent"),
        pytest.param(b"text", "found no .npz file at all", id="text"),
        pytest.param(b"PK\x05\x06" + bytes(18), "arrays are missing", id="empty archive"),
    ],
)
def test_other_files(tmp_path, content, words):
    path = tmp_path / "codec.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_codec(path)


def test_public_codec_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(**arguments):
        assert arguments == {"repo_id": "google/paligemma-hf", "filename": "vae-oid.npz", "repo_type": "space"}
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ModelError, match="connect to the network once, or give a file by --codec FILE"):
        load_codec("public")
    # What lies in the cache needs no network.
    save_codec(random_arrays(NARROW), tmp_path / "vae-oid.npz")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "vae-oid.npz"))
    assert load_codec("public").name == "public"
    mask_files._load.cache_clear()
