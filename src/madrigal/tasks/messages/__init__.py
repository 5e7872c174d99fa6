"""Tasks in which one agent knows what another one needs, and only a message can bring it over."""
