"""The verb `resume`: goes on with a run that stopped, or trains one longer."""
