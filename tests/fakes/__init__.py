"""What the tests of several folders pretend with: tiny models, small tasks, scripted agents, run folders."""
