"""The sections of a sweep's page, a module each: from its cells to headings, sentences, tables and figures."""
