"""A key-value state machine whose state is used where it lies: pages of rack memory read on demand, changed all or nothing."""
