"""`python -m cpt.cli`."""

from cpt.cli.app import main

main()
