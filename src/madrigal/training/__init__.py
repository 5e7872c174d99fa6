"""The training loop, what it saves, and how it goes on."""
