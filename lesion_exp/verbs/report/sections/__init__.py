"""The sections of a run's page, a module each: from the facts of a run to headings, sentences, tables and figures."""
