"""One rank of the test of ``examples/ddp.py``: the example on a few digits, from weights that know them."""

from reference_loop import few_digits, fitted_network

from examples import ddp

if __name__ == "__main__":
    ddp.digits, ddp.network = few_digits, fitted_network
    ddp.main()
