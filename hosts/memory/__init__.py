"""A memory element: pages, its own page table (the second enforcement), and the agent that serves them."""
