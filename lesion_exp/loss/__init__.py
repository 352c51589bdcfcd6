"""Losses, one in each module. `base` has their base class and the class weights, `validation_loss` says what changes
`val/loss`."""
