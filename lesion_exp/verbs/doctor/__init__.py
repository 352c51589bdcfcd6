"""The verb `doctor`: examines installation, machine, folders and store before an expensive run."""
