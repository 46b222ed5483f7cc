"""`python -m assaymark.cli`."""

from assaymark.cli.main import main

main()
