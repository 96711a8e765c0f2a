"""`python -m tledge` is `tledge`: what torchrun starts."""

from tledge.cli import main

main()
