"""The sections of a run's page, made of headings, sentences, tables and figures from the results of the run."""
