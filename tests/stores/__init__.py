"""What every store does beyond the contract, and each store by itself."""
