"""``python -m daskgd.cli``."""

from daskgd.cli import main

if __name__ == "__main__":
    main(prog_name="daskgd")
