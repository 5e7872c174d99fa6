"""`python -m madrigal`, for whatever starts modules: torchrun, debuggers, profilers."""

from madrigal.cli import main

main()
