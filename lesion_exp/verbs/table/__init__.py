"""The verb `table`: the results of a sweep as a table for a paper."""
