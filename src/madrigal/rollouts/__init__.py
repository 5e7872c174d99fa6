"""Play: tasks, topologies, episodes, trees of groups, rewards."""
