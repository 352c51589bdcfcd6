"""What tests/conftest.py promises: tests do not depend on the shell in which they are started."""

import os

from lesion_exp.config.data_folder import settings_file


def test_neither_the_shell_nor_a_file_of_the_user_names_data(request, monkeypatch, tmp_path):
    monkeypatch.setenv("LESION_EXP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings_file().parent.mkdir()
    settings_file().write_text(f"data: {tmp_path}\n")
    plugins = request.config.pluginmanager.get_plugins()
    every = [plugin for plugin in plugins if str(getattr(plugin, "__file__", "")).endswith("tests/conftest.py")]
    assert len(every) == 1
    every[0].pytest_runtest_setup(request.node)
    assert "LESION_EXP_DATA" not in os.environ
    assert not settings_file().exists()
