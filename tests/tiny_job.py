"""Fixtures: jobs of runs that train in seconds, all in one project folder."""

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from tests.tiny import TINY


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory):
    """A project folder for all runs of a session: making a store takes seconds."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="session")
def tiny_job(shared_root):
    """Makes a job of a run that trains in seconds."""

    def make(*overrides, root=shared_root):
        return freeze(compose([*TINY, *overrides], root=root))

    return make
