"""The mask codec at its published widths against the same network built of torch's own layers."""

import numpy as np
import pytest
from mask_networks import PUBLIC_WIDTHS, random_arrays

torch = pytest.importorskip("torch")

from torch import nn

from mmtune.codecs import mask_network as network
from mmtune.codecs.mask_files import load_codec

pytestmark = pytest.mark.peers


class Residual(nn.Module):
    def __init__(self, wide, hidden):
        super().__init__()
        first, second = nn.Conv2d(wide, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 3, padding=1)
        self.net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(hidden, wide, 1))

    def forward(self, x):
        return x + self.net(x)


class Peer(nn.Module):
    def __init__(self, w):
        super().__init__()
        down = [
            layer
            for before, after in zip((1, *w.down), w.down, strict=False)
            for layer in (nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU())
        ]
        blocks = (Residual(w.down[-1], w.inner), Residual(w.down[-1], w.inner))
        self.encoder = nn.Sequential(*down, *blocks, nn.Conv2d(w.down[-1], w.embedding, 1))
        up = [
            layer
            for before, after in zip(w.up, w.up[1:], strict=False)
            for layer in (nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU())
        ]
        blocks = (Residual(w.up[0], w.outer), Residual(w.up[0], w.outer))
        first, last = nn.Conv2d(w.embedding, w.up[0], 1), nn.Conv2d(w.up[-1], 1, 1)
        self.decoder = nn.Sequential(first, nn.ReLU(), *blocks, *up, last)


@torch.no_grad()
def test_codes_and_masks_equal_torch(tmp_path):
    arrays = random_arrays(PUBLIC_WIDTHS)
    np.savez(tmp_path / "codec.npz", **arrays)
    codec = load_codec(tmp_path / "codec.npz")
    peer = Peer(PUBLIC_WIDTHS)
    codebook = torch.tensor(arrays.pop("_vq_vae._embedding"))
    peer.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})  # strict: the very names
    masks = np.random.default_rng(0).random((9, 64, 64)).astype(np.float32)
    vectors = peer.encoder(2 * (torch.tensor(masks)[:, None] - 0.5)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(network.encode(network.matrices(arrays), masks), vectors, rtol=1e-4, atol=1e-4)
    codes = torch.cdist(vectors.reshape(-1, 512), codebook).argmin(1).reshape(9, 16)
    assert (codec.encode(masks) == codes.numpy()).all()
    decoded = peer.decoder(codebook[codes].reshape(9, 4, 4, 512).permute(0, 3, 1, 2))[:, 0].clip(-1, 1)
    np.testing.assert_allclose(codec.decode(codes.numpy()), decoded, rtol=1e-4, atol=1e-4)
