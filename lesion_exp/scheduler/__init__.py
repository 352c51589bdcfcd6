"""Learning-rate schedulers, one in each module; each is a function that returns a `schedule.Schedule`."""
