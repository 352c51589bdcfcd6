"""The learning rate over a training: one module a scheduler, each of which returns a `schedule.Schedule`."""
