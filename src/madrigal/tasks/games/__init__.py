"""Two-player zero-sum games over text: rules in one file each, and one way to play them all."""
