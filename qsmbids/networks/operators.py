"""Physics on tensors. Volumes have the shape (batch, channel, nx, ny, nz), kernels that of their half spectrum."""

from contextlib import contextmanager

import torch

from qsmbids.core.dipole import dipole_kernel

AXES = (-3, -2, -1)


@contextmanager
def inference(device):
    """Compute without slopes; in bfloat16 on a GPU."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
        yield


def batch_volumes(batch, names, device):
    """Return volumes of a training batch by their names, each a float32 tensor of shape (batch, 1, nx, ny, nz)."""
    return {name: torch.from_numpy(batch[name])[:, None].to(device).float() for name in names}


def convolve(volume, kernel):
    """Return the periodic convolution of volumes with a kernel that is given as a half spectrum; float32."""
    spectrum = torch.fft.rfftn(volume.float(), dim=AXES) * kernel
    return torch.fft.irfftn(spectrum, s=volume.shape[2:], dim=AXES)


def dipole_kernels(size, voxel_sizes, b0_dirs, device=None):
    """Return the kernels of `core.dipole.dipole_kernel` of a batch, shape (batch, 1, nx, ny, nz // 2 + 1)."""
    kernels = [torch.from_numpy(dipole_kernel(size, voxel_size, b0_dir))
               for voxel_size, b0_dir in zip(voxel_sizes, b0_dirs)]
    return torch.stack(kernels)[:, None].to(device)


def gradient(volume):
    """Return the differences between neighbours along each axis, zero at the end of each: three volumes."""
    return [torch.diff(volume, dim=axis, append=volume.narrow(axis, -1, 1)) for axis in AXES]
