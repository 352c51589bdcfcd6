"""Saliency maps: how much each pixel of an image contributes to the score of a class.

Each method has a module with a class whose objects are called as `explainer(network, images, targets)`.
"""
