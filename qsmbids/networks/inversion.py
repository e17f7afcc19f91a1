"""Inversion by networks, on whole volumes."""

import numpy as np
import torch

from qsmbids.networks.pocsnet import start


def invert_with(network, field, mask, voxel_size, b0_dir, strength):
    """Return the maps of a POCSnet2: after the projection and before it, ppm, zero outside the mask."""
    begun = start(field, mask, voxel_size, b0_dir, strength)
    device = next(network.parameters()).device

    def tensor(volume):
        return torch.from_numpy(volume)[None, None].to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
        maps = network(tensor(begun.field), tensor(begun.first), tensor(begun.data),
                       tensor(begun.mask.astype(np.float32)), torch.tensor([begun.level]).float().to(device),
                       tensor(begun.smoothing))
    placed = []
    for estimate in maps:
        volume = np.zeros(mask.shape, np.float32)
        volume[begun.box] = begun.scale * estimate[0, 0].float().cpu().numpy()[tuple(slice(n) for n in begun.box_shape)]
        placed.append(volume * mask)
    return placed
