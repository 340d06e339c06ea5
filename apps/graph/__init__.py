"""PageRank on a graph that lies in rack memory, in rounds: scatter, exchange, gather."""
