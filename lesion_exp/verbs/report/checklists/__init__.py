"""The reporting checklists of this field, and what a run answers of them."""
