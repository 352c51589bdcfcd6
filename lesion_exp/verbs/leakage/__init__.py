"""The leak meter: one config trained on a right split and on wrong ones, and what each mistake does to the score."""
