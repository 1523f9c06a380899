"""``python -m twin.wire``: a Panda on the loopback, for anybody's script."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from cell.config import load_cell, load_part, load_production
from cell.interfaces import CellError
from cell.setup import Order, Setup
from twin.wire.server import Server, Serving


def main() -> None:
    """Serve a Panda and its hand to clients that speak robot protocol 5, as panda-py 1.1.1, until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m twin.wire", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="another loopback address is another robot")
    parser.add_argument("--cell", default="twin", help="whose scene stands around the robot")
    parser.add_argument("--pace", type=float, default=1.0, help="the robot's time over wall time")
    options = parser.parse_args()
    try:
        order = Order(load_cell(options.cell), load_part("ring"), load_production("good"), range(0))
        with Server(Setup(order, None), Serving(options.host, options.pace)) as server, suppress(KeyboardInterrupt):
            print(f"A Panda listens on {options.host}; Ctrl-C ends it.", flush=True)
            while True:
                server.step()
    except CellError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
