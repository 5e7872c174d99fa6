"""Tasks in which several agents build one thing on a grid."""
