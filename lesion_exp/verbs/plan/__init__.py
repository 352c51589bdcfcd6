"""The verb `plan`: writes a preset for a data set, this machine and a budget of time, with reasons."""
