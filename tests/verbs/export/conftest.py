import pytest

from tests.untrained_run import encoder, untrained_run


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project with a run of a network that was never trained, and its generated images; returns run and config."""
    from lesion_exp.training.data import load_data, split_data

    root = tmp_path_factory.mktemp("project")
    run, config = untrained_run(root)
    loaded = load_data(config)
    split = split_data(config, loaded)
    tags = {"split_hash": split.split_hash, "dataset_fingerprint": loaded.fingerprint}
    for name, text in tags.items():
        run.store.client.set_tag(run.run_id, name, text)
    with_metadata, _ = untrained_run(root, "backbone.metadata=concat", encoder=encoder(), name="with metadata")
    for name, text in tags.items():
        run.store.client.set_tag(with_metadata.run_id, name, text)
    return run, config, split, with_metadata
