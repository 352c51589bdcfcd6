"""What every verb does with a mistake of its user."""

from lesion_exp.cli import main


def assert_refused(capsys, arguments, said):
    """The command ends with 2 and one message that begins as all do and holds `said`; standard output stays empty."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "lesion-exp: expected" in shown.err
    assert "Traceback" not in shown.err
    assert said in shown.err
