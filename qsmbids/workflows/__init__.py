"""Nipype workflows: one factory per scientific step, put together in :mod:`qsmbids.workflows.base`."""
