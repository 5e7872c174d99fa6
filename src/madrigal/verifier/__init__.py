"""A learned verifier: its data, its training, how far its scores can be believed, and a server for it.

What a verifier is to a task stands in `madrigal.tasks.discussion.verifier`; nothing there imports this.
"""
