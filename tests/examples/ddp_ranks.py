"""One rank of the test of ``examples/ddp.py``: the example on a few digits, from weights that know them."""

from reference_loop import few_digits, few_others, fitted_network

from examples import ddp

if __name__ == "__main__":
    ddp.digits, ddp.held_out, ddp.network = few_digits, lambda: few_others(96), fitted_network
    ddp.main()
