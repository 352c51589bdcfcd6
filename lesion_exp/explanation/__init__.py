"""Where in an image the evidence for a class lies: a module a method, `explainer(network, images, targets) -> maps`."""
