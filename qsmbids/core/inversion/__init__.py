"""From the local field to the susceptibility; :data:`qsmbids.core.methods.INVERSION` lists the methods.

They share the signature ``method(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), **params) -> chi``.
"""
