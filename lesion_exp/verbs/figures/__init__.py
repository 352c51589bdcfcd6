"""The verb `figures`: the figures of a run in any format, drawn from its predictions."""
