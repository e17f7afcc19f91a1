"""Digital heads, what a scanner makes of them, and BIDS data sets with their ground truth."""
