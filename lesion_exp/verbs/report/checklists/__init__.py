"""Reporting checklists of medical image analysis, with answers from a run."""
