"""`python -m madrigal`, for whatever starts modules: torchrun, debuggers, profilers."""

from madrigal.cli import main

if __name__ == "__main__":
    main()
