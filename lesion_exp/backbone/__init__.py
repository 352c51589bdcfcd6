"""Images (and metadata) -> logits. `Backbone` is what the rest of the program knows of a network."""
