"""The verb `report`: HTML pages of runs and sweeps, made from stored results without the network or the data set."""
