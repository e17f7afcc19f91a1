"""Removal of the background field; :data:`qsmbids.core.methods.BACKGROUND` lists the methods.

What sources outside the mask make inside it is harmonic there: its Laplacian is zero, its value equals its mean over
any ball. The methods share the signature ``method(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), **params) -> (local
field, mask)``.
"""
