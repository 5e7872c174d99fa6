"""Tools that an agent may call within its turn: a calculator, a search, programs, own functions, MCP servers."""
