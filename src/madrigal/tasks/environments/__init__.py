"""Environments of other libraries as tasks: PettingZoo, TextArena, verifiers; each package is imported in one file.

Such an environment is an object that remembers; a task does not. `replay` stands between them.
"""
