"""An adapter alone, as the two matrices of each weight, for other programs; with a receipt, as all that leaves."""
